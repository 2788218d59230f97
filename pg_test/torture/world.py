"""What the actors share: the sources, the roles and segments, where the server is, and what has been
done to them, so far as others have to know it.
"""
from __future__ import annotations

import itertools
import json
import os
import random
import re
import threading
import uuid
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from checks import Connection, Row, value
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from psycopg.types.json import Jsonb, set_json_loads
from unusual import LEFT_OUT, can_be_set, settings, values_of

set_json_loads(lambda text: json.loads(text, parse_float=Decimal))
# Python knows no infinity, and no date and interval in the styles of all sessions.
for type_name in ("timestamp", "timestamptz", "date", "interval"):
    psycopg.adapters.register_loader(type_name, TextLoader)

PEOPLE, CITIES = 1500, 12
# The consumer of alerts.
ALERTED = "alerted"
COLUMNS = ("hash_email", "hash_phone", "city", "spent")
# What any statement may fail with: it met somebody's lock, or gave way to somebody.
CROSSED = {"55P03", "57014", "40001", "40P01"}

# PostgreSQL's own (XX000), where a statement looks at a table whose publication is dropped meanwhile.
PUBLICATION_GONE = "cache lookup failed for publication"


def literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


# --- Sets of service relations --------------------------------------------------------

class Set:
    """A set of service relations by the mart's name, and the schema where its segment tables are."""

    def __init__(self, cfg_table: str = "segmenter", log_table: str | None = None, home: str = "one", database: str | None = None) -> None:
        # No database: the world's, which is another one after a restore.
        self.cfg_table, self.home, self.database = cfg_table, home, database
        self.names = {"mart": cfg_table, "home": home, **{
            word: f"{cfg_table}_{word}" for word in ("segments", "consumers", "subscriptions", "log", "outbox", "deliveries", "handovers", "alerts", "alert_states", "state", "attempts", "definitions", "status")}}
        self.names["log"] = log_table or self.names["log"]

    @property
    def is_default(self) -> bool:
        return self.cfg_table == "segmenter"

    def __call__(self, query: str) -> str:
        """A statement about this set: {segments}, {log}, {home} … are filled in."""
        for word, name in self.names.items():
            query = query.replace("{" + word + "}", name)
        return query

    def __str__(self) -> str:
        return self.cfg_table + (f" of {self.database}" if self.database else "")


# --- Segments -------------------------------------------------------------------------

# name: owner, table, whether it keeps history, how it is refreshed.
SEGMENTS: dict[str, tuple[str, str, bool, str]] = {
    "latest": ("anna", "latest", False, "query"),
    "history": ("boris", "history", True, "query"),
    "shared 1": ("anna", "shared", False, "query"),
    "shared 2": ("boris", "shared", False, "query"),
    "kept 1": ("anna", "kept", True, "query"),
    "kept 2": ("boris", "kept", True, "dated"),
    "called": ("anna", "called", False, "procedure"),
    "watching": ("boris", "watching", True, "watching"),
    "watching too": ("anna", "watching_too", False, "watching"),
    # It watches a partition, which others write to through its parents.
    "watching a part": ("anna", "watching_a_part", False, "watching a part"),
    "dated": ("anna", "dated", False, "dated"),
    # Segments that read a segment, and one that reads one of these through a view.
    "reading": ("boris", "reading", False, "reading"),
    "reading through": ("anna", "reading_through", False, "reading through"),
    "edited": ("anna", "edited", False, "query"),
    "edited, kept": ("boris", "edited_kept", True, "query"),
    # Whose members others leave out; see lists.py.
    "stopped": ("anna", "stopped", False, "query"),
    "blocked": ("boris", "blocked", True, "query"),
    # Whose config row is not valid for a while, now and then; nobody else changes that.
    "odd": ("anna", "odd", False, "query"),
    # Families, and segments of them. (There are rows for others, too.)
    "towns": ("anna", "towns", False, "family"),
    **{f"town {place}": ("anna", "towns", False, "of towns") for place in range(3)},
    "places": ("boris", "places", True, "watching family"),
    **{f"place {place}": ("boris", "places", True, "of places") for place in range(3)},
}
# The families, each with what the names of its segments begin with.
FAMILIES = {"towns": "town", "places": "place"}
# Names of these, as a pattern.
OF_FAMILIES = "town|place"
# Tables of several segments.
SHARED = {table for _, table, _, _ in SEGMENTS.values() if len([one for one in SEGMENTS.values() if one[1] == table]) > 1}
# Which of them are read by others, and those that read them.
READ = {"history": "reading", "reading": "reading through"}
LISTS = ("stopped", "blocked")
# Those that may share no members, in an order that changes.
GROUP = ("latest", "edited", "called")
# Roles that own segments, as the consumers list them.
SUBSCRIBERS = ["anna", "boris"]
# Roles that own nothing: they call what they may as members of owners' roles.
CALLERS = ("carla", "dora")
# The role that must not notice what a hostile one does; see hostile.py.
VICTIM, HOSTILE = "victor", "mallory"
ROLES = ("anna", "boris", "crm", "loader", *CALLERS)
# Those who are members of owners' roles for a moment, so that a right may be gone in the midst of anything.
MEMBERS = ("anna", "boris", *CALLERS)
# name: how it is served, whether it gives up soon
CONSUMERS: dict[str, Row] = {
    "mail": {"max_attempts": 50},
    "ads": {"max_attempts": 3},
    "push": {"updater": {"function": {"name": "shop.push(jsonb)"}}, "max_attempts": 1000},
}
PULLING = ("mail", "ads")
# The victim's own consumers: it is called, it fetches.
CALLED, FETCHED = "called victim", "fetching victim"
# How the server's log begins what the hostile role's SQL has found out.
LOOT = "loot: "

SOURCES = """
create extension if not exists segmenter;
create schema shop;
create table shop.people (
    id int primary key, email text, phone text, city int not null, spent numeric(10, 2) not null,
    is_left boolean not null default false, updated_at timestamptz not null default now()
);
create index on shop.people (updated_at);
create table shop.orders (customer_id int, amount int not null);
alter table shop.orders replica identity full;
create index on shop.orders (customer_id);
create table shop.visits (customer_id int not null, place int not null, stars int not null) partition by list (place);
create table shop.visits_near partition of shop.visits for values in (0, 1);
create table shop.visits_far partition of shop.visits for values in (2, 3) partition by range (stars);
create table shop.visits_bad partition of shop.visits_far for values from (minvalue) to (50);
create table shop.visits_good partition of shop.visits_far for values from (50) to (maxvalue);
create index on shop.visits (customer_id);
alter table shop.visits_near replica identity full;
alter table shop.visits_bad replica identity full;
alter table shop.visits_good replica identity full;
insert into shop.visits select g, g % 4, g % 100 from generate_series(1, 2000) g;
create table shop.gone (id int, at timestamptz not null default now());
create index on shop.gone (at);
create function shop.gone() returns trigger language plpgsql as $$
begin
    insert into shop.gone values (old.id);
    return null;
end
$$;
create trigger gone after delete on shop.people for each row execute function shop.gone();
-- What other queries read, which is broken for a while now and then; see house.py.
create view shop.vip as select id from shop.people where spent % 3 < 2;
-- With policies, by which owners see more of it or less; see hands.py.
create table shop.club (id int primary key, tier int not null);
insert into shop.club select g, g % 4 from generate_series(1, 3000) g where g % 7 <> 1;
create function shop.fail() returns int language plpgsql as $$ begin raise 'shop.vip is broken'; end $$;
-- What the consumer that is called has got: once, or not at all.
create table shop.received (
    place bigint generated always as identity, subscription_id uuid, message_id bigint, message jsonb not null,
    primary key (subscription_id, message_id)
);
create function shop.push(message jsonb) returns jsonb language plpgsql as $$
begin
    if random() < 0.03 then raise 'not now'; end if;
    insert into shop.received (subscription_id, message_id, message)
    values ((message #>> '{audience,subscription_id}')::uuid, (message ->> 'message_id')::bigint, message);
    -- What is no receipt is an answer all the same.
    if random() < 0.03 then
        return (array['[]', '7', 'null', '{"num_received": -1}', '{"external_id": []}', '{"coverage": 1e300}']::jsonb[])[1 + floor(random() * 6)];
    end if;
    return jsonb_build_object('external_id', message #>> '{audience,subscription_id}');
end
$$;
grant usage on schema shop to anna, boris, crm, loader;
grant select on shop.people, shop.orders, shop.gone, shop.vip, shop.club, shop.visits, shop.visits_good to anna, boris;
grant select, insert, update, delete, truncate on shop.people, shop.orders, shop.gone, shop.visits, shop.visits_good, shop.visits_far to loader;
grant select, insert on shop.received to crm;
"""
# What is written through the parents of a watched partition is captured where these are watched, too.
WATCH = ("select segmenter_watch('shop.people'), segmenter_watch('shop.orders', 'customer_id'), segmenter_watch('shop.visits', 'customer_id'),"
         " segmenter_watch('shop.visits_far', 'customer_id'), segmenter_watch('shop.visits_good', 'customer_id')")
HOME = """
create schema {home};
grant usage, create on schema {home} to anna, boris;
grant usage on schema {home} to crm, loader, carla, dora;
create table {home}.base (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), city int, spent numeric(10, 2), note text default 'ours'
);
create procedure {home}.fill(segment uuid, query text) language plpgsql as $$
begin
    delete from {home}.called;
    execute 'insert into {home}.called (segment_id, id, hash_email, hash_phone, city, spent) select $1, q.* from (' || query || ') q' using segment;
end
$$;
alter default privileges for role anna in schema {home} grant select, insert, update, delete on tables to boris;
alter default privileges for role boris in schema {home} grant select, insert, update, delete on tables to anna;
"""


# Conditions that are others under other settings: those of the owner's own session decide.
TRICKY = (
    "p.email ~ '^[a-z]?\\d'",
    "(p.phone = null) is not true",
    "extract(month from (1 + p.id % 9 || '/02/2024')::date) < 7",
    "(p.spent / 3)::float8::text !~ '33333$'",
    "to_tsvector('running shoe' || left('s', p.id % 2)) @@ to_tsquery('shoe')",
    "current_setting('app.shift', true) is distinct from (p.id % 5)::text",
    "coalesce(nullif(current_setting('app.tenant', true), ''), '1') <> (p.id % 3)::text",
    "(timestamptz '2024-01-01 03:30+00' + p.id % 12 * interval '1 hour')::text ~ '2024-01-01 (0|11)'",
    "array_to_string(('{null,' || p.id % 3 || '}')::text[], '') <> '1'",
    "to_char(p.spent, 'L9G999D99') !~ '3'",
    "('p' || p.id)::bytea::text !~ '9$'",
)


def plain_query(dice: random.Random, how: str) -> str:
    """A segment's members, as anybody could ask for them."""
    cities = ", ".join(map(str, sorted(dice.sample(range(CITIES), dice.randint(2, 6)))))
    query = ("select p.id, md5(p.email) as hash_email, p.phone as hash_phone, p.city, p.spent from shop.people p"
             f" where not p.is_left and p.city in ({cities})")
    if dice.random() < 0.4:
        # (A procedure's call has it in quotes, where a backslash is the owner's settings' affair as well.)
        query += f" and {dice.choice([one for one in TRICKY if how != 'procedure' or chr(92) not in one])}"
    if how == "watching a part":
        query += f" and exists (select from shop.visits_good v where v.customer_id = p.id and v.stars > {dice.randint(50, 90)})"
    if how in ("query", "procedure") and dice.random() < 0.3:
        query += f" and exists (select from shop.{dice.choice(['vip', 'club'])} v where v.id = p.id)"
    return query


def with_orders(query: str, dice: random.Random) -> str:
    return f"{query} and exists (select from shop.orders o where o.customer_id = p.id and o.amount > {dice.randint(0, 60)})"


def make_query(dice: random.Random, how: str, of: Set) -> str:
    if how == "reading":
        return of("select h.id, h.hash_email, h.hash_phone, h.city, h.spent from {home}.history h where h.actual_end = 'infinity'")
    query = plain_query(dice, how)
    if how == "reading through":
        return of("select v.id, v.hash_email, v.hash_phone, v.city, v.spent from {home}.through v where v.city < 9")
    # Nobody keeps the time of an order.
    return query if how in ("dated", "watching a part") or dice.random() < 0.5 else with_orders(query, dice)


def with_segment(query: str, name: str) -> str:
    """The query of a family: with the name of the segment that each row is for."""
    return query.replace(" from shop.people p where", f", '{name} ' || p.city % 4 as segment from shop.people p where", 1)


def query_of_member(query: str, name: str) -> str:
    """What the query of a family gives for one of its segments."""
    return f"{query} and p.city % 4 = {name.split()[-1]}"


def refresher(how: str, query: str, id: uuid.UUID, of: Set) -> Row:
    """The refresh_params that make a segment what its query gives."""
    if how.startswith("of "):
        return {"family": how.removeprefix("of ")}
    if how == "family":
        return {"query": {"family": True, "sql": with_segment(query, FAMILIES["towns"])}}
    if how == "watching family":
        query = with_segment(query, FAMILIES["places"])
    changed = query.replace("from shop.people p where", "from shop.people p join changed on changed.id = p.id where")
    if how == "procedure":
        return {"procedure": {"sql": of(f"call {{home}}.fill({literal(id)}, {literal(query)})")}}
    if how == "watching":
        return {"incremental": {"watch": ["shop.people", {"table": "shop.orders", "id": "customer_id"}], "sql": changed}}
    if how == "watching family":
        return {"incremental": {"watch": ["shop.people", {"table": "shop.orders", "id": "customer_id"}], "sql": changed, "family": True}}
    if how == "watching a part":
        return {"incremental": {"watch": ["shop.people", {"table": "shop.visits_good", "id": "customer_id"}], "sql": changed}}
    if how == "dated":
        since = "select p.id from shop.people p where p.updated_at > $1 union all select g.id from shop.gone g where g.at > $1"
        return {"incremental": {"changed": since, "sql": changed, "full_cron": "@yearly"}}
    return {"query": {"sql": query}}


# What a session here does not set, beside what unusual.py leaves out.
NOT_SET = {
    "application_name": "is how sessions are told apart",
    "backtrace_functions": "fills the log",
    "deadlock_timeout": "has others wait",
    "lock_timeout": "has others wait",
    "restrict_nonsystem_relation_kind": "forbids the caller to read views",
    "row_security": "forbids the caller to read what has policies; see Refresher.under_settings",
    "search_path": "is where our names are found; see there",
    "session_replication_role": "is the caller's way not to be captured; see there",
    "hash_mem_multiplier": "is memory: hash tables are as large as it says",
    "synchronous_commit": "may lose what a session was told; see Actor.may_forget",
    "temp_buffers": "is memory",
    "track_activities": "hides the session",
    "work_mem": "is memory: hash tables are as large as it says",
}
# Names of groups of these: of logs, of plans that take long or processes that the workers need; geqo takes memory, and fails
# where a plan's costs are infinite.
NOT_SET_LIKE = ("geqo", "log_", "debug_", "trace_", "client_min", "jit", "parallel_", "max_parallel", "min_parallel", "force_parallel", "vacuum_cost")


def unusual_settings(db: Connection) -> list[tuple[str, str, str]]:
    """Settings with values that they may have, and the context that says who may set them."""
    found = []
    for setting in settings(db):
        name = setting["name"]
        if name not in LEFT_OUT | NOT_SET and not name.startswith(NOT_SET_LIKE):
            found += [(name, to, setting["context"]) for to in values_of(setting) if can_be_set(db, name, to)]
    db.execute("reset all")
    return found + [(f"app.{name}", to, "user") for name in ("shift", "tenant") for to in "01234"]


class World:
    def __init__(self, seed: int, minutes: float, settings: list[str]) -> None:
        self.seed, self.minutes, self.settings = seed, minutes, settings
        self.directory = Path(os.environ["PGHOST"])
        self.database, self.restored = "shop_0", 0
        self.sets = [Set()]
        # Another database of the server, in which there is the victim's segment only; see hostile.py.
        self.aside = Set(home="victor", database="aside")
        # One hostile role alone, and those that must not notice it; nobody kills.
        self.is_only_hostile = os.environ.get("HOSTILE") == "only"
        self.has_sets = False
        self.pausing, self.ended = threading.Event(), threading.Event()
        self.lock = threading.RLock()
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        # Subscriptions of which the log is shown in the end.
        self.suspects: list[uuid.UUID] = []
        # Processes that somebody here has ended the hard way, and how often the server went down.
        self.killed: set[int] = set()
        self.is_hard = False
        # When the scheduler or a process of the victim's was last disturbed on purpose, and how often all came to rest.
        self.disturbed_at, self.rests = 0.0, 0
        # A role's name at present, and what was spoilt on purpose: refreshes may fail of it.
        self.roles = {name: name for name in ROLES}
        self.broken: set[str] = set()
        self.ids = itertools.count(PEOPLE + 1)
        # Who was to be erased; and of whom it is known that they were, in each set.
        self.erased: set[str] = set()
        self.surely_erased: dict[str, set[str]] = defaultdict(set)
        # Members of history segments at moments when nothing went on: (set, segment) → (moment, members).
        self.snapshots: dict[tuple[str, uuid.UUID], list[tuple[Any, Row]]] = defaultdict(list)
        self.memory: dict[str, list[float]] = defaultdict(list)
        # The config row that was made invalid, in each set: its columns, with what was there.
        self.odd_rows: dict[str, dict[str, Any]] = defaultdict(dict)
        # Segments whose members were changed by hand since the last pause, in any set, and ever: their messages are not told
        # from the changes of their sources.
        self.edited: set[str] = set()
        self.ever_edited: set[str] = set()
        # Whether the owners' queries give other members now without any change that a watch sees.
        self.is_unseen = False
        # Settings with unusual values, and who may set them.
        self.unusual: list[tuple[str, str, str]] = []
        # Logs may be truncated at any moment, unless the caller wants to read them afterwards; and for each set, the
        # message of which the log may tell nothing, nor of those before it.
        self.forgets = os.environ.get("SEGMENTER_TORTURE_LOG") != "keep"
        self.forgotten: dict[str, int] = defaultdict(int)

    # The server

    @property
    def databases(self) -> str:
        """Those that the workers serve, as segmenter.databases lists them."""
        return f"{self.database}, {self.aside.database}"

    def connect(self, user: str = "postgres", name: str = "main", of: Set | None = None, database: str | None = None,
                settings: dict[str, str] | None = None) -> Connection:
        options = "-c lock_timeout=3s -c statement_timeout=30s -c client_min_messages=error"
        if of and not of.is_default:
            options += f" -c segmenter.cfg_table={of.cfg_table}"
        # What is set for the database is not for those who look.
        for setting, to in ({"datestyle": "ISO, MDY", "timezone": "UTC", "transform_null_equals": "off"} if settings is None else settings).items():
            options += f" -c {setting}=" + re.sub(r"([\\\s])", r"\\\1", to)
        db = psycopg.connect(
            dbname=database or (of and of.database) or self.database, user=self.roles.get(user, user), application_name=f"torture: {name}",
            options=options, autocommit=True, row_factory=dict_row, connect_timeout=20)
        db.prepare_threshold = 5
        return db

    def configure(self, setting: str, to: str) -> None:
        with self.connect(database="postgres") as db:
            db.execute(f"alter system set {setting} = {literal(to)}")  # type: ignore[call-overload]
            db.execute("select pg_reload_conf()")

    # The story

    def count(self, what: str, times: int = 1) -> None:
        with self.lock:
            self.counts[what] += times

    def fail(self, what: str) -> None:
        with self.lock:
            self.failures.append(what)
        self.ended.set()

    def edit(self, segment: str) -> None:
        """Its members are going to be changed by hand."""
        self.edited.add(segment)
        self.ever_edited.add(segment)

    # The beginning

    def set_up(self, dice: random.Random) -> None:
        with self.connect(database="postgres") as db:
            db.execute(f"create database {self.database}")  # type: ignore[call-overload]
            for role in ROLES:
                db.execute(f"create role {role} login")  # type: ignore[call-overload]
        with self.connect() as db:
            db.execute(SOURCES)
            db.execute(f"insert into shop.people select g, 'p' || g || '@example.org', nullif(g %% 5, 0)::text, g %% {CITIES}, g from generate_series(1, {PEOPLE}) g", [])  # type: ignore[call-overload]
            db.execute(f"insert into shop.orders select 1 + g %% {PEOPLE}, g %% 100 from generate_series(1, {PEOPLE * 2}) g", [])  # type: ignore[call-overload]
            self.has_sets = value(db, "select to_regproc('segmenter_init') is not null")
            self.unusual = unusual_settings(db)
            if self.has_sets:
                other = Set("two.seg", "two.journal", "two")
                db.execute(other("create schema {home}"))  # type: ignore[call-overload]
                db.execute("select segmenter_init(%s, %s)", [other.cfg_table, other.names["log"]])
                self.sets.append(other)
        for of in self.sets:
            with self.connect(of=of) as db:
                self.set_up_set(db, of, dice)

    def set_up_set(self, db: Connection, of: Set, dice: random.Random) -> None:
        db.execute(of(HOME.replace("create schema", "create schema if not exists")))  # type: ignore[call-overload]
        db.execute(WATCH)
        done, families = set(), {}
        for name, (owner, table, keeps, how) in SEGMENTS.items():
            if table not in done:
                done.add(table)
                key = "segment_id, id" if table in SHARED else "id"
                only = " where actual_end = 'infinity'" if keeps else ""
                db.execute(of(f"""
                    create table {{home}}.{table} (like {{home}}.base including defaults);
                    create unique index {table}_key on {{home}}.{table} ({key}){only};
                    alter table {{home}}.{table} owner to {owner};
                    grant select, insert, update, delete on {{home}}.{table} to anna, boris"""))  # type: ignore[call-overload]
                if name == "reading":
                    db.execute(of("create view {home}.through as select * from {home}.reading where actual_end = 'infinity'; grant select on {home}.through to anna, boris"))  # type: ignore[call-overload]
            id = uuid.UUID(int=dice.getrandbits(128))
            if how.startswith("of "):
                query = query_of_member(families[how.removeprefix("of ")], name)
            else:
                query = families[name] = make_query(dice, how, of)
            db.execute(of("""insert into {segments} (id, name, table_name, owner, context, refresh_auto, refresh_cron, refresh_params, guards)
                values (%s, %s, %s::regclass, %s::regrole, %s, %s, %s, %s, %s)"""), [  # type: ignore[call-overload]
                    id, name, of(f"{{home}}.{table}"), owner, query, dice.random() < 0.6, dice.choice([None, "1 second", "3 seconds"]),
                    Jsonb(refresher(how, query, id, of)), Jsonb({"allow_empty": True})])
        for name, params in CONSUMERS.items():
            db.execute(of("insert into {consumers} (name, role, subscribers, params) values (%s, 'crm', %s::regrole[], %s)"), [name, SUBSCRIBERS, Jsonb(params)])  # type: ignore[call-overload]
            for segment in dice.sample(list(SEGMENTS), 6):
                db.execute("select segmenter_subscribe(%s, %s, 'first')", [name, segment])
        # Each change is reported; what is read of it is in the outbox.
        db.execute(of("insert into {consumers} (name, role) values (%s, 'crm')"), [ALERTED])  # type: ignore[call-overload]
        db.execute("select segmenter_alert(%s, %s, 'crm')", [ALERTED, Jsonb({"on": ["failed", "refused", "waiting", "late", "size", "delivery", "definition"], "flapping": False})])
