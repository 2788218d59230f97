"""The benchmark: bench/run starts it.

    bench.py settings                            prints the settings that the cluster is to have
    bench.py run SOCKET OUTPUT [CASE …]          runs the cases, writes OUTPUT/results.md and OUTPUT/chart.svg
"""

import json
import os
import platform
import sys
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

import psycopg

import connectors
import exclusion
import families
import limit
import many
import scale
import shop
from measure import Server, median
from report import Panel, Table, chart, megabytes, ratio, seconds

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
MILLIONS = [float(size) for size in os.environ.get("BENCH_SIZES", "1 4 16").split()]
FSYNC = os.environ.get("BENCH_FSYNC", "off")
CUSTOMERS = max(int(4_000_000 * SCALE) // 10_000, 1) * 10_000

SETTINGS = {
    "shared_buffers": "4GB" if SCALE > 0.3 else "512MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "fsync": FSYNC,
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "on",
    "max_parallel_workers_per_gather": "2",
    "max_worker_processes": "16",
    "shared_preload_libraries": "segmenter",
}


class Bench:
    def __init__(self, socket):
        self.socket = socket
        postgres = Server(socket, "postgres")
        self.version = postgres.value("select version()")
        postgres.do("create database bench")
        self.server = Server(socket, "bench")
        self.server.do("create extension segmenter; create extension pg_walinspect; create schema shop")
        self.tables, self.panels, self.wrong = [], [], []
        self.number, self.expected = 0, {}
        say(f"loading {CUSTOMERS:,} customers")
        shop.load(self.server, "shop.customers", CUSTOMERS)

    # What the cases share.

    def change(self, step, customers="shop.customers"):
        self.number += 1
        self.expected.pop(customers, None)
        shop.change(self.server, customers, step, self.number)

    def same(self, what, members, customers="shop.customers"):
        """Whoever kept a copy must have what the query gives."""
        if customers not in self.expected:
            self.expected[customers] = shop.fingerprint(self.server, shop.query(customers))
        expected = self.expected[customers]
        found = shop.fingerprint(self.server, members)
        if expected != found:
            self.wrong.append(f"{what}: {found[0]:,} members, not the same as the {expected[0]:,} of the query")
            say(f"WRONG {self.wrong[-1]}")

    def refresh(self, name):
        """Measures a refresh, which must come through."""
        sample = self.server.measure(f"select status, detail from segmenter_refresh('{name}')")
        if sample.rows[0][0] != "ok":
            raise RuntimeError(f"segment {name}: {sample.rows[0]}")
        return sample

    def incremental(self, name, way, customers="shop.customers"):
        """Makes an incremental segment and loads it."""
        where = {"changed": f"select id from {customers} where updated_at > $1"}
        if way == "watch":
            self.server.do(f"select segmenter_watch('{customers}', 'id')")
            where = {"watch": [customers]}
        sql = (
            f"select c.id, c.hash_email, c.hash_phone from {customers} c"
            " join changed using (id) where c.spent >= 500"
        )
        params = json.dumps({"incremental": {**where, "sql": sql}})
        shop.segment(self.server, name, shop.query(customers), params=params)
        self.refresh(name)
        self.server.do(f"vacuum analyze shop.{name}")
        self.same(name, shop.members(name), customers)

    # The cases.

    def full(self):
        """A full refresh against its peers, one customer in a hundred changed."""
        server = self.server
        for peer in shop.FULL:
            peer.begin(server)
            if not peer.is_view:
                server.measure(peer.refresh)
            server.do(f"vacuum analyze {peer.table}")
        samples = {peer.title: [] for peer in shop.FULL}
        floor = []
        for turn in range(ROUNDS):
            self.change(100)
            peers = shop.FULL[turn % len(shop.FULL) :] + shop.FULL[: turn % len(shop.FULL)]
            floor += [server.measure(shop.floor()) for _ in range(2)]
            say(f"round {turn + 1} of {ROUNDS}")
            for peer in peers:
                samples[peer.title].append(server.measure(peer.refresh))
                self.same(peer.title, peer.members)
                server.do(f"vacuum {peer.table}")
        slowest = middle(samples["REFRESH MATERIALIZED VIEW CONCURRENTLY"])
        table = Table(
            f"Full refresh: {CUSTOMERS:,} customers, half of them members, 1 % of customers changed",
            ["", "time", "× bare query", "CONCURRENTLY takes ×", "memory, MB", "WAL, MB", "and whole pages, MB"],
        )
        table.rows.append(row("the bare query (floor)", floor, floor, slowest))
        for title, measured in samples.items():
            table.rows.append(row(title, measured, floor, slowest))
        self.tables.append(table)
        self.panels.append(
            Panel(
                "Full refresh, 1 % of customers changed",
                "times the bare query",
                [(title, middle(of) / middle(floor), "segmenter" in title) for title, of in samples.items()],
                low=1,
            )
        )

    def rates(self):
        """Incremental against full, by how much has changed."""
        server = self.server
        shop.segment(server, "full", shop.query())
        self.refresh("full")
        server.do("vacuum analyze shop.full")
        ways = ["changed", "watch"]
        for way in ways:
            self.incremental(f"by_{way}", way)
        names = ["full", *(f"by_{way}" for way in ways)]
        table = Table(
            f"Incremental against full refresh: {CUSTOMERS:,} customers",
            ["customers changed", "bare query", "full", "incremental, changed", "incremental, watch",
             "full / changed", "full / watch", "WAL full, MB", "WAL changed, MB"],
        )
        bars = []
        for step in (10_000, 1_000, 100, 10):
            samples = {name: [] for name in names}
            floor = []
            for turn in range(ROUNDS):
                self.change(step)
                floor.append(server.measure(shop.floor()))
                for name in rotated(names, turn):
                    samples[name].append(self.refresh(name))
                    self.same(name, shop.members(name))
                    server.do(f"vacuum shop.{name}")
            times = {name: middle(of) for name, of in samples.items()}
            changed, watch = times["by_changed"], times["by_watch"]
            table.rows.append(
                [f"{100 / step:g} % ({CUSTOMERS // step:,})", seconds(middle(floor)), seconds(times["full"]),
                 seconds(changed), seconds(watch), over(times["full"], changed), over(times["full"], watch),
                 wal(samples["full"]), wal(samples["by_changed"])]
            )
            bars.append((f"{100 / step:g} %: full", times["full"], False))
            bars += [(f"{100 / step:g} %: incremental, {way}", times[f"by_{way}"], True) for way in ways]
        self.tables.append(table)
        self.panels.append(Panel("Incremental and full refresh, by the share of customers changed", "seconds", bars))

    def sizes(self):
        """The same number of changes in segments of different sizes."""
        server = self.server
        sizes = [CUSTOMERS // 16, CUSTOMERS // 4, CUSTOMERS]
        changes = sizes[0] // 100
        table = Table(
            f"The same {changes:,} changed customers among more and more",
            ["customers", "bare query", "full", "incremental, changed", "full / changed"],
        )
        for place, size in enumerate(sizes):
            customers = "shop.customers" if size == CUSTOMERS else f"shop.customers_{place}"
            if size != CUSTOMERS:
                shop.load(server, customers, size)
            names = [f"size_{place}_full", f"size_{place}_changed"]
            shop.segment(server, names[0], shop.query(customers))
            self.refresh(names[0])
            self.incremental(names[1], "changed", customers)
            for name in names:
                server.do(f"vacuum analyze shop.{name}")
            samples, floor = {name: [] for name in names}, []
            for turn in range(ROUNDS):
                self.change(size // changes, customers)
                floor.append(server.measure(shop.floor(customers)))
                for name in rotated(names, turn):
                    samples[name].append(self.refresh(name))
                    self.same(name, shop.members(name), customers)
                    server.do(f"vacuum shop.{name}")
            full = middle(samples[names[0]])
            changed = middle(samples[names[1]])
            table.rows.append([f"{size:,}", seconds(middle(floor)), seconds(full), seconds(changed), over(full, changed)])
        self.tables.append(table)

    def capture(self):
        """What the capture of changes costs those who write."""
        server = self.server
        size = CUSTOMERS // 4
        shop.load(server, "shop.written", size)
        # Somebody has to want to know.
        self.incremental("of_written", "watch", "shop.written")
        was_on = True
        statements = {
            "UPDATE of 10 %": "update shop.written set spent = 1000 - spent where id % 10 = 0",
            "INSERT of 10 %": f"insert into shop.written select g, md5('e' || g), md5('p' || g), 500, now()"
            f" from generate_series({size + 1}, {size + size // 10}) g",
            "DELETE of these": f"delete from shop.written where id > {size}",
        }
        samples = {(what, is_on): [] for what in statements for is_on in (False, True)}
        for turn in range(2 * ROUNDS):
            for is_on in rotated([False, True], turn):
                if is_on != was_on:
                    function = "segmenter_watch" if is_on else "segmenter_unwatch"
                    server.do(f"select {function}('shop.written', 'id')")
                    was_on = is_on
                for what, statement in statements.items():
                    samples[what, is_on].append(server.measure(statement))
                    server.do("vacuum shop.written")
            # However that ends: what was captured is read.
            server.do("select count(*) from segmenter_refresh('of_written')")
        table = Table(
            f"Bulk writes to a table of {size:,} customers, with and without capture",
            ["", "without", "with", "with / without", "WAL without, MB", "WAL with, MB"],
        )
        for what in statements:
            off, on = samples[what, False], samples[what, True]
            table.rows.append([what, seconds(middle(off)), seconds(middle(on)), over(middle(on), middle(off)), wal(off), wal(on)])
        self.tables.append(table)

    def first(self):
        """The first load of a segment against INSERT … SELECT into the same table."""
        server = self.server
        table = Table(
            f"First load: {CUSTOMERS // 2:,} members into an empty segment table",
            ["", "time", "× bare query", "× INSERT", "memory, MB", "WAL, MB"],
        )
        for kind in ("latest", "history"):
            name = f"first_{kind}"
            shop.segment(server, name, shop.query(), history=kind == "history")
            segment = server.value(f"select id from segmenter_segments where name = '{name}'")
            insert = (
                f"insert into shop.{name} (segment_id, id, hash_email, hash_phone)"
                f" select '{segment}', id, hash_email, hash_phone from ({shop.query()}) q"
            )
            samples, floor = {"INSERT": [], "segmenter_refresh()": []}, []
            for turn in range(ROUNDS):
                floor.append(server.measure(shop.floor()))
                for way in rotated(list(samples), turn):
                    server.do(f"truncate shop.{name}")
                    samples[way].append(server.measure(insert) if way == "INSERT" else self.refresh(name))
                    self.same(f"{way} into {name}", shop.members(name))
            for way, measured in [("the bare query (floor)", floor), *samples.items()]:
                time_of = middle(measured)
                title = way if way.startswith("the") else f"{'INSERT … SELECT' if way == 'INSERT' else way}, {kind}"
                table.rows.append([title, seconds(time_of), over(time_of, middle(floor)), over(time_of, middle(samples["INSERT"])),
                                   megabytes(median([s.memory for s in measured])), wal(measured)])
            server.do(f"truncate shop.{name}")
        self.tables.append(table)

    def handover(self):
        """A new subscriber gets every member, against COPY of the same rows to a file."""
        server = self.server
        sql = "select id, hash_email, hash_phone from shop.customers where spent >= 750"
        shop.segment(server, "handed", sql)
        self.refresh("handed")
        server.do("vacuum analyze shop.handed")
        count = server.value("select count(*) from shop.handed")
        file = f"{self.socket}/copied"
        copy = f"copy (select id, hash_email, hash_phone from shop.handed where actual_end = 'infinity') to '{file}'"
        read = f"select count(id), count(hash_email), count(hash_phone) from shop.handed where actual_end = 'infinity'"
        samples = {"reading the members (floor)": [], "COPY to a file": [], "the first hand-over": []}
        for turn in range(ROUNDS):
            samples["reading the members (floor)"].append(server.measure(read))
            for way in rotated(["COPY to a file", "the first hand-over"], turn):
                if way == "COPY to a file":
                    samples[way].append(server.measure(copy))
                    continue
                server.do(f"select segmenter_subscribe('bench', 'handed', 'target {turn}')")
                sample = server.measure("select segment, status, messages from segmenter_run()")
                samples[way].append(sample)
                handed = server.value(
                    "select sum(members) from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id"
                    f" where u.target = 'target {turn}'"
                )
                if handed != count:
                    self.wrong.append(f"the hand-over: {handed} members, not {count}")
                server.do("vacuum analyze segmenter_outbox")
        base = middle(samples["COPY to a file"])
        table = Table(
            f"First hand-over of {count:,} members",
            ["", "time", "× COPY", "memory, MB", "WAL, MB"],
        )
        for title, measured in samples.items():
            table.rows.append([title, seconds(middle(measured)), over(middle(measured), base),
                               megabytes(median([s.memory for s in measured])), wal(measured)])
        self.tables.append(table)

    def many(self):
        tables, wrong = many.measure(self.socket, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    def exclusion(self):
        tables, wrong = exclusion.measure(self.socket, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    def limit(self):
        tables, wrong = limit.measure(self.socket, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    def families(self):
        tables, wrong = families.measure(self.socket, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    def scale(self):
        sizes = [max(int(millions * SCALE * 100), 2) * 10_000 for millions in MILLIONS]
        tables, wrong = scale.measure(self.socket, sizes, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    def connectors(self):
        tables, wrong = connectors.measure(self.socket, SCALE, ROUNDS, say)
        self.tables += tables
        self.wrong += wrong

    # What is told.

    def report(self, output, began):
        output = Path(output)
        settings = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items() if name != "shared_preload_libraries")
        lines = [
            "# What the benchmark measured",
            "",
            f"Written by `bench/run` on {datetime.now(timezone.utc):%Y-%m-%d}, `BENCH_SCALE={SCALE:g} BENCH_ROUNDS={ROUNDS}`,"
            f" in {(time.monotonic() - began) / 60:.0f} minutes.",
            "",
            f"- Machine: {machine()}",
            f"- {self.version.split(' on ')[0]}, Segmenter {self.server.value(EXTENSION)} ({revision()})",
            f"- {settings}; the rest as PostgreSQL has it",
            "- Times are medians; a checkpoint comes before each measurement, a vacuum of what was written after it.",
            "- Memory is the peak of what the backend and its parallel workers have of their own (RssAnon), together.",
            "",
        ]
        for table in self.tables:
            lines.append(table.markdown())
        if self.wrong:
            lines += ["### Wrong results", ""] + [f"- {wrong}" for wrong in self.wrong] + [""]
        (output / "results.md").write_text("\n".join(lines))
        if self.panels:
            title = f"Segmenter and its peers, {CUSTOMERS:,} customers, {os.cpu_count()} cores"
            (output / "chart.svg").write_text(chart(title, self.panels))
        print("\n".join(lines))
        say(f"written: {output}/results.md" + (f" and {output}/chart.svg" if self.panels else ""))


EXTENSION = "select extversion from pg_extension where extname = 'segmenter'"


def say(words):
    print(f"[{datetime.now():%H:%M:%S}] {words}", file=sys.stderr, flush=True)


def middle(samples):
    return median([sample.seconds for sample in samples])


def wal(samples):
    return megabytes(median([sample.wal for sample in samples]))


def over(value, base):
    return ratio(value / base) if base else "–"


def row(title, samples, floor, slowest):
    time_of = middle(samples)
    return [
        title,
        seconds(time_of),
        over(time_of, middle(floor)),
        over(slowest, time_of),
        megabytes(median([sample.memory for sample in samples])),
        wal(samples),
        megabytes(median([sample.images for sample in samples])),
    ]


def rotated(items, turn):
    turn %= len(items)
    return items[turn:] + items[:turn]


def machine():
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, Linux {platform.release()}"


def revision():
    head = os.popen(f"git -C {Path(__file__).parent} rev-parse --short HEAD 2>/dev/null").read().strip()
    return head or "no revision known"


CASES = {
    "refresh": Bench.full,
    "incremental": Bench.rates,
    "limit": Bench.limit,
    "sizes": Bench.sizes,
    "capture": Bench.capture,
    "load": Bench.first,
    "handover": Bench.handover,
    "many": Bench.many,
    "exclusion": Bench.exclusion,
    "families": Bench.families,
    "connectors": Bench.connectors,
    "scale": Bench.scale,
}


def main(arguments):
    if arguments == ["settings"]:
        for name, value in SETTINGS.items():
            print(f"{name} = '{value}'")
        return 0
    _, socket, output, *wanted = arguments
    unknown = [case for case in wanted if case not in CASES]
    if unknown:
        say(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
        return 2
    began = time.monotonic()
    bench = Bench(socket)
    for case in wanted or CASES:
        say(f"case {case}")
        try:
            CASES[case](bench)
        except Exception as error:  # The others are still worth knowing.
            traceback.print_exc()
            bench.wrong.append(f"case {case} came to no end: {error!r}")
    bench.report(output, began)
    return 1 if bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
