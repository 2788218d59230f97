"""What befalls sessions, workers and the server: statements cancelled, processes ended and killed, restarts, a dump
that is restored in another database.
"""
from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from actors import Actor, action
from checks import Connection, Row, must, rows, value, wait_for
from world import VICTIM, Set, World

ROOT = Path(__file__).resolve().parents[2]
WORKERS = "backend_type like 'segmenter %'"
# Neither ourselves, nor the sessions whose memory is watched.
ACTORS = "backend_type = 'client backend' and application_name like 'torture: %' and application_name !~ 'chaos|steady|main'"


class Chaos(Actor):
    rest = 1.5

    def __init__(self, world: World) -> None:
        super().__init__(world, Set(), "chaos")

    def victim(self, condition: str) -> int | None:
        found = self.some(f"select pid, usename, application_name, backend_type, left(query, 60) as query from pg_stat_activity where {condition} order by pid")
        if found:
            if found["backend_type"] in ("segmenter scheduler", "segmenter launcher") or found["backend_type"] == "segmenter worker" and found["usename"] == VICTIM:
                self.world.disturbed_at = time.monotonic()
            self.note(f"the victim: {dict(found)}")
        return found["pid"] if found else None

    @action(4)
    def cancel(self) -> None:
        if pid := self.victim(f"({ACTORS} or {WORKERS}) and state = 'active'"):
            self.value("select pg_cancel_backend(%s)", pid)

    @action(3)
    def terminate(self) -> None:
        if pid := self.victim(ACTORS):
            self.value("select pg_terminate_backend(%s)", pid)

    @action(2)
    def terminate_worker(self) -> None:
        if pid := self.victim("backend_type = 'segmenter worker'"):
            self.value("select pg_terminate_backend(%s)", pid)

    @action(0.5, is_hard=True)
    def terminate_scheduler(self) -> None:
        if pid := self.victim("backend_type in ('segmenter scheduler', 'segmenter launcher')"):
            self.value("select pg_terminate_backend(%s)", pid)

    @action(0.5, is_hard=True)
    def kill(self) -> None:
        self.kill_one(f"{ACTORS} or backend_type = 'autovacuum worker'")

    @action(0.5, is_hard=True)
    def kill_worker(self) -> None:
        self.kill_one(WORKERS)

    def kill_one(self, condition: str) -> None:
        """A process that ends like this takes all others with it; the server recovers."""
        if pid := self.victim(condition):
            self.world.killed.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.disconnect()
            self.come_back()

    @action(0.3, is_hard=True)
    def kill_server(self) -> None:
        kill_server(self.world)
        self.disconnect()
        self.come_back()

    @action(0.2, is_hard=True)
    def restart(self) -> None:
        self.disconnect()
        cluster(self.world, "stop")
        cluster(self.world, "start")
        self.come_back()

    def come_back(self) -> None:
        wait_for("the server", lambda: answers(self.world), 90)
        self.sleep(1)


def answers(world: World) -> bool:
    try:
        with world.connect(database="postgres", name="chaos") as db:
            return bool(value(db, "select not pg_is_in_recovery()"))
    except psycopg.OperationalError:
        return False


def cluster(world: World, command: str) -> None:
    settings = [*world.settings, f"segmenter.databases = '{world.databases}'"] if command == "start" else []
    done = subprocess.run([ROOT / "bin/cluster", command, world.directory.name, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    must(done.returncode == 0, f"the server: {command}", done.stderr)


def kill_server(world: World) -> None:
    """Without a word; its children end by themselves, and until then the data directory is taken."""
    postmaster = int((world.directory / "data/postmaster.pid").read_text().splitlines()[0])
    # It starts no more of them from now on.
    os.kill(postmaster, signal.SIGSTOP)
    children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
    world.killed.add(postmaster)
    os.kill(postmaster, signal.SIGKILL)
    wait_for("the end of the server's processes", lambda: not any(is_alive(int(pid)) for pid in [postmaster, *children]))
    (world.directory / "data/postmaster.pid").unlink(missing_ok=True)
    for socket in world.directory.glob(".s.PGSQL.*"):
        socket.unlink()
    cluster(world, "start")


def is_alive(pid: int) -> bool:
    """A process that nobody has waited for is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- Restore --------------------------------------------------------------------------

def contents(db: Connection, of: Set) -> list[str]:
    """All that a dump has to take along, in a few lines."""
    lines = [f"{name}: {value(db, of(f'select count(*) || chr(32) || coalesce(sum(hashtextextended(t::text, 0)), 0) from {{{name}}} t'))}"
             for name in ("subscriptions", "consumers", "log", "outbox", "deliveries", "handovers", "state") if value(db, "select to_regclass(%s) is not null", of.names[name])]
    lines.append(value(db, of("select 'segments: ' || coalesce(string_agg((to_jsonb(s) - 'table_name' - 'owner')::text || s.table_name::text || s.owner::text, ',' order by id), '') from {segments} s")))
    lines.append(value(db, of("""select 'mart: ' || count(*) || ' ' || coalesce(sum(hashtextextended(concat_ws('|', tableoid::regclass, segment_id, id, hash_email, hash_phone,
        actual_begin, actual_end, processed), 0)), 0) from {mart}""")))
    return lines


def sets(db: Connection, condition: str = "") -> list[Row]:
    return rows(db, f"select mart::text, owner_name from segmenter_registry {condition} order by 1")


def restore(world: World) -> None:
    """At a moment when nothing goes on: the copy holds the same, and is what all go on with."""
    old, new = world.database, f"shop_{world.restored + 1}"
    before = {}
    with world.connect() as db:
        whole = sets(db, "where segmenter_is_whole(mart)")
        broken = value(db, "select count(*) from segmenter_registry where not segmenter_is_whole(mart)")
    for of in world.sets:
        with world.connect(of=of) as db:
            before[of] = contents(db, of)
    with world.connect(database="postgres") as db:
        bin = Path(value(db, "select setting from pg_config where name = 'BINDIR'"))
        db.execute(f"create database {new}")  # type: ignore[call-overload]
    dump = subprocess.Popen([bin / "pg_dump", "-U", "postgres", old], stdout=subprocess.PIPE)
    done = subprocess.run([bin / "psql", "-X", "-q", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-d", new], stdin=dump.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    must(dump.wait() == 0 and done.returncode == 0, "dump and restore", done.stderr)
    world.database, world.restored = new, world.restored + 1
    with world.connect() as db:
        must(sets(db) == whole, "other sets than the whole ones were restored", whole, sets(db))
    world.count("broken sets that were not dumped", broken)
    for of in world.sets:
        with world.connect(of=of) as db:
            after = contents(db, of)
        different = [f"{a} → {b}" for a, b in zip(before[of], after) if a != b]
        must(not different, f"the restored copy of {of} is another", *different)
    for of in world.sets:
        with world.connect(of=of) as db:
            # A copy delivers nothing until it is told to: the other one may still do so.
            db.execute("select segmenter_resume_deliveries()")
            world.count("deliveries resumed in a copy")
    with world.connect(database="postgres") as db:
        db.execute(f"drop database {old} with (force)")  # type: ignore[call-overload]
    world.count("dumps restored")
