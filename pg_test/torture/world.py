"""What the actors share: the sources, the roles and segments, where the server is, and what has been
done to them, so far as others have to know it.
"""
from __future__ import annotations

import itertools
import json
import os
import random
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

set_json_loads(lambda text: json.loads(text, parse_float=Decimal))
# Python knows no infinity.
for type_name in ("timestamp", "timestamptz"):
    psycopg.adapters.register_loader(type_name, TextLoader)

PEOPLE, CITIES = 1500, 12
COLUMNS = ("hash_email", "hash_phone", "city", "spent")
# What any statement may fail with: it met somebody's lock, or gave way to somebody.
CROSSED = {"55P03", "57014", "40001", "40P01"}


def literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


# --- Sets of service relations --------------------------------------------------------

class Set:
    """A set of service relations by the mart's name, and the schema where its segment tables are."""

    def __init__(self, cfg_table: str = "segmenter", log_table: str | None = None, home: str = "one", database: str | None = None) -> None:
        # No database: the world's, which is another one after a restore.
        self.cfg_table, self.home, self.database = cfg_table, home, database
        self.names = {"mart": cfg_table, "home": home, **{
            word: f"{cfg_table}_{word}" for word in ("segments", "consumers", "subscriptions", "log", "outbox", "deliveries", "handovers", "state", "status")}}
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

# name: owner, table, whether it keeps history, how it is refreshed. What begins with "edited" is changed by hand, too.
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
    "dated": ("anna", "dated", False, "dated"),
    "reading": ("boris", "reading", False, "reading"),
    "edited": ("anna", "edited", False, "query"),
    "edited, kept": ("boris", "edited_kept", True, "query"),
}
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
create index on shop.orders (customer_id);
create table shop.gone (id int, at timestamptz not null default now());
create index on shop.gone (at);
create function shop.gone() returns trigger language plpgsql as $$
begin
    insert into shop.gone values (old.id);
    return null;
end
$$;
create trigger gone after delete on shop.people for each row execute function shop.gone();
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
    return jsonb_build_object('external_id', message #>> '{audience,subscription_id}');
end
$$;
grant usage on schema shop to anna, boris, crm, loader;
grant select on shop.people, shop.orders, shop.gone to anna, boris;
grant select, insert, update, delete, truncate on shop.people, shop.orders, shop.gone to loader;
grant select, insert on shop.received to crm;
"""
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


def plain_query(dice: random.Random) -> str:
    """A segment's members, as anybody could ask for them."""
    cities = ", ".join(map(str, sorted(dice.sample(range(CITIES), dice.randint(2, 6)))))
    query = ("select p.id, md5(p.email) as hash_email, p.phone as hash_phone, p.city, p.spent from shop.people p"
             f" where not p.is_left and p.city in ({cities})")
    return query


def with_orders(query: str, dice: random.Random) -> str:
    return f"{query} and exists (select from shop.orders o where o.customer_id = p.id and o.amount > {dice.randint(0, 60)})"


def make_query(dice: random.Random, how: str, of: Set) -> str:
    if how == "reading":
        return of("select h.id, h.hash_email, h.hash_phone, h.city, h.spent from {home}.history h where h.actual_end = 'infinity'")
    query = plain_query(dice)
    # Nobody keeps the time of an order.
    return query if how == "dated" or dice.random() < 0.5 else with_orders(query, dice)


def refresher(how: str, query: str, id: uuid.UUID, of: Set) -> Row:
    """The refresh_params that make a segment what its query gives."""
    changed = query.replace("from shop.people p where", "from shop.people p join changed on changed.id = p.id where")
    if how == "procedure":
        return {"procedure": {"sql": of(f"call {{home}}.fill({literal(id)}, {literal(query)})")}}
    if how == "watching":
        return {"incremental": {"watch": ["shop.people", {"table": "shop.orders", "id": "customer_id"}], "sql": changed}}
    if how == "dated":
        since = "select p.id from shop.people p where p.updated_at > $1 union all select g.id from shop.gone g where g.at > $1"
        return {"incremental": {"changed": since, "sql": changed}}
    return {"query": {"sql": query}}


def is_edited(segment: str) -> bool:
    """Whether members are changed by hand, too: then its messages are not told from the changes of its source."""
    return segment.startswith("edited")


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
        # Logs may be truncated at any moment, unless the caller wants to read them afterwards; and for each set, the
        # message of which the log may tell nothing, nor of those before it.
        self.forgets = os.environ.get("SEGMENTER_TORTURE_LOG") != "keep"
        self.forgotten: dict[str, int] = defaultdict(int)

    # The server

    @property
    def databases(self) -> str:
        """Those that the workers serve, as segmenter.databases lists them."""
        return f"{self.database}, {self.aside.database}"

    def connect(self, user: str = "postgres", name: str = "main", of: Set | None = None, database: str | None = None) -> Connection:
        options = "-c lock_timeout=3s -c statement_timeout=30s -c client_min_messages=error"
        if of and not of.is_default:
            options += f" -c segmenter.cfg_table={of.cfg_table}"
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
        db.execute("select segmenter_watch('shop.people'), segmenter_watch('shop.orders', 'customer_id')")
        done = set()
        for name, (owner, table, keeps, how) in SEGMENTS.items():
            if table not in done:
                done.add(table)
                shared = len([one for one in SEGMENTS.values() if one[1] == table]) > 1
                key = "segment_id, id" if shared else "id"
                only = " where actual_end = 'infinity'" if keeps else ""
                db.execute(of(f"""
                    create table {{home}}.{table} (like {{home}}.base including defaults);
                    create unique index {table}_key on {{home}}.{table} ({key}){only};
                    alter table {{home}}.{table} owner to {owner};
                    grant select, insert, update, delete on {{home}}.{table} to anna, boris"""))  # type: ignore[call-overload]
            id = uuid.UUID(int=dice.getrandbits(128))
            query = make_query(dice, how, of)
            db.execute(of("""insert into {segments} (id, name, table_name, owner, context, refresh_auto, refresh_cron, refresh_params, guards)
                values (%s, %s, %s::regclass, %s::regrole, %s, %s, %s, %s, %s)"""), [  # type: ignore[call-overload]
                    id, name, of(f"{{home}}.{table}"), owner, query, dice.random() < 0.6, dice.choice([None, "1 second", "3 seconds"]),
                    Jsonb(refresher(how, query, id, of)), Jsonb({"allow_empty": True})])
        for name, params in CONSUMERS.items():
            db.execute(of("insert into {consumers} (name, role, subscribers, params) values (%s, 'crm', %s::regrole[], %s)"), [name, SUBSCRIBERS, Jsonb(params)])  # type: ignore[call-overload]
            for segment in dice.sample(list(SEGMENTS), 6):
                db.execute("select segmenter_subscribe(%s, %s, 'first')", [name, segment])
