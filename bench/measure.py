"""Measuring one statement: how long it took, the memory of its processes, the WAL it wrote."""

import os
import statistics
import threading
import time
from dataclasses import dataclass

import psycopg


@dataclass
class Sample:
    seconds: float
    memory: int  # bytes: the peak of RssAnon over the backend and its parallel workers
    wal: int  # bytes of records, without images of whole pages
    images: int  # bytes of images of whole pages, which the first change after a checkpoint writes
    rows: list


def median(values):
    return statistics.median(values)


class Memory(threading.Thread):
    """Watches a backend and its parallel workers while it lives as a context."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self):
        look = 0
        family = [self.pid]
        while not self.over.wait(0.005):
            if look % 10 == 0:
                family = [self.pid, *workers_of(self.pid)]
            look += 1
            self.peak = max(self.peak, sum(map(anonymous, family)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.peak = max(self.peak, anonymous(self.pid))


def anonymous(pid):
    """A process's memory that is its own, in bytes."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def workers_of(pid):
    """The parallel workers of a backend, which PostgreSQL names after it."""
    wanted = f"parallel worker for PID {pid}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as line:
                    if wanted in line.read():
                        found.append(int(entry))
            except OSError:
                pass
    return found


def processor_time(pid):
    """Seconds of processor that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """A database of the cluster: one session to prepare things in, a new one for each measurement."""

    def __init__(self, socket, database):
        self.target = f"host={socket} port=5432 user=postgres dbname={database}"
        self.session = psycopg.connect(self.target, autocommit=True)
        self.do("set client_min_messages = error")

    def do(self, sql, *args):
        """Runs statements, gives the rows of the last."""
        cursor = self.session.execute(sql, args or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, sql, *args):
        return self.do(sql, *args)[0][0]

    def timed(self, sql):
        """Runs a statement in the session that prepares things: the processor time of its process, and its rows."""
        with open(f"/proc/{self.session.info.backend_pid}/schedstat") as stat:
            before = int(stat.read().split()[0])
            cursor = self.session.execute(sql)
            stat.seek(0)
            after = int(stat.read().split()[0])
        return (after - before) / 1e9, cursor.fetchall() if cursor.description else []

    def measure(self, sql, role=None, settings=()):
        """Runs statements in a new session, right after a checkpoint."""
        self.do("checkpoint")
        with psycopg.connect(self.target, autocommit=True) as session:
            session.execute("set client_min_messages = error")
            for setting in settings:
                session.execute(setting)
            if role:
                session.execute(f"set role {role}")
            before = self.value("select pg_current_wal_insert_lsn()")
            with Memory(session.info.backend_pid) as memory:
                begun = time.monotonic()
                cursor = session.execute(sql)
                seconds = time.monotonic() - begun
            after = self.value("select pg_current_wal_insert_lsn()")
            while cursor.nextset():
                pass
            rows = cursor.fetchall() if cursor.description else []
        wal, images = self.written(before, after)
        return Sample(seconds, memory.peak, wal, images, rows)

    def written(self, before, after):
        """The WAL between two places: records, and images of whole pages."""
        bytes_written = self.value("select pg_wal_lsn_diff(%s, %s)::bigint", after, before)
        if not bytes_written:
            return 0, 0
        try:
            return self.do(
                "select sum(record_size)::bigint, sum(fpi_size)::bigint"
                " from pg_get_wal_stats(%s, least(%s::pg_lsn, pg_current_wal_flush_lsn()))",
                before,
                after,
            )[0]
        except psycopg.Error:
            # Nothing was flushed: the little there is comes from PostgreSQL's own processes.
            return bytes_written, 0
