"""The checks of the cluster test incremental, which see.

    incremental.py rounds ROUNDS SEED   sessions take turns at random: the same ones for the same seed
    incremental.py bursts ROUNDS SEED   sessions write, refresh and prune all at once

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg
from checks import Connection, Row, Wrong, must, one
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

WRITERS = 4
IDS = 48
SCHEMA = """
create extension segmenter;
create schema shop;
create table shop.people (id int primary key, email text, updated_at timestamptz not null default now(), is_left boolean not null default false);
create index on shop.people (updated_at);
create table shop.orders (customer_id bigint, region int not null, amount int) partition by list (region);
create table shop.orders_1 partition of shop.orders for values in (1);
create table shop.orders_2 partition of shop.orders for values in (2) partition by list (region);
create table shop.orders_2_2 partition of shop.orders_2 for values in (2);
create table shop.orders_3 (amount int, region int not null, customer_id bigint);
alter table shop.orders attach partition shop.orders_3 for values in (3);

-- Those who are gone, for the segments that go by a time.
create table shop.gone (id int, at timestamptz not null default now());
create index on shop.gone (at);
create function shop.gone() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        insert into shop.gone select id, clock_timestamp() from shop.people;
    elsif tg_op = 'DELETE' or new.id <> old.id then
        insert into shop.gone values (old.id);
    end if;
    return null;
end
$$;
create trigger gone after delete or update on shop.people for each row execute function shop.gone();
create trigger gone_all before truncate on shop.people for each statement execute function shop.gone();

create table shop.base (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), total int
);
create table shop.latest (like shop.base including defaults, unique (id));
create table shop.history (like shop.base including defaults);
create unique index on shop.history (id) where actual_end = 'infinity';
create table shop.shared (like shop.base including defaults, unique (segment_id, id));
create table shop.shared_history (like shop.base including defaults);
create unique index on shop.shared_history (id, segment_id) where actual_end = 'infinity';
create table shop.control (like shop.base including defaults, unique (id));
insert into shop.people select g, 'e' || g from generate_series(1, 40) g;
insert into shop.orders select g % 40 + 1, g % 3 + 1, g from generate_series(1, 90) g;
select segmenter_watch('shop.people'), segmenter_watch('shop.orders', 'customer_id');
"""

PEOPLE = "select p.id, p.email as hash_email from shop.people p{join} where not p.is_left"
TOTALS = """select p.id, p.email as hash_email, t.total from shop.people p{join}
    left join lateral (select sum(o.amount)::int as total from shop.orders o where o.customer_id = p.id) t on true"""
BUYERS = "select o.customer_id as id, sum(o.amount)::int as total from shop.orders o{join} where o.customer_id is not null group by o.customer_id"
DATED = {"changed": "select p.id from shop.people p where p.updated_at > $1 union all select g.id from shop.gone g where g.at > $1"}
BOTH = {"watch": ["shop.people", {"table": "shop.orders", "id": "customer_id"}]}
ORDERS = {"watch": [{"table": "shop.orders", "id": "customer_id"}]}
# name: table, query, how it learns what has changed (not at all: the control)
SEGMENTS: dict[str, tuple[str, str, Row | None]] = {
    "dated": ("shop.latest", PEOPLE, DATED),
    "dated_history": ("shop.history", PEOPLE, DATED),
    "totals": ("shop.shared_history", TOTALS, BOTH),
    "totals_too": ("shop.shared", TOTALS, BOTH),
    "buyers": ("shop.shared", BUYERS, ORDERS),
    "control": ("shop.control", TOTALS, None),
}
INCREMENTAL = [name for name, (_, _, how) in SEGMENTS.items() if how]
WATCHED = ["totals", "totals_too", "buyers"]
# What a refresh between may fail with: its segment is busy, its captures are down, it met somebody's lock.
EXPECTED = ("is being refreshed", "not captured", "could not serialize", "lock timeout", "could not obtain lock", "took its snapshot",
            "after the snapshot of the refresh")


def connect() -> Connection:
    connection = psycopg.connect(dbname="shop", autocommit=True, row_factory=dict_row)
    connection.prepare_threshold = None
    # Whoever meets another's lock gives up: the sessions take turns.
    connection.execute("set client_min_messages = error; set lock_timeout = '20ms'")
    return connection


def params(name: str, version: int = 0) -> Row:
    _, query, how = SEGMENTS[name]
    note = f"/* {version} */ " if version else ""
    if how is None:
        return {"query": {"sql": note + query.format(join="")}}
    key = "o.customer_id = changed.id" if query == BUYERS else "p.id = changed.id"
    return {"incremental": how | {"sql": note + query.format(join=f" join changed on {key}")}}


def set_up() -> None:
    with connect() as db:
        # Once for both checks.
        if db.execute("select to_regclass('shop.people') is not null as is_there").fetchone()["is_there"]:  # type: ignore[index]
            return
        db.execute(SCHEMA)
        for name, (table, _, _) in SEGMENTS.items():
            db.execute(
                "insert into segmenter_segments (name, table_name, refresh_params, guards) values (%s, %s::regclass, %s, %s)",
                [name, table, Jsonb(params(name)), Jsonb({"allow_empty": True})],
            )


def oracle(db: Connection, name: str) -> None:
    """A segment's members are what its query gives, in every column, and the log has their number."""
    table, query, _ = SEGMENTS[name]
    columns = "hash_email" if query == PEOPLE else "total" if query == BUYERS else "hash_email, total"
    row = one(db, f"""
        with expected as (select q.id::text, {columns} from ({query.format(join="")}) q),
        actual as (
            select t.id::text, {columns} from {table} t
            where t.segment_id = (select id from segmenter_segments where name = '{name}') and t.actual_end = 'infinity'
        )
        select array(select e::text from (select * from expected except all select * from actual) e) as missing,
            array(select e::text from (select * from actual except all select * from expected) e) as extra,
            (select count(*) from actual) as members,
            (select coverage from segmenter_log where segment_name = '{name}' and action = 'refresh' and status = 'ok' order by id desc limit 1) as logged
        """)
    if row["missing"] or row["extra"]:
        log = db.execute("""select id, status, added, removed, changed, coverage, message, params -> 'incremental' as i
            from segmenter_log where segment_name = %s order by id desc limit 4""", [name]).fetchall()
        raise Wrong(f"{name}: missing {row['missing'][:5]}, extra {row['extra'][:5]}\n  " + "\n  ".join(map(str, log)))
    must(row["members"] == row["logged"], f"{name}: the coverage logged is not the number of members", row)


def check(db: Connection, name: str, full: bool) -> None:
    """Refreshes a segment when all is committed, and looks at it; a full pass then finds nothing missed."""
    row = one(db, "select * from segmenter_refresh(%s)", name)
    must(row["status"] == "ok", f"{name} was not refreshed", row)
    oracle(db, name)
    if full and name in INCREMENTAL:
        row = one(db, "select * from segmenter_refresh(%s, full => true)", name)
        log = one(db, "select params -> 'incremental' as i from segmenter_log where segment_name = %s order by id desc limit 1", name)
        must(row["status"] == "ok" and not log["i"].get("missed"), f"{name}: a full pass found what had been missed", row, log)
        must((row["added"], row["removed"], row["changed"]) == (0, 0, 0), f"{name}: a full pass changed something", row)
        oracle(db, name)


# --- Writers --------------------------------------------------------------------------


def write(db: Connection, dice: random.Random, number: int) -> str:
    """One statement on rows of the writer's own, so that nobody has to wait."""
    def own() -> int:
        return dice.randrange(IDS // WRITERS) * WRITERS + number

    at = dice.choice(["now()", "clock_timestamp()", "default"])
    a, b, region, amount, word = own(), own(), dice.randint(1, 3), dice.randint(1, 99), f"w{dice.randrange(1000)}"
    mine = f"customer_id % {WRITERS} = {number}"
    some = f"id in ({a}, {b})"
    upsert = f"insert into shop.people values ({a}, '{word}', {at}) on conflict (id)"
    statements: dict[str, tuple[int, str]] = {
        "insert": (4, f"{upsert} do nothing"),
        "upsert": (4, f"{upsert} do update set email = excluded.email, updated_at = excluded.updated_at"),
        "update": (6, f"update shop.people set email = '{word}', updated_at = {at} where {some}"),
        "no change": (1, f"update shop.people set email = email, updated_at = {at} where {some}"),
        "leave": (3, f"update shop.people set is_left = not is_left, updated_at = {at} where id = {a}"),
        "id": (3, f"update shop.people set id = {b}, updated_at = {at} where id = {a} and not exists (select from shop.people where id = {b})"),
        "delete": (3, f"delete from shop.people where {some}"),
        "merge": (3, f"""merge into shop.people p using (values ({a}, 1), ({b}, 2)) v (id, n) on p.id = v.id and v.id <> {a if a == b else -1}
            when matched and v.n = 1 then update set email = '{word}', updated_at = now()
            when matched then delete
            when not matched and v.n = 1 and not exists (select from shop.people x where x.id = v.id) then insert values (v.id, '{word}')
            when not matched then do nothing"""),
        "truncate": (1, "truncate shop.people"),
        "with": (2, f"""with d as (delete from shop.people where id = {a} returning id)
            insert into shop.orders select d.id, {region}, {amount} from d"""),
        "order": (5, f"insert into shop.orders values ({a}, {region}, {amount}), ({b}, {region}, 1)"),
        "part": (3, f"insert into shop.orders_2 values ({a}, 2, {amount})"),
        "part's part": (2, f"update shop.orders_2_2 set amount = {amount} where {mine} and amount < 30"),
        "amount": (4, f"update shop.orders set amount = amount + 1 where customer_id = {a}"),
        "customer": (3, f"update shop.orders set customer_id = {b} where customer_id = {a}"),
        "nobody": (1, f"update shop.orders set customer_id = null where customer_id = {a} and amount > 50"),
        "region": (3, f"update shop.orders set region = region % 3 + 1, customer_id = {b} where customer_id = {a}"),
        "unorder": (3, f"delete from shop.orders where {mine} and amount > {amount}"),
        "merge orders": (2, f"""merge into shop.orders o using (values ({a}::bigint)) v (id) on o.customer_id = v.id
            when matched and o.amount > 50 then delete
            when matched then update set amount = {amount}, region = o.region % 3 + 1
            when not matched then insert values (v.id, {region}, {amount})"""),
        "truncate part": (1, dice.choice(["truncate shop.orders_1", "truncate shop.orders_2", "truncate shop.orders"])),
        "copy": (3, ""),
    }
    kind = dice.choices(list(statements), [weight for weight, _ in statements.values()])[0]
    if kind == "copy":
        with db.cursor().copy("copy shop.orders (customer_id, region, amount) from stdin") as copy:
            for _ in range(dice.randint(1, 4)):
                copy.write_row((own(), dice.randint(1, 3), amount))
    else:
        db.execute(statements[kind][1])
    return kind


class Rounds:
    """Sessions that take turns, as dice say."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.open()
        # Refreshes that were committed so far: a writer that began before the last one commits late.
        self.refreshes = 0
        self.prepared: list[tuple[str, int]] = []
        self.version = 0

    def open(self) -> None:
        self.writers = [connect() for _ in range(WRITERS)]
        self.refreshers = [connect() for _ in range(2)]
        self.admin = connect()
        # When each writer's transaction wrote first, by the number of refreshes; none: it is in no transaction.
        self.since: list[int | None] = [None] * WRITERS
        self.refreshing: list[int] = [0] * len(self.refreshers)

    def attempt(self, db: Connection, action: Callable[[], object]) -> bool:
        """What another's lock, or a snapshot of before, may forbid."""
        try:
            action()
            return True
        except (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation) as error:
            self.counts[type(error).__name__] += 1
            db.execute("rollback")
            return False

    def refresh(self, db: Connection, name: str, arguments: str = "") -> bool:
        row = one(db, f"select * from segmenter_refresh('{name}'{arguments})")
        self.counts[f"refreshes {row['status']}"] += 1
        known = row["status"] in ("ok", "refused") or any(text in (row["detail"] or "") for text in EXPECTED)
        must(known, f"{name} was not refreshed", row)
        return bool(row["status"] == "ok" and "dry_run" not in arguments)

    def ask(self) -> str:
        """Arguments for a refresh."""
        kind = self.dice.choices(["", "dry", "full", "force", "query"], [20, 3, 1, 2, 1])[0]
        return {"": "", "dry": ", dry_run => true", "full": ", full => true", "force": ", force => true",
                "query": ", 'select id, email as hash_email from shop.people where id < 20'"}[kind]

    def writer(self) -> None:
        number = self.dice.randrange(WRITERS)
        db, since = self.writers[number], self.since[number]
        if since is None:
            level = self.dice.choices(["read committed", "repeatable read", "serializable"], [6, 1, 1])[0]
            db.execute(f"begin isolation level {level}")
            if self.dice.random() < 0.5:
                db.execute("select pg_current_snapshot()")
            self.since[number] = since = self.refreshes
        action = self.dice.choices(["write", "savepoint", "back", "refresh", "commit", "rollback", "prepare"], [14, 2, 1, 1, 5, 1, 1])[0]
        fine = True
        if action == "write":
            def step() -> None:
                self.counts[f"write: {write(db, self.dice, number)}"] += 1
            fine = self.attempt(db, step)
        elif action == "savepoint":
            db.execute("savepoint s")
        elif action == "back":
            fine = self.attempt(db, lambda: db.execute("savepoint t; rollback to t"))
        elif action == "refresh":
            # Its transaction goes on writing.
            fine = self.attempt(db, lambda: self.refresh(db, self.dice.choice(INCREMENTAL), self.ask()))
        elif action == "prepare" and len(self.prepared) < 2:
            gid = f"p{self.version}"
            self.version += 1
            if self.attempt(db, lambda: db.execute(f"prepare transaction '{gid}'")):
                self.prepared.append((gid, since))
            fine = False
        elif action in ("commit", "prepare"):
            if self.attempt(db, lambda: db.execute("commit")) and since < self.refreshes:
                self.counts["late commits"] += 1
            fine = False
        else:
            db.execute("rollback")
            fine = False
        if not fine:
            self.since[number] = None

    def savepoint(self) -> None:
        """What is written after a savepoint is taken back, or the savepoint is let go of."""
        number = self.dice.randrange(WRITERS)
        db = self.writers[number]
        if self.since[number] is None:
            return
        db.execute("savepoint s")
        if self.attempt(db, lambda: write(db, self.dice, number)):
            db.execute("rollback to s" if self.dice.random() < 0.5 else "release s")
            self.counts["savepoints"] += 1
        else:
            self.since[number] = None

    def refresher(self) -> None:
        number = self.dice.randrange(len(self.refreshers))
        db = self.refreshers[number]
        names = self.dice.sample(list(SEGMENTS), self.dice.randint(1, 3))
        if db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            if self.dice.random() < 0.7:
                self.refreshes += self.refresh(db, names[0], self.ask())
                return
            db.execute(f"begin isolation level {self.dice.choice(['read committed', 'read committed', 'repeatable read'])}")
        if self.dice.random() < 0.6:
            def step() -> None:
                self.refreshing[number] += sum([self.refresh(db, name, self.ask()) for name in names])
            self.attempt(db, step)
        elif self.dice.random() < 0.7:
            if self.attempt(db, lambda: db.execute("commit")):
                self.refreshes += self.refreshing[number]
            self.refreshing[number] = 0
        else:
            db.execute("rollback")
            self.counts["refreshes rolled back"] += self.refreshing[number]
            self.refreshing[number] = 0

    def administer(self) -> None:
        db, dice = self.admin, self.dice
        action = dice.choices(["prune", "config", "away", "guard", "unwatch", "watch", "disable", "partition", "finish prepared"], [8, 1, 1, 1, 1, 1, 1, 2, 4])[0]
        self.counts[f"admin: {action}"] += 1
        name = dice.choice(INCREMENTAL)
        source = dice.choice(["shop.people", "shop.orders", "shop.orders_1", "shop.orders_2_2", "shop.orders_3"])
        column = "id" if source == "shop.people" else "customer_id"
        configure = "update segmenter_segments set refresh_params = %s where name = %s"
        if action == "prune":
            db.execute("select segmenter_prune()")
        elif action == "config":
            self.version += 1
            self.attempt(db, lambda: db.execute(configure, [Jsonb(params(name, self.version)), name]))
        elif action == "away":
            # It does not watch, or is not there, while others are pruned.
            def away() -> None:
                db.execute(configure, [Jsonb(params("control")), name])
                self.quick_write()
                for other in INCREMENTAL:
                    if other != name:
                        self.refresh(db, other)
                db.execute("select segmenter_prune()")
            kept = one(db, "select refresh_params from segmenter_segments where name = %s", name)["refresh_params"]
            self.attempt(db, away)
            if not self.attempt(db, lambda: db.execute(configure, [Jsonb(kept), name])):
                # Whoever is in the way is at work in a transaction.
                self.end_all()
                db.execute(configure, [Jsonb(kept), name])
        elif action == "guard":
            guards = "update segmenter_segments set guards = %s where name = %s"
            def guard() -> None:
                db.execute(guards, [Jsonb({"max_removed": 0, "max_added": 0, "allow_empty": True}), name])
                self.refresh(db, name)
            self.attempt(db, guard)
            if not self.attempt(db, lambda: db.execute(guards, [Jsonb({"allow_empty": True}), name])):
                self.end_all()
                db.execute(guards, [Jsonb({"allow_empty": True}), name])
        elif action == "unwatch":
            self.attempt(db, lambda: db.execute(f"select segmenter_unwatch('{source}')"))
        elif action == "watch":
            self.attempt(db, lambda: db.execute(f"select segmenter_watch('{source}', '{column}')"))
        elif action == "disable":
            # In one transaction, or for others to write in between.
            is_one = dice.random() < 0.5
            def disable() -> None:
                if is_one:
                    db.execute("begin")
                db.execute(f"alter table {source} disable trigger user")
                self.quick_write()
                if dice.random() < 0.5:
                    db.execute(f"alter table {source} enable trigger user")
                    db.execute("set session_replication_role = replica")
                    self.quick_write()
                    db.execute("reset session_replication_role")
                db.execute(f"select segmenter_watch('{source}', '{column}')")
                db.execute("alter table shop.people enable trigger user" if source == "shop.people" else "select 1")
                db.execute("select segmenter_watch('shop.people')")
                if is_one:
                    db.execute("commit")
            # The tombstones are not to be disabled.
            if source != "shop.people":
                self.attempt(db, disable)
            db.execute("reset session_replication_role")
        elif action == "partition":
            self.attempt(db, self.partition)
        elif self.prepared:
            gid, since = self.prepared.pop(dice.randrange(len(self.prepared)))
            self.end_prepared(gid, since)

    def quick_write(self) -> None:
        """The admin writes too: orders only, of which nobody keeps a time."""
        self.admin.execute(f"insert into shop.orders values ({self.dice.randrange(IDS)}, {self.dice.randint(1, 3)}, 7)")
        self.admin.execute(f"update shop.orders set amount = amount + 100 where customer_id = {self.dice.randrange(IDS)}")

    def partition(self) -> None:
        """A partition is taken out, and written to, and brought back; or another one takes its place."""
        db, dice = self.admin, self.dice
        is_one = dice.random() < 0.5
        if is_one:
            db.execute("begin")
        db.execute("alter table shop.orders detach partition shop.orders_3")
        try:
            if not is_one and dice.random() < 0.5:
                self.refresh(db, dice.choice(WATCHED))
                db.execute("select segmenter_prune()")
            db.execute(f"insert into shop.orders_3 (customer_id, region, amount) values ({dice.randrange(IDS)}, 3, 5)")
            db.execute(f"delete from shop.orders_3 where customer_id = {dice.randrange(IDS)}")
            if dice.random() < 0.3:
                db.execute("drop table shop.orders_3; create table shop.orders_3 (customer_id bigint, amount int, region int not null)")
                db.execute(f"insert into shop.orders_3 (customer_id, region, amount) values ({dice.randrange(IDS)}, 3, 6)")
        finally:
            if db.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
                self.attach()
        if is_one:
            db.execute("commit")

    def attach(self) -> None:
        # Detached by ourselves: only a reader may be in the way, and soon is not.
        self.admin.execute("set lock_timeout = 0")
        if self.admin.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self.end_all()
        # This release takes triggers of statements for triggers of rows, and lets no table with one become a partition.
        if self.admin.info.server_version == 160002:
            self.admin.execute("select segmenter_unwatch('shop.orders_3')")
        self.admin.execute("alter table shop.orders attach partition shop.orders_3 for values in (3)")
        self.admin.execute("set lock_timeout = '20ms'")

    def end_prepared(self, gid: str, since: int) -> None:
        fate = self.dice.choice(["commit", "commit", "rollback"])
        self.admin.execute(f"{fate} prepared '{gid}'")
        self.counts["late commits"] += fate == "commit" and since < self.refreshes
        self.counts["prepared"] += 1

    def end_all(self) -> None:
        """Every transaction that is open is committed or rolled back, in any order."""
        order = [*range(WRITERS)]
        self.dice.shuffle(order)
        for number in order:
            since = self.since[number]
            if since is not None:
                fate = self.dice.choice(["commit", "commit", "rollback"])
                if self.attempt(self.writers[number], lambda: self.writers[number].execute(fate)):
                    self.counts["late commits"] += fate == "commit" and since < self.refreshes
                self.since[number] = None
        for number, db in enumerate(self.refreshers):
            db.execute(self.dice.choice(["commit", "rollback"]))
            self.refreshing[number] = 0
        while self.prepared:
            self.end_prepared(*self.prepared.pop())

    def crash(self) -> None:
        """A session is killed, and all others with it; what was prepared stays."""
        pid = self.dice.choice(self.writers).info.backend_pid
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while True:
            try:
                self.open()
                break
            except psycopg.OperationalError:
                must(time.monotonic() < end, "the server did not come back")
                time.sleep(0.05)
        self.counts["crashes"] += 1

    def round(self, is_last: bool) -> None:
        for _ in range(self.dice.randint(1, 6)):
            self.dice.choices([self.writer, self.savepoint, self.refresher, self.administer], [12, 1, 3, 2])[0]()
        if self.dice.random() < 0.003:
            self.crash()
        db, name = self.admin, self.dice.choice(INCREMENTAL)
        if is_last or self.dice.random() < 0.3:
            self.end_all()
            db.execute("select segmenter_watch('shop.people'), segmenter_watch('shop.orders', 'customer_id')")
            names = list(SEGMENTS) if is_last or self.dice.random() < 0.2 else self.dice.sample(list(SEGMENTS), 2)
            full = is_last or self.dice.random() < 0.2
            for name in names:
                check(db, name, full)
                self.refreshes += 1
        elif self.refresh(db, name):
            # Whatever is still open is seen by nobody.
            self.refreshes += 1
            oracle(db, name)


def rounds(count: int, seed: int) -> None:
    play = Rounds(seed)
    for number in range(count):
        try:
            play.round(number == count - 1)
        except Wrong as wrong:
            raise Wrong(f"round {number} of seed {seed}: {wrong}") from wrong
    tell(play.admin, f"{count} rounds, seed {seed}", play.counts)
    must(count < 100 or play.counts["late commits"], "nobody committed late")


def bursts(count: int, seed: int) -> None:
    """Sessions write, refresh and prune all at once, for as long as it takes to write so many times."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    errors: list[BaseException] = []

    def in_thread(body: Callable[[Connection, random.Random], None], seed: int) -> threading.Thread:
        def run() -> None:
            try:
                with connect() as db:
                    db.execute("set lock_timeout = '10s'")
                    body(db, random.Random(seed))
            except BaseException as error:
                errors.append(error)
        return threading.Thread(target=run)

    for number in range(count):
        stop = threading.Event()

        def writer(own: int) -> Callable[[Connection, random.Random], None]:
            def body(db: Connection, dice: random.Random) -> None:
                for step in range(60):
                    person = dice.randrange(IDS // WRITERS) * WRITERS + own
                    bump = f"update shop.people set email = 'b{step}', updated_at = now() where id = {person}"
                    order = f"insert into shop.orders values ({person}, 1, {step})"
                    kind = dice.randrange(5)
                    if kind == 0:
                        db.execute(bump)
                    elif kind == 1:
                        db.execute(order)
                    elif kind == 2:
                        db.execute(f"begin; {order}; {bump}; commit; begin; {bump}; commit")
                    elif kind == 3:
                        db.execute(f"insert into shop.people values ({person}, 'i') on conflict (id) do update set email = 'u{step}', updated_at = now()")
                    else:
                        db.execute("begin")
                        db.execute(f"{bump}; {order}")
                        time.sleep(dice.random() * 0.01)
                        db.execute(dice.choice(["commit", "commit", "rollback"]))
            return body

        def refresher(db: Connection, dice: random.Random) -> None:
            while not stop.is_set():
                row = one(db, "select * from segmenter_refresh(%s)", dice.choice(INCREMENTAL))
                counts[f"refreshes {row['status']}"] += 1
                known = row["status"] == "ok" or any(text in (row["detail"] or "") for text in EXPECTED)
                must(known, "a segment was not refreshed", row)

        def pruner(db: Connection, dice: random.Random) -> None:
            while not stop.wait(0.005):
                db.execute("select segmenter_prune()")

        writers = [in_thread(writer(own), dice.randrange(2**32)) for own in range(WRITERS)]
        others = [in_thread(body, dice.randrange(2**32)) for body in (refresher, refresher, pruner)]
        for thread in writers + others:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in others:
            thread.join()
        if errors:
            raise errors[0]
        with connect() as db:
            for name in SEGMENTS:
                try:
                    check(db, name, True)
                except Wrong as wrong:
                    raise Wrong(f"burst {number} of seed {seed}: {wrong}") from wrong
    with connect() as db:
        tell(db, f"{count} bursts, seed {seed}", counts)


def tell(db: Connection, what: str, counts: Counter[str]) -> None:
    passes = db.execute("""
        select coalesce(params #>> '{incremental,reason}', params #>> '{incremental,pass}') as pass, count(*)
        from segmenter_log where action = 'refresh' and status = 'ok' and params ? 'incremental' group by 1 order by 2 desc
        """).fetchall()
    print(f"{what}:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print("passes:", ", ".join(f"{row['pass']} {row['count']}" for row in passes), flush=True)


def main() -> int:
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    began = time.monotonic()
    try:
        set_up()
        {"rounds": rounds, "bursts": bursts}[kind](count, seed)
    except Wrong as wrong:
        print(f"not ok {kind}: {wrong}", flush=True)
        return 1
    print(f"ok {kind} {count}, seed {seed}, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
