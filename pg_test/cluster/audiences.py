"""The checks of the cluster test audiences, which see.

    audiences.py model ROUNDS SEED                         random actions, compared with a model of everything
    audiences.py pullers ROUNDS SEED DIRECTORY [SETTING …] examples/puller.py, killed at random, as the server is,
                                                           which gets the settings again

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from audience import Audience, Canonical, Fault, canonical
from checks import Connection, Row, Wrong, kill_server, must, must_equal, wait_for
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb, set_json_loads

set_json_loads(lambda text: json.loads(text, parse_float=Decimal))

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "shop"


def connect(user: str = "postgres", database: str = DATABASE) -> Connection:
    connection = psycopg.connect(dbname=database, user=user, autocommit=True, row_factory=dict_row)
    connection.prepare_threshold = 2
    return connection


@contextmanager
def refused(sqlstate: str, what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        must_equal(error.sqlstate, sqlstate, what, error)
    else:
        raise Wrong(f"{what}: it was not refused")


# --- The segments ---------------------------------------------------------------------

WEIRD = 'we;ird".Name'
SCHEMA = """
create extension segmenter;
create schema crm;
create table crm.people (
    pk int primary key, id text, email text, phone text, city int, amount numeric(10, 2), note int not null, bits int not null
);
create table crm.base (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create table crm.latest (like crm.base including defaults, note int, unique (id));
create table crm.history (city int, like crm.base including defaults, amount numeric(10, 2), note int);
create unique index on crm.history (id) where actual_end = 'infinity';
-- grade is nobody's but the people's who edit it by hand.
create table crm."Ta;ble"".l" (
    like crm.base including defaults, city int, grade text default 'new',
    code text generated always as (upper(hash_email)) stored, unique (segment_id, id)
);
create table crm."Ta;ble"".h" (
    like crm.base including defaults, "Ci""ty" int, grade text default 'new',
    code text generated always as (upper(hash_email)) stored
);
create unique index on crm."Ta;ble"".h" (id, segment_id) where actual_end = 'infinity';
create table crm.latest_called (like crm.base including defaults, city int, unique (id));
create table crm.history_called (like crm.base including defaults, city int);
create unique index on crm.history_called (id) where actual_end = 'infinity';
create function crm.local() returns timestamp language sql as $$ select clock_timestamp() at time zone 'UTC' $$;

-- All is written anew.
create procedure crm.latest_called(segment uuid, mask int) language sql as $$
    delete from crm.latest_called;
    insert into crm.latest_called (segment_id, id, hash_email, hash_phone, city)
    select segment, id, email, phone, city from crm.people p where p.bits & mask <> 0 and p.id is not null;
$$;
create procedure crm.shared_history_called(segment uuid, mask int) language sql as $$
    delete from crm."Ta;ble"".h" t where t.segment_id = segment;
    insert into crm."Ta;ble"".h" (segment_id, id, hash_email, hash_phone, "Ci""ty")
    select segment, id, email, phone, city from crm.people p where p.bits & mask <> 0 and p.id is not null;
$$;
-- Only what has changed is.
create procedure crm.shared_called(segment uuid, mask int) language sql as $$
    update crm."Ta;ble"".l" t set actual_end = crm.local()
    where t.segment_id = segment and t.actual_end = 'infinity'
      and not exists (select from crm.people p where p.bits & mask <> 0 and p.id = t.id);
    insert into crm."Ta;ble"".l" (segment_id, id, hash_email, hash_phone, city)
    select segment, id, email, phone, city from crm.people p where p.bits & mask <> 0 and p.id is not null
    on conflict (segment_id, id) do update
    set hash_email = excluded.hash_email, hash_phone = excluded.hash_phone, city = excluded.city,
        actual_end = 'infinity', processed = crm.local();
$$;
create procedure crm.history_called(segment uuid, mask int) language sql as $$
    -- Whoever is there twice is an error, as in the others.
    select 1 / case when count(*) > count(distinct p.id) then 0 else 1 end from crm.people p where p.bits & mask <> 0 and p.id is not null;
    update crm.history_called t set actual_end = crm.local()
    where t.actual_end = 'infinity' and not exists (
        select from crm.people p where p.bits & mask <> 0 and p.id = t.id
          and (p.email, p.phone, p.city) is not distinct from (t.hash_email, t.hash_phone, t.city));
    insert into crm.history_called (segment_id, id, hash_email, hash_phone, city, actual_begin)
    select segment, p.id, p.email, p.phone, p.city, crm.local()
    from crm.people p where p.bits & mask <> 0 and p.id is not null
      and not exists (select from crm.history_called t where t.id = p.id and t.actual_end = 'infinity');
$$;
"""


@dataclass(frozen=True)
class Last:
    """What the last refresh has left: the columns that it received, the members, and which columns had another name."""
    columns: list[str]
    rows: dict[str, Row]
    missing: frozenset[str]
    # What is known of the rows is not what they add up to.
    is_stale: bool = False
    # Rows that were changed by hand were handed over: the next refresh takes them for changed, whatever they are then.
    is_doubted: bool = False


class Segment:
    """A segment, and what its table has to hold."""

    def __init__(self, name: str, table: str, *, history: bool, given: dict[str, str], auto: bool = False,
                 procedure: str | None = None, rewrites: bool = False, grade: bool = False,
                 guards: Row | None = None) -> None:
        self.name, self.table, self.history, self.auto = name, table, history, auto
        # The columns that its refresher gives, and from which of the source's.
        self.given = {"hash_email": "email", "hash_phone": "phone", **given}
        self.procedure, self.rewrites, self.grade = procedure, rewrites, grade
        self.guards = guards or {}
        self.columns = [*self.given, *(["grade", "code"] if grade else [])]
        self.id, self.bit, self.actual = uuid.UUID(int=0), 0, True
        self.missing: set[str] = set()
        self.refreshed = False  # successfully, ever: before that nothing is handed over
        # The columns that the last refresh received, and the members after it; none: that is not known.
        self.last: Last | None = None
        self.rows: dict[str, Row] = {}  # the actual members, by id
        self.closed: dict[str, Row] = {}  # of a table of latest states: who was one
        self.known: dict[str, set[str]] = {}  # the hashes that the table holds of somebody

    def received(self) -> list[str]:
        """The columns that its refresher gives, with those that have another name at present: a procedure's are all."""
        return [*self.columns, *sorted(self.missing)] if self.procedure else sorted(self.given)

    def is_edited(self, received: list[str]) -> bool:
        """Whether rows were changed by hand since the last refresh, as far as both received the same columns:
        audiences get all members then."""
        last = self.last
        if last is None or last.is_doubted or last.rows.keys() != self.rows.keys():
            return last is not None
        return last.columns == received and (last.is_stale and last.missing == self.missing or any(
            row.get(column) != self.rows[id].get(column) for id, row in last.rows.items() for column in last.columns))

    def doubt(self) -> None:
        """Members are handed over as the table has them, without a refresh."""
        last = self.last
        if last is not None and (last.rows.keys() != self.rows.keys() or last.missing == self.missing and (last.is_stale or any(
                row.get(column) != self.rows[id].get(column) for id, row in last.rows.items() for column in last.columns))):
            self.last = replace(last, is_doubted=True)

    def erase(self, id: str) -> None:
        """A member is erased, who counts no longer. What the rows of the others add up to cannot be told any further where their
        columns have other names than at the last refresh."""
        if self.last is not None and id in self.known:
            is_other = "grade" in self.last.columns and self.last.missing != self.missing
            rows = {other: row for other, row in self.last.rows.items() if other != id}
            self.last = replace(self.last, rows=rows, is_stale=self.last.is_stale or is_other and id in self.rows)
        self.rows = {other: row for other, row in self.rows.items() if other != id}
        self.closed.pop(id, None)
        self.known.pop(id, None)

    def query(self) -> str:
        columns = ", ".join(f"{of} as {quoted(column)}" for column, of in self.given.items())
        return f"select id, {columns} from crm.people where bits & {self.bit} <> 0"

    def create(self, db: Connection) -> None:
        # Ids of our own, since a run goes by them: a seed shall give the same again.
        self.id = uuid.UUID(int=self.bit)
        db.execute("insert into segmenter_segments (id, name, table_name, refresh_auto, guards) values (%s, %s, %s, %s, %s)",
                   (self.id, self.name, self.table, self.auto, Jsonb(self.guards)))
        way = {"query": {"sql": self.query()}}
        if self.procedure:
            way = {"procedure": {"sql": f"call crm.{self.procedure}('{self.id}', {self.bit})"}}
        db.execute("update segmenter_segments set refresh_params = %s where id = %s", (Jsonb(way), self.id))

    def finish(self, row: Row) -> Row:
        """A row with the columns that the table fills itself."""
        if self.grade:
            email = row["hash_email"]
            row = {**row, "code": email and email.upper()}
        return row

    def remember(self) -> None:
        """Keeps in mind which hashes the table holds."""
        fresh = not self.history or self.rewrites
        self.known = {} if fresh else {id: set(hashes) for id, hashes in self.known.items()}
        for of in (self.rows, self.closed):
            for id, row in of.items():
                hashes = {row["hash_email"], row["hash_phone"]} - {None}
                self.known.setdefault(id, set()).update(hashes)


def segments() -> list[Segment]:
    latest, history = 'crm."Ta;ble"".l"', 'crm."Ta;ble"".h"'
    city, weird_city = {"city": "city"}, {'Ci"ty': "city"}
    made = [
        Segment("vip", "crm.latest", history=False, auto=True, given={"note": "note"}),
        Segment(WEIRD, "crm.history", history=True, auto=True, given={**city, "amount": "amount", "note": "note"}),
        Segment("shared", latest, history=False, auto=True, given=city, grade=True, guards={"max_removed": 4}),
        Segment("shared, called", latest, history=False, given=city, grade=True, procedure="shared_called"),
        Segment("shared history", history, history=True, given=weird_city, grade=True, guards={"allow_empty": True}),
        Segment("shared history, called", history, history=True, auto=True, given=weird_city, grade=True,
                procedure="shared_history_called", rewrites=True),
        Segment("latest, called", "crm.latest_called", history=False, given=city,
                procedure="latest_called", rewrites=True, guards={"max_added": 6}),
        Segment("history, called", "crm.history_called", history=True, given=city, procedure="history_called"),
    ]
    for number, segment in enumerate(made):
        segment.bit = 1 << number
    return made


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Person:
    """A row of the source."""

    def __init__(self, pk: int, **values: Any) -> None:
        self.pk, self.values = pk, values


class Refreshed:
    """What a refresh has to come to."""

    def __init__(self, status: str, figures: tuple[int, int, int, int] | None = None,
                 rows: dict[str, Row] | None = None, anew: bool = False) -> None:
        self.status, self.figures, self.anew = status, figures, anew
        self.rows = rows if rows is not None else {}


# --- Consumers and subscriptions ------------------------------------------------------

class Consumer:
    def __init__(self, name: str, role: str, max_attempts: int = 10) -> None:
        self.name, self.role, self.max_attempts = name, role, max_attempts
        self.id, self.actual = uuid.UUID(int=0), True
        self.connections: list[Connection] = []


class Message:
    def __init__(self, row: Row, fields: dict[str, str]) -> None:
        self.id: int = row["id"]
        self.run, self.operation = row["run_id"], row["operation"]
        self.part, self.parts = row["part"], row["parts"]
        self.payload: Row = row["payload"]
        self.fields = fields
        self.erases: str | None = None  # whom it has to take out because of an erasure

    @property
    def members(self) -> list[Row]:
        return self.payload["members"]


DEFAULT = {name: name for name in ("id", "hash_email", "hash_phone")}


class Subscription:
    def __init__(self, id: uuid.UUID, consumer: Consumer, segment: Segment, target: str, params: Row,
                 fields: dict[str, str]) -> None:
        self.id, self.consumer, self.segment, self.target = id, consumer, segment, target
        self.template, self.actual = "{{name}}", True
        self.params, self.fields = params, fields
        # What was handed over: whether there is an audience, with which fields, and those that it failed with.
        self.there = False
        self.told = ""  # the name that it was handed over with last
        self.served: dict[str, str] | None = None
        self.broken: dict[str, str] | None = None
        self.without_id = False  # it once was handed over without ids
        # How far it is delivered.
        self.queue: list[Message] = []
        self.through = 0
        self.lease: uuid.UUID | None = None
        # Messages are out until something is heard of them, or they are claimed anew; leased while that runs.
        self.out, self.leased, self.leased_through = False, False, 0
        self.attempts, self.waits, self.failed, self.delivered = 0, False, False, False
        self.external_id: str | None = None
        self.acked: tuple[uuid.UUID, int] | None = None
        # The consumer's side.
        self.kept = Audience()
        # It need not be right until everything is handed over after that message.
        self.astray, self.astray_since = False, 0

    @property
    def mode(self) -> str:
        return self.params.get("mode", "delta")

    @property
    def batch(self) -> int:
        return self.params.get("batch_size", 10000)

    @property
    def audience(self) -> Counter[Canonical] | None:
        return self.kept.members

    @property
    def people(self) -> dict[Any, Row] | None:
        """As a consumer keeps it that goes by ids."""
        return self.kept.people

    @property
    def is_actual(self) -> bool:
        return self.actual and self.segment.actual and self.consumer.actual

    def name(self) -> str:
        name = self.template.replace("{{name}}", self.segment.name)
        return name.replace("{{consumer}}", self.consumer.name).replace("{{target}}", self.target)

    def project(self, id: str, row: Row, fields: dict[str, str] | None = None) -> Row:
        named = {**row, "id": id}
        return {name: named[column] for column, name in (fields or self.fields).items()}

    def all_members(self) -> Counter[frozenset[tuple[str, Any]]]:
        return Counter(canonical(self.project(id, row)) for id, row in self.segment.rows.items())

    # What follows from docs/consumers.md.
    def owed(self, refreshed: bool, edited: bool = False) -> str | None:
        if not self.is_actual:
            return "end" if self.there else None
        if self.broken == self.fields and not refreshed:
            return None
        if not self.there:
            return "begin" if refreshed or self.segment.refreshed else None
        if self.broken is not None or self.served != self.fields:
            return "everything"
        if not refreshed:
            return "name" if self.told != self.name() else None
        return "changes" if self.mode == "delta" and not edited else "everything"

    def apply(self, message: Message) -> None:
        """Applies a message as the consumer does, and looks for what must not be."""
        if message.id <= self.kept.last:
            return
        excused = set()
        # A resync drops the rest of an operation, begins with these, and may find an audience.
        if message.operation in ("create", "replace"):
            excused |= {Fault.UNFINISHED, Fault.THERE}
        # Who is erased is removed as whatever the consumer may have.
        if message.erases is not None:
            excused |= {Fault.STRANGER, Fault.TWICE}
        problems = self.kept.take(message.id, message.operation, message.part, message.parts, message.members,
                                  message.fields.get("id"), message.run)
        problems = [problem for problem in problems if problem.fault not in excused]
        must(not problems or self.astray, f"{self} message {message.id} {message.operation} {message.part}/{message.parts}", *problems)
        if message.operation == "delete" or message.operation == "replace" and message.part == message.parts:
            self.found(message)

    def lost(self, since: int) -> None:
        self.astray, self.astray_since = True, max(since, self.astray_since)

    def found(self, message: Message) -> None:
        self.astray = self.astray and message.id - message.part < self.astray_since

    def __str__(self) -> str:
        return f"{self.consumer.name}/{self.segment.name}/{self.target}"


# --- The world ------------------------------------------------------------------------

# Ids that are not just letters; the first six signs of an id are nobody else's.
TAILS = ['"q\\u', "'a", " ünï€", "\nx", "%_", "[.*]($", "\\", '"', "\t", "{}"]


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.db = connect()
        self.numbers = 0
        self.people: dict[int, Person] = {}
        self.segments = segments()
        self.consumers = [Consumer("crm", "crm_sync"), Consumer('we;ird".Consumer', 'we;ird".role'),
                          Consumer("strict", "strict", 3), Consumer("fourth", "fourth", 6)]
        self.subscriptions: list[Subscription] = []
        self.seen = 0  # the last message of the outbox that was looked at
        self.fields: dict[int, dict[str, str]] = {}  # with which fields each message was written
        self.erased: set[str] = set()  # what must be found nowhere once all is delivered
        self.trail: list[str] = []
        self.done: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        self.logged_acks: int | None = 0
        self.set_up()

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def set_up(self) -> None:
        self.db.execute(SCHEMA)
        for segment in self.segments:
            segment.create(self.db)
        for consumer in self.consumers:
            self.db.execute(f"create role {quoted(consumer.role)} login")
            row = self.db.execute("insert into segmenter_consumers (name, role, subscribers, params) values (%s, %s::regrole, '{postgres}', %s) returning id",
                                  (consumer.name, quoted(consumer.role), Jsonb({"max_attempts": consumer.max_attempts}))).fetchone()
            assert row
            consumer.id = row["id"]
            consumer.connections = [connect(consumer.role)]
        self.consumers[0].connections.append(connect(self.consumers[0].role))
        for _ in range(30):
            self.add_person()
        for _ in range(14):
            self.subscribe()

    # The source.

    def a_hash(self, letter: str) -> str | None:
        of = self.random.random()
        if of < 0.12:
            return None
        # Some are shared by several people. No letter of a hexadecimal number, so that it is found nowhere else.
        return f"{letter}{90000 + self.random.randrange(4) if of < 0.25 else self.number():05}"

    def an_id(self) -> str:
        number = self.number()
        return f"m{number:05}" + (self.random.choice(TAILS) if self.chance(0.2) else "")

    def add_person(self) -> None:
        bits = sum(segment.bit for segment in self.segments if self.chance(0.25))
        person = Person(self.number(), id=None if self.chance(0.06) else self.an_id(), email=self.a_hash("h"),
                        phone=self.a_hash("p"), city=self.random.choice([1, 2, 3, None]),
                        amount=self.random.choice([None, Decimal("12.50"), Decimal("0.10"), Decimal("99999999.99")]),
                        note=0, bits=bits)
        self.people[person.pk] = person
        self.db.execute("insert into crm.people values (%s, %s, %s, %s, %s, %s, %s, %s)",
                        (person.pk, *person.values.values()))

    def change_person(self, person: Person, **changes: Any) -> None:
        person.values.update(changes)
        self.db.execute(f"update crm.people set {', '.join(f'{column} = %s' for column in changes)} where pk = %s",
                        (*changes.values(), person.pk))

    def remove_person(self, person: Person) -> None:
        del self.people[person.pk]
        self.db.execute("delete from crm.people where pk = %s", (person.pk,))

    def a_person(self) -> Person:
        return self.random.choice(list(self.people.values()))

    # What a refresh gives.

    def evaluate(self, segment: Segment, given: tuple[list[str], list[Row]] | None = None, force: bool = False) -> Refreshed:
        if not segment.actual:
            return Refreshed("failed")
        columns, rows = given or (list(segment.given), [
            {"id": of["id"], **{column: of[source] for column, source in segment.given.items()}}
            for of in (person.values for person in self.people.values()) if of["bits"] & segment.bit])
        rows = [row for row in rows if row["id"] is not None]
        if len({row["id"] for row in rows}) < len(rows):
            return Refreshed("failed")
        is_called = segment.procedure is not None and given is None
        anew = is_called and segment.rewrites
        old, new = segment.rows, {}
        for row in rows:
            id = row["id"]
            before = {} if anew else old.get(id) or ({} if segment.history else segment.closed.get(id)) or {}
            defaults = {column: None for column in segment.columns} | ({"grade": "new"} if segment.grade else {})
            new[id] = segment.finish({**defaults, **before, **{column: row[column] for column in columns}})
        compared = segment.columns if is_called else columns
        added, removed = len(new.keys() - old.keys()), len(old.keys() - new.keys())
        changed = sum(any(new[id][column] != old[id][column] for column in compared) for id in new.keys() & old.keys())
        figures = (added, removed, changed, len(new))
        guards = segment.guards
        if not force and (old and not new and not guards.get("allow_empty")
                          or removed > guards.get("max_removed", removed) or added > guards.get("max_added", added)):
            return Refreshed("refused", figures)
        return Refreshed("ok", figures, new, anew)

    def accept(self, segment: Segment, refreshed: Refreshed, received: list[str]) -> None:
        segment.refreshed, segment.last = True, Last(received, refreshed.rows, frozenset(segment.missing))
        if not segment.history:
            left = {} if refreshed.anew else {**segment.closed, **segment.rows}
            segment.closed = {id: row for id, row in left.items() if id not in refreshed.rows}
        segment.rows = refreshed.rows
        if segment.rewrites and not refreshed.anew and segment.history:
            # A one-off query keeps the versions that the procedure would have rewritten.
            known = segment.known
            segment.remember()
            for id, hashes in known.items():
                segment.known.setdefault(id, set()).update(hashes)
        else:
            segment.remember()

    # What has to be handed over.

    Expected = dict[Subscription, list[tuple[str, Counter[frozenset[tuple[str, Any]]]]]]

    def of(self, segment: Segment) -> list[Subscription]:
        return [subscription for subscription in self.subscriptions if subscription.segment is segment]

    def hand_over(self, subscription: Subscription, handover: str | None, before: dict[str, Row],
                  to: Expected, pretend: bool = False) -> None:
        """Adds what a subscription has to get to what is expected, and notes that it got it."""
        if handover is None:
            return
        if handover != "end" and subscription.segment.missing & subscription.fields.keys():
            if not pretend:
                subscription.broken = subscription.fields
            return
        nobody: Counter[frozenset[tuple[str, Any]]] = Counter()
        if handover == "end":
            operations = [("delete", nobody)]
        elif handover == "name":
            operations = []
        elif handover == "changes":
            old = {id: canonical(subscription.project(id, row)) for id, row in before.items()}
            new = {id: canonical(subscription.project(id, row)) for id, row in subscription.segment.rows.items()}
            operations = [("remove", Counter(was for id, was in old.items() if new.get(id) != was)),
                          ("add", Counter(now for id, now in new.items() if old.get(id) != now))]
        else:
            everyone = subscription.all_members()
            delta = handover == "begin" and subscription.mode == "delta"
            operations = [("create", nobody)] if handover in ("begin", "renewal") else []
            operations.append(("add" if delta else "replace", everyone))
        operations = [(operation, members) for operation, members in operations
                      if members or operation in ("create", "delete", "replace")]
        # An audience that is renamed hears of it, if by nothing else.
        if not operations and subscription.told != subscription.name():
            operations = [("add", nobody)]
        if not operations:
            return
        to[subscription] = to.get(subscription, []) + operations
        if not pretend:
            subscription.there, subscription.told = handover != "end", subscription.name()
            subscription.served, subscription.broken = subscription.fields, None
            subscription.without_id = subscription.without_id or "id" not in subscription.fields

    @staticmethod
    def parts(operation: str, members: int, batch: int) -> int:
        return 1 if operation in ("create", "delete") else max(-(-members // batch), 1)

    def count(self, expected: Expected) -> int:
        return sum(self.parts(operation, members.total(), subscription.batch)
                   for subscription, operations in expected.items() for operation, members in operations)

    def check_row(self, row: Row, subscription: Subscription) -> None:
        """The shape of a message, as docs/payload.schema.json has it."""
        payload, about = row["payload"], f"{subscription} {row}"
        must_equal(set(payload), {"version", "operation", "reason", "run_id", "part", "parts", "segment", "audience", "members"},
                   "the payload's keys", about)
        must_equal((payload["version"], payload["operation"], payload["part"], payload["parts"], payload["run_id"]),
                   (1, row["operation"], row["part"], row["parts"], str(row["run_id"])), "the payload's head", about)
        must(isinstance(payload["part"], int) and 1 <= payload["part"] <= payload["parts"], "part and parts", about)
        must_equal(payload["segment"], {"id": str(subscription.segment.id), "name": subscription.segment.name}, "segment", about)
        must_equal(payload["audience"], {"subscription_id": str(subscription.id), "name": subscription.name(),
                                         "target": subscription.target, "external_id": subscription.external_id}, "audience", about)
        must_equal(row["members"], len(payload["members"]), "the number of members", about)
        must_equal((row["consumer_id"], row["segment_id"]), (subscription.consumer.id, subscription.segment.id), "ids", about)
        for member in payload["members"]:
            must_equal(set(member), set(subscription.fields.values()), "a member's keys", about)

    def fetch(self) -> dict[Subscription, list[Row]]:
        """The messages that are new in the outbox."""
        rows = self.db.execute("select id, consumer_id, subscription_id, segment_id, run_id, operation, part, parts, members, payload"
                               " from segmenter_outbox where id > %s order by id", (self.seen,)).fetchall()
        by_id = {subscription.id: subscription for subscription in self.subscriptions}
        found: dict[Subscription, list[Row]] = {}
        for row in rows:
            must(row["subscription_id"] in by_id, "a message for nobody", row)
            found.setdefault(by_id[row["subscription_id"]], []).append(row)
            self.seen = row["id"]
        return found

    def watch(self, expected: Expected, what: str) -> int:
        """Compares the new messages with those expected, and queues them."""
        found = self.fetch()
        for subscription in found.keys() - expected.keys():
            raise Wrong(f"{what}: {subscription} got {found[subscription]}, it should get nothing")
        for subscription, operations in expected.items():
            rows = found.get(subscription, [])
            about = f"{what}: {subscription} {subscription.params} got {rows} for {operations}"
            at = 0
            for operation, members in operations:
                parts = self.parts(operation, members.total(), subscription.batch)
                of = rows[at:at + parts]
                at += parts
                must_equal([(row["operation"], row["part"], row["parts"], row["run_id"]) for row in of],
                           [(operation, part + 1, parts, of[0]["run_id"] if of else None) for part in range(parts)],
                           "the parts", about)
                got = Counter(canonical(member) for row in of for member in row["payload"]["members"])
                must_equal(got, members, "the members", about)
                if members:
                    full = [subscription.batch] * (parts - 1)
                    must_equal([row["members"] for row in of], [*full, members.total() - sum(full)], "the sizes", about)
            must_equal(at, len(rows), "the number of messages", about)
            for row in rows:
                self.check_row(row, subscription)
                self.fields[row["id"]] = subscription.fields
                subscription.queue.append(Message(row, subscription.fields))
        return sum(map(len, found.values()))

    # Refreshing.

    def refresh(self, segment: Segment, *, query: str | None = None, given: tuple[list[str], list[Row]] | None = None,
                dry_run: bool = False, force: bool = False) -> tuple[Row, Refreshed, Expected]:
        """Refreshes a segment; the model follows unless it is a dry run."""
        refreshed = self.evaluate(segment, given, force)
        expected: World.Expected = {}
        received = sorted(given[0]) if given else segment.received()
        before, edited = segment.rows, segment.is_edited(received)
        if refreshed.status == "ok":
            closed, known, past = segment.closed, segment.known, (segment.refreshed, segment.last)
            self.accept(segment, refreshed, received)
            for subscription in self.of(segment):
                self.hand_over(subscription, subscription.owed(True, edited), before, expected, pretend=dry_run)
            if dry_run:
                segment.rows, segment.closed, segment.known = before, closed, known
                segment.refreshed, segment.last = past
        row = self.db.execute("select status, added, removed, changed, coverage, messages, detail"
                              " from segmenter_refresh(%s, %s, %s, %s)",
                              (segment.name, query, dry_run, force)).fetchone()
        assert row
        what = f"refresh of {segment.name} {'dry ' if dry_run else ''}{query or ''} {row}"
        must_equal(row["status"], refreshed.status, "the status", what)
        figures = tuple(row[name] for name in ("added", "removed", "changed", "coverage"))
        must_equal(figures, refreshed.figures or (None,) * 4, "the figures", what)
        must_equal(row["messages"], self.count(expected) if refreshed.status == "ok" else None, "messages", what,
                   {str(subscription): operations for subscription, operations in expected.items()})
        if not dry_run:
            self.done[refreshed.status] += 1
        return row, refreshed, expected

    def a_segment(self, actual: bool = True) -> Segment:
        return self.random.choice([segment for segment in self.segments if segment.actual or not actual] or self.segments)

    def expected_run(self) -> tuple[dict[str, tuple[str, int | None]], Expected]:
        """What a run has to do: status and messages for each segment."""
        results: dict[str, tuple[str, int | None]] = {}
        expected: World.Expected = {}
        for segment in self.segments:
            of_segment: World.Expected = {}
            is_due = segment.actual and segment.auto
            refreshed = self.evaluate(segment) if is_due else None
            before, edited = segment.rows, segment.is_edited(segment.received())
            is_refreshed = refreshed is not None and refreshed.status == "ok"
            if refreshed is not None and is_refreshed:
                self.accept(segment, refreshed, segment.received())
            owed = [(subscription, handover) for subscription in self.of(segment)
                    if (handover := subscription.owed(is_refreshed, edited)) is not None]
            for subscription, handover in owed:
                self.hand_over(subscription, handover, before, of_segment)
            if not is_refreshed and any(handover in ("begin", "everything") for _, handover in owed):
                segment.doubt()
            if refreshed is not None:
                self.done[refreshed.status] += 1
            messages = self.count(of_segment)
            if is_refreshed or not is_due and owed:
                results[segment.name] = ("ok", messages)
            elif refreshed is not None:
                results[segment.name] = (refreshed.status, messages if owed else None)
            expected |= of_segment
        return results, expected

    def run(self) -> bool:
        results, expected = self.expected_run()
        rows = self.db.execute("select segment, status, messages from segmenter_run()").fetchall()
        must_equal({row["segment"]: (row["status"], row["messages"]) for row in rows}, results, "a run")
        self.watch(expected, "a run")
        return True

    def run_each(self) -> bool:
        _, expected = self.expected_run()
        self.db.execute("call segmenter_run_each()")
        self.watch(expected, "a run of each")
        return True

    # --- Actions: each says whether it could be done ----------------------------------

    def change_source(self) -> bool:
        for _ in range(self.random.randint(1, 4)):
            of = self.random.random()
            if len(self.people) < 22 or of < 0.15:
                self.add_person()
                continue
            person = self.a_person()
            if of < 0.3 and len(self.people) > 30:
                self.remove_person(person)
            elif of < 0.5:
                self.change_person(person, email=self.a_hash("h"))
            elif of < 0.6:
                self.change_person(person, phone=self.a_hash("p"))
            elif of < 0.7:
                self.change_person(person, note=self.number())
            elif of < 0.75:
                self.change_person(person, city=self.random.choice([1, 2, 3, None]))
            elif of < 0.8:
                self.change_person(person, amount=Decimal(self.random.randrange(1000)) / 4)
            else:
                segment = self.random.choice(self.segments)
                self.change_person(person, bits=person.values["bits"] ^ segment.bit)
        return True

    def change_note(self) -> bool:
        """Only what is not handed over."""
        person = self.a_person()
        self.change_person(person, note=self.number())
        return self.refresh_one()

    def refresh_one(self) -> bool:
        row, _, expected = self.refresh(self.a_segment(), force=self.chance(0.1))
        must_equal(self.watch(expected, f"a refresh {row}"), row["messages"] or 0, "the messages told", row)
        return True

    def dry_run(self) -> bool:
        segment = self.a_segment()
        force = self.chance(0.2)
        dry, _, _ = self.refresh(segment, dry_run=True, force=force)
        self.watch({}, "a dry run")
        if self.chance(0.7):
            real, _, expected = self.refresh(segment, force=force)
            self.watch(expected, "a refresh after a dry run")
            for name in ("status", "added", "removed", "changed", "coverage", "messages"):
                must_equal(dry[name], real[name], f"{name} of a dry run", segment.name, dry, real)
        return True

    def roll_back(self) -> bool:
        """A refresh, or a run, that comes to nothing."""
        kept = [(of, of.rows, of.closed, of.known, of.refreshed, of.last) for of in self.segments]
        handed = [(of, of.there, of.told, of.served, of.broken, of.without_id) for of in self.subscriptions]
        counts = "select (select max(id) from segmenter_log) as log, (select count(*) from segmenter_log) as logs," \
            " (select count(*) from segmenter_outbox) as messages"
        before = self.db.execute(counts).fetchone()
        done = self.done.copy()
        to_savepoint = self.chance(0.3)
        with self.db.transaction(force_rollback=not to_savepoint):
            with self.db.transaction(force_rollback=True):
                if self.chance(0.7):
                    self.refresh(self.a_segment())
                else:
                    results, _ = self.expected_run()
                    rows = self.db.execute("select segment, status, messages from segmenter_run()").fetchall()
                    must_equal({row["segment"]: (row["status"], row["messages"]) for row in rows}, results, "a run")
        for segment, *past in kept:
            segment.rows, segment.closed, segment.known, segment.refreshed, segment.last = past
        for subscription, *past in handed:
            subscription.there, subscription.told, subscription.served, subscription.broken, subscription.without_id = past
        self.done = done
        self.watch({}, "a refresh that was rolled back")
        must_equal(self.db.execute(counts).fetchone(), before, "what is left of a refresh that was rolled back")
        return True

    def two_in_one(self) -> bool:
        """Two refreshes in one transaction."""
        expected: World.Expected = {}
        with self.db.transaction():
            for _ in range(2):
                segment = self.a_segment()
                _, _, of_segment = self.refresh(segment)
                for subscription, operations in of_segment.items():
                    expected[subscription] = expected.get(subscription, []) + operations
                if self.chance(0.5):
                    self.change_source()
        self.watch(expected, "two refreshes in one transaction")
        return True

    def one_off(self) -> bool:
        """A list that is loaded by hand; it may be a wrong one."""
        segment = self.a_segment()
        columns = self.random.choice([["hash_email", "hash_phone"], ["hash_email"], []])
        people = [person.values for person in self.random.sample(list(self.people.values()), self.random.randint(3, 12))]
        rows = [{"id": of["id"], "hash_email": of["email"], "hash_phone": of["phone"]} for of in people if of["id"] is not None]
        rows.append({"id": self.an_id(), "hash_email": self.a_hash("h"), "hash_phone": None})
        is_wrong = self.chance(0.15)
        if is_wrong:
            rows.append(rows[-1])
        elif len({row["id"] for row in rows}) < len(rows):
            return False
        values = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(
                sql.SQL("{}::text").format(sql.Literal(row[column])) for column in ["id", *columns]))
            for row in rows)
        query = f"select * from (values {values.as_string(self.db)}) v ({', '.join(['id', *columns])})"
        _, _, expected = self.refresh(segment, query=query, given=(columns, rows), force=self.chance(0.5))
        self.watch(expected, "a one-off query")
        return True

    def break_source(self) -> bool:
        """Somebody is there twice: the refreshes of whatever both are in fail."""
        person, other = self.a_person(), self.a_person()
        if person is other or person.values["id"] is None:
            return False
        self.change_person(other, id=person.values["id"])
        return True

    def mend_source(self) -> bool:
        ids: set[str] = set()
        mended = False
        for person in list(self.people.values()):
            id = person.values["id"]
            if id is not None and id in ids:
                self.remove_person(person)
                mended = True
            ids.add(id)
        return mended

    def empty_source(self) -> bool:
        """A segment that would lose everybody is refused, or loses them all by force."""
        segment = self.a_segment()
        for person in list(self.people.values()):
            if person.values["bits"] & segment.bit:
                self.change_person(person, bits=person.values["bits"] & ~segment.bit)
        for force in [False, True] if self.chance(0.4) else [False]:
            _, _, expected = self.refresh(segment, force=force)
            self.watch(expected, "an empty source")
        for person in self.random.sample(list(self.people.values()), 8):
            self.change_person(person, bits=person.values["bits"] | segment.bit)
        return True

    def unknown_segment(self) -> bool:
        retired = [segment.name for segment in self.segments if not segment.actual]
        row = self.db.execute("select status, messages from segmenter_refresh(%s)",
                              (self.random.choice([*retired, "nothing"]),)).fetchone()
        assert row
        must_equal((row["status"], row["messages"]), ("failed", None), "a refresh of what is not there")
        self.watch({}, "a refresh of what is not there")
        return True

    def edit_by_hand(self) -> bool:
        """A column that no refresher gives: the next refresh hands over all members. Here it takes a resync at once."""
        edited = [segment for segment in self.segments if segment.grade and segment.rows and not segment.missing]
        if not edited:
            return False
        segment = self.random.choice(edited)
        id = self.random.choice(sorted(segment.rows))
        grade = self.random.choice(["gold", "silver", None, "new"])
        table = segment.table
        self.db.execute(f"update only {table} set grade = %s where segment_id = %s and id = %s and actual_end = 'infinity'",
                        (grade, segment.id, id))
        segment.rows = {**segment.rows, id: {**segment.rows[id], "grade": grade}}
        for subscription in self.of(segment):
            if "grade" in (subscription.served or {}) or "grade" in subscription.fields:
                if subscription.is_actual and subscription.there:
                    self.resync(subscription)
                elif subscription.there:
                    # Removals before its end would have the new value.
                    subscription.lost(self.seen)
        return True

    def take_column_away(self) -> bool:
        """Fields that the table lacks: those subscriptions fail, and no others."""
        table = self.random.choice([segment for segment in self.segments if segment.grade])
        there = [segment for segment in self.segments if segment.table == table.table]
        if table.missing:
            self.db.execute(f"alter table {table.table} rename grade_away to grade")
            for segment in there:
                segment.missing = set()
        else:
            self.db.execute(f"alter table {table.table} rename grade to grade_away")
            for segment in there:
                segment.missing = {"grade"}
        return True

    # Claims.

    def predict(self, consumer: Consumer, number: int) -> tuple[Subscription | None, list[Message]]:
        """What a claim has to give: the oldest message that nobody holds, and those after it."""
        candidates = [of for of in self.subscriptions if of.consumer is consumer and of.queue
                      and not (of.leased or of.waits or of.failed)]
        for subscription in sorted(candidates, key=lambda of: of.queue[0].id):
            if subscription.attempts >= consumer.max_attempts:
                # Time and again nobody has said what became of it.
                subscription.failed, subscription.lease, subscription.out = True, None, False
                self.done["given up"] += 1
                continue
            return subscription, subscription.queue[:number]
        return None, []

    def check_claimed(self, row: Row, subscription: Subscription, message: Message) -> None:
        about = f"{subscription} {row}"
        must_equal((row["message_id"], row["operation"], row["part"], row["parts"], row["members"], row["target"]),
                   (message.id, message.operation, message.part, message.parts, len(message.members), subscription.target),
                   "a message claimed", about)
        payload = row["payload"]
        audience = {**message.payload["audience"], "external_id": subscription.external_id}
        must_equal(payload, {**message.payload, "audience": audience}, "the payload claimed", about)
        must_equal((row["audience"], row["external_id"]), (audience["name"], subscription.external_id), "the audience", about)

    CLAIM = "select * from segmenter_claim(%s, %s, %s::interval)"

    def claim(self, consumer: Consumer, number: int, lease: str = "5 minutes",
              connection: Connection | None = None) -> tuple[Subscription | None, list[Message]]:
        connection = connection or consumer.connections[0]
        subscription, messages = self.predict(consumer, number)
        rows = connection.execute(self.CLAIM, (consumer.name, number, lease)).fetchall()
        must_equal([row["message_id"] for row in rows], [message.id for message in messages], "the messages claimed",
                   subscription, rows)
        if subscription is None:
            return None, []
        must_equal({(row["subscription_id"], row["attempt"]) for row in rows}, {(subscription.id, subscription.attempts + 1)},
                   "one subscription, and which attempt", rows)
        must_equal(len({row["lease"] for row in rows}), 1, "one lease", rows)
        for row, message in zip(rows, messages):
            self.check_claimed(row, subscription, message)
        subscription.lease, subscription.leased_through = rows[0]["lease"], messages[-1].id
        subscription.out, subscription.leased, subscription.attempts = True, True, subscription.attempts + 1
        return subscription, messages

    def a_receipt(self, subscription: Subscription, message: Message) -> Row:
        receipt: Row = {}
        if message.operation == "create" and self.chance(0.9):
            receipt["external_id"] = self.random.choice([f"x{self.number()}", self.number()])
        if self.chance(0.5):
            receipt |= {"coverage": (subscription.audience or Counter()).total(), "num_received": len(message.members), "num_invalid": 0}
        names, complains = self.complaint(subscription, message), self.chance(0.3)
        if names and complains:
            receipt |= {"rejected": names, "message": f"rejected {names[0]}"}
        return receipt

    def complaint(self, subscription: Subscription, message: Message) -> list[str]:
        """What a consumer says of somebody in a message."""
        if not message.members or message.erases:
            return []
        # Which members come in a message is up to PostgreSQL: a seed shall give the same again all the same.
        member = random.Random(message.id).choice(message.members)
        return [value for value in member.values() if isinstance(value, str)]

    def acknowledge(self, subscription: Subscription, message: Message, connection: Connection | None = None) -> None:
        connection = connection or subscription.consumer.connections[0]
        receipt = self.a_receipt(subscription, message)
        lease = subscription.lease
        connection.execute("select segmenter_ack(%s, %s, %s)", (lease, message.id, Jsonb(receipt)))
        self.acknowledged(subscription, message.id, receipt)
        assert lease
        subscription.acked = (lease, message.id)

    def acknowledged(self, subscription: Subscription, through: int, receipt: Row) -> None:
        done = [message for message in subscription.queue if message.id <= through]
        subscription.queue = subscription.queue[len(done):]
        for message in done:
            if message.operation == "delete":
                subscription.external_id = None
        if "external_id" in receipt:
            subscription.external_id = str(receipt["external_id"])
        subscription.out = subscription.out and subscription.leased_through > through
        subscription.leased = subscription.leased and subscription.out
        # What is still out is at its first attempt.
        subscription.through, subscription.attempts, subscription.delivered = through, int(subscription.out), True
        if self.logged_acks is not None:
            self.logged_acks += 1

    def a_consumer(self) -> Consumer:
        return self.random.choice(self.consumers)

    def deliver(self) -> bool:
        """Messages are claimed, and acknowledged in one of several ways."""
        consumer = self.a_consumer()
        subscription, messages = self.claim(consumer, self.random.randint(1, 5))
        if subscription is None:
            return False
        way = self.random.choice(["last", "each", "prefix"])
        kept = len(messages) if way != "prefix" else self.random.randint(1, len(messages))
        for at, message in enumerate(messages[:kept]):
            subscription.apply(message)
            if way == "each" or at == kept - 1:
                self.acknowledge(subscription, message)
        if way == "prefix" and kept < len(messages) and self.chance(0.5):
            # And the others are given back.
            self.give_back(subscription, messages[kept], "0")
        if subscription.acked and self.chance(0.3):
            self.repeat_acknowledgement(subscription)
        return True

    def repeat_acknowledgement(self, subscription: Subscription) -> None:
        lease, message = subscription.acked or (uuid.uuid4(), 0)
        connection = subscription.consumer.connections[0]
        if lease == subscription.lease:
            connection.execute("select segmenter_ack(%s, %s)", (lease, message))
        else:
            with refused("55000", "an acknowledgement of before"):
                connection.execute("select segmenter_ack(%s, %s)", (lease, message))

    def expire(self, *of: Subscription) -> None:
        self.db.execute("update segmenter_deliveries set leased_until = clock_timestamp() - interval '1 second'"
                        " where subscription_id = any (%s) and leased_until is not null",
                        ([subscription.id for subscription in of],))
        for subscription in of:
            subscription.leased = False

    def claim_and_vanish(self) -> bool:
        """The lease runs out; some of the messages were applied all the same."""
        consumer = self.a_consumer()
        short = self.chance(0.5)
        subscription, messages = self.claim(consumer, self.random.randint(1, 5), "1 microsecond" if short else "5 minutes")
        if subscription is None:
            return False
        if short:
            subscription.leased = False
        for message in messages[:self.random.randint(0, len(messages))]:
            subscription.apply(message)
        if not short and self.chance(0.8):
            self.expire(subscription)
        elif self.chance(0.3):
            # Nobody has taken it: it is still good.
            self.acknowledge(subscription, messages[0])
            subscription.apply(messages[0])
        return True

    def too_late(self) -> bool:
        """What was claimed and ran out is acknowledged after somebody else has claimed it."""
        consumer = self.a_consumer()
        subscription, messages = self.claim(consumer, self.random.randint(1, 3))
        if subscription is None:
            return False
        lease = subscription.lease
        for message in messages:
            subscription.apply(message)
        self.expire(subscription)
        other, again = self.claim(consumer, 5)
        while other is not None and other is not subscription:
            # Another one's turn came first, or it has failed.
            other, again = self.claim(consumer, 5)
        if other is None:
            must(subscription.failed, "a message is not handed out again", subscription)
        connection = consumer.connections[0]
        with refused("55000", "a late acknowledgement"):
            connection.execute("select segmenter_ack(%s, %s)", (lease, messages[-1].id))
        with refused("55000", "a late return"):
            connection.execute("select segmenter_nack(%s, %s, 'late', '0')", (lease, messages[-1].id))
        if other is not None:
            for message in again:
                subscription.apply(message)
            self.acknowledge(subscription, again[-1])
        return True

    def give_back(self, subscription: Subscription, message: Message, after: str | None) -> None:
        names = self.complaint(subscription, message)
        error = f"could not take {' and '.join(names)}: sorry"
        subscription.consumer.connections[0].execute("select segmenter_nack(%s, %s, %s, %s::interval)",
                                                     (subscription.lease, message.id, error, after))
        subscription.lease, subscription.out, subscription.leased = None, False, False
        subscription.waits = after is None
        if subscription.attempts >= subscription.consumer.max_attempts:
            subscription.failed = True
            self.done["failed to deliver"] += 1

    def nack(self) -> bool:
        subscription, messages = self.claim(self.a_consumer(), self.random.randint(1, 5))
        if subscription is None:
            return False
        if self.chance(0.4):
            subscription.apply(messages[0])
        self.give_back(subscription, self.random.choice(messages), None if self.chance(0.3) else "0")
        with refused("55000", "an acknowledgement of what was given back"):
            subscription.consumer.connections[0].execute("select segmenter_ack(%s, %s)", (subscription.lease or uuid.uuid4(), messages[0].id))
        return True

    def fail(self) -> bool:
        """Given back, or left, until nobody tries any more."""
        consumer = self.random.choice(self.consumers[2:])
        leave = self.chance(0.5)
        for _ in range(40):
            subscription, messages = self.claim(consumer, 2)
            if subscription is None:
                break
            if leave:
                self.expire(subscription)
            else:
                self.give_back(subscription, messages[0], "0")
        return any(subscription.failed for subscription in self.subscriptions)

    def invent(self) -> bool:
        """Leases that nobody was given, and others' leases."""
        subscription, messages = self.claim(self.a_consumer(), 2)
        if subscription is None:
            return False
        connection = subscription.consumer.connections[0]
        for lease, message in [(uuid.uuid4(), messages[0].id), (subscription.lease, 1 << 60),
                               *((subscription.lease, later.id) for later in subscription.queue[len(messages):][:1])]:
            with refused("55000", "an invented lease"):
                connection.execute("select segmenter_ack(%s, %s)", (lease, message))
            with refused("55000", "an invented lease"):
                connection.execute("select segmenter_nack(%s, %s, 'no')", (lease, message))
        for stranger in self.consumers:
            if stranger is not subscription.consumer:
                with refused("42501", "a stranger's acknowledgement"):
                    stranger.connections[0].execute("select segmenter_ack(%s, %s)", (subscription.lease, messages[0].id))
                if subscription.consumer.actual:
                    with refused("42501", "a stranger's claim"):
                        stranger.connections[0].execute(self.CLAIM, (subscription.consumer.name, 1, "1 minute"))
        return True

    # What people do about it.

    def call_for(self, subscription: Subscription) -> Connection:
        """Whoever owns the segment, or acts for the consumer."""
        return self.random.choice([self.db, subscription.consumer.connections[0]])

    def go_on(self, subscription: Subscription) -> None:
        subscription.lease, subscription.out, subscription.leased, subscription.waits = None, False, False, False
        subscription.attempts, subscription.failed = 0, False

    def retry(self, subscription: Subscription) -> None:
        row = self.call_for(subscription).execute("select segmenter_retry(%s) as waiting", (subscription.id,)).fetchone()
        assert row
        must_equal(row["waiting"], len(subscription.queue), "messages that wait", subscription)
        self.go_on(subscription)

    def skip(self, subscription: Subscription) -> None:
        row = self.call_for(subscription).execute("select segmenter_skip(%s) as skipped", (subscription.id,)).fetchone()
        assert row
        must_equal(row["skipped"], subscription.queue[0].id if subscription.queue else None, "the message skipped", subscription)
        self.go_on(subscription)
        if subscription.queue:
            subscription.through = subscription.queue.pop(0).id
            subscription.lost(subscription.through)

    def resync(self, subscription: Subscription) -> None:
        # The owner of the segment: of the consumer's role it would be a request, see security_consent.
        connection = self.db
        if not subscription.is_actual or subscription.segment.missing & subscription.fields.keys():
            with refused("55000", "a resync of what cannot be handed over"):
                connection.execute("select segmenter_resync(%s)", (subscription.id,))
            self.watch({}, "a resync that was refused")
            return
        begins = not subscription.there or any(message.operation == "create" for message in subscription.queue)
        if subscription.queue:
            subscription.through = subscription.queue[-1].id
        if not begins and any(message.operation == "delete" for message in subscription.queue):
            raise Wrong(f"{subscription}: deleted, and not created again")
        subscription.queue = []
        self.go_on(subscription)
        expected: World.Expected = {}
        self.hand_over(subscription, "renewal" if begins else "everything", {}, expected)
        subscription.segment.doubt()
        row = connection.execute("select segmenter_resync(%s) as messages", (subscription.id,)).fetchone()
        assert row
        must_equal(self.watch(expected, f"a resync of {subscription}"), row["messages"], "the messages told")

    def resolve(self) -> bool:
        """Somebody looks after what has failed, or waits."""
        stuck = [of for of in self.subscriptions if of.failed or of.waits]
        if not stuck:
            return False
        self.help(self.random.choice(stuck))
        return True

    def help(self, subscription: Subscription) -> None:
        way = self.random.choice(["retry", "skip", "resync"])
        if way == "retry" or not subscription.is_actual or subscription.segment.missing & subscription.fields.keys():
            self.retry(subscription)
        elif way == "skip":
            self.skip(subscription)
            if self.chance(0.7):
                self.resync(subscription)
        else:
            self.resync(subscription)

    def resync_one(self) -> bool:
        if not self.subscriptions:
            return False
        self.resync(self.random.choice(self.subscriptions))
        return True

    # Config.

    def some_fields(self, segment: Segment) -> Any:
        choices: list[Any] = [None, None, {"id": "user", "hash_email": "e-mail"}, ["id", "hash_email"], ["id"],
                              {"hash_email": "email"}, ["hash_email", "hash_phone"], {"id": "hash_email", "hash_email": "id"}]
        for column in segment.columns[2:]:
            if column not in segment.missing:
                choices += [["id", "hash_phone", column], {"id": "id", column: 'the "' + column}, {column: "x"}]
        return self.random.choice(choices)

    def some_params(self, segment: Segment) -> tuple[Row, dict[str, str]]:
        fields = self.some_fields(segment)
        params: Row = {"batch_size": self.random.randint(1, 7)}
        if self.chance(0.25):
            params["mode"] = "replace"
        elif self.chance(0.3):
            params["mode"] = "delta"
        if fields is not None:
            params["fields"] = fields
        return params, DEFAULT if fields is None else fields if isinstance(fields, dict) else {one: one for one in fields}

    def subscribe(self) -> bool:
        if len(self.subscriptions) > 20:
            return False
        consumer = self.random.choice([of for of in self.consumers if of.actual] or [None])
        segment = self.random.choice([of for of in self.segments if of.actual] or [None])
        if consumer is None or segment is None:
            return False
        params, fields = self.some_params(segment)
        target = f"t{self.number()}" + self.random.choice(["", '"; drop', "{{name}}"])
        row = self.db.execute("select segmenter_subscribe(%s, %s, %s, %s) as id", (consumer.name, segment.name, target, Jsonb(params))).fetchone()
        assert row
        self.subscriptions.append(Subscription(row["id"], consumer, segment, target, params, fields))
        return True

    def changeable(self) -> list[Subscription]:
        return [of for of in self.subscriptions if not of.segment.missing & of.fields.keys()]

    def change_subscription(self) -> bool:
        if not self.changeable():
            return False
        subscription = self.random.choice(self.changeable())
        if self.chance(0.3):
            subscription.template = self.random.choice(["{{name}}", "{{consumer}}: {{name}} {{target}}", "{{{name}}}", "plain"])
            self.db.execute("update segmenter_subscriptions set name = %s where id = %s", (subscription.template, subscription.id))
            return True
        params, fields = self.some_params(subscription.segment)
        if self.chance(0.4):
            # Mode and size only.
            params = {**params, **{key: value for key, value in subscription.params.items() if key == "fields"}}
            if "fields" not in subscription.params:
                params.pop("fields", None)
            fields = subscription.fields
        self.db.execute("update segmenter_subscriptions set params = %s where id = %s", (Jsonb(params), subscription.id))
        # The messages that wait keep their fields.
        subscription.params, subscription.fields = params, fields
        return True

    def toggle(self, table: str, of: Any) -> None:
        of.actual = not of.actual
        self.db.execute(f"update {table} set actual_end = %s where id = %s",
                        ("infinity" if of.actual else "now", of.id))

    def end_or_revive_subscription(self) -> bool:
        if not self.changeable():
            return False
        subscription = self.random.choice(self.changeable())
        ended = [of for of in self.changeable() if not of.actual]
        if ended and self.chance(0.5):
            subscription = self.random.choice(ended)
        self.toggle("segmenter_subscriptions", subscription)
        return True

    def delete_subscription(self) -> bool:
        gone = [of for of in self.subscriptions if not of.actual and (not of.there or self.chance(0.2))]
        if not gone:
            return False
        subscription = self.random.choice(gone)
        self.db.execute("delete from segmenter_subscriptions where id = %s", (subscription.id,))
        self.subscriptions.remove(subscription)
        return True

    def end_or_revive_segment(self) -> bool:
        ended = [of for of in self.segments if not of.actual]
        if ended and self.chance(0.75):
            self.toggle("segmenter_segments", self.random.choice(ended))
        else:
            self.toggle("segmenter_segments", self.random.choice(self.segments))
        return True

    def end_or_revive_consumer(self) -> bool:
        ended = [of for of in self.consumers if not of.actual]
        self.toggle("segmenter_consumers", self.random.choice(ended or self.consumers))
        return True

    def rename(self) -> bool:
        table, of = self.random.choice([("segmenter_segments", self.random.choice(self.segments)),
                                        ("segmenter_consumers", self.random.choice(self.consumers))])
        of.name = of.name.split(" #")[0] + f" #{self.number()}"
        self.db.execute(f"update {table} set name = %s where id = %s", (of.name, of.id))
        return True

    # Retention.

    def prune(self) -> bool:
        self.db.execute("set segmenter.outbox_retention = 0")
        self.db.execute("select segmenter_prune()")
        self.db.execute("reset segmenter.outbox_retention")
        rows = self.db.execute("select id from segmenter_outbox").fetchall()
        waiting = {message.id for subscription in self.subscriptions for message in subscription.queue}
        must_equal({row["id"] for row in rows}, waiting, "the messages that are kept")
        return True

    # Erasing.

    TRACES = """
        select place, id, segment, t from (
            select 'latest' as place, null::bigint as id, t.segment_id as segment, t::text from only crm.latest t
            union all select 'history', null, t.segment_id, t::text from only crm.history t
            union all select 'shared', null, t.segment_id, t::text from only crm."Ta;ble"".l" t
            union all select 'shared history', null, t.segment_id, t::text from only crm."Ta;ble"".h" t
            union all select 'latest, called', null, t.segment_id, t::text from only crm.latest_called t
            union all select 'history, called', null, t.segment_id, t::text from only crm.history_called t
            union all select 'log', t.id, t.segment_id, t::text from segmenter_log t
            union all select 'deliveries', null, u.segment_id, t::text from segmenter_deliveries t join segmenter_subscriptions u on u.id = t.subscription_id
            union all select 'outbox', t.id, t.segment_id, t.payload::text from segmenter_outbox t
        ) t where t ~ %s
    """

    def traces(self, tokens: Iterable[str]) -> list[Row]:
        return self.db.execute(self.TRACES, ("|".join(sorted(tokens)),)).fetchall()

    def erase(self) -> bool:
        candidates = sorted({id for of in self.segments for id in (*of.rows, *of.closed)})
        if not candidates:
            return False
        id = self.random.choice(candidates)
        is_gone = self.chance(0.85)
        if is_gone:
            for person in list(self.people.values()):
                if person.values["id"] == id:
                    self.remove_person(person)
        hashes = set().union(*(of.known.get(id, set()) for of in self.segments))
        others = {value for of in self.segments for other, known in of.known.items() if other != id for value in known}
        tokens = {id[:6], *(hashes - others - self.hashes_of_people())}
        tokens = {token for token in tokens if token[1] != "9"}

        held = {of.id: row for of in self.segments if (row := of.rows.get(id) or of.closed.get(id))}
        expected: dict[Subscription, list[Row] | str | None] = {}
        for subscription in self.subscriptions:
            expected[subscription] = self.erase_from(subscription, id)
        rows_of = {of.name: id in of.known for of in self.segments}
        for segment in self.segments:
            segment.erase(id)

        result = self.db.execute("select segment, rows, messages from segmenter_erase(%s)", (id,)).fetchall()
        found = self.fetch()
        what = f"erasing {id!r}"
        told: Counter[str] = Counter()
        runs = {row["run_id"] for rows in found.values() for row in rows}
        for subscription, members in expected.items():
            rows = found.get(subscription, [])
            told[subscription.segment.name] += len(rows)
            about = f"{subscription} {subscription.served} got {rows}"
            if members == "everything":
                everything: World.Expected = {}
                self.hand_over(subscription, "everything", {}, everything)
                must_equal(bool(rows), subscription in everything, f"{what}: whether everybody is handed over", about)
            elif members is not None:
                must_equal([(row["operation"], row["part"], row["parts"]) for row in rows],
                           [("remove", 1, 1)] if members else [], f"{what}: what is handed over", about, members)
                got = Counter(canonical(member) for row in rows for member in row["payload"]["members"])
                must_equal(got, Counter({canonical(member) for member in members}), f"{what}: the members", about)
            anew = not isinstance(members, list) and any(row["operation"] == "replace" for row in rows)
            if anew:
                # It cannot be told what the consumer has of the person, so everybody is handed over.
                got = Counter(canonical(member) for row in rows for member in row["payload"]["members"])
                must_equal(got, subscription.all_members(), f"{what}: everybody", about)
                subscription.served, subscription.broken = subscription.fields, None
                subscription.without_id = subscription.without_id or "id" not in subscription.fields
            for row in rows:
                fields = subscription.served or subscription.fields
                kept, subscription.fields = subscription.fields, fields
                self.fields[row["id"]] = fields
                message = Message(row, fields)
                self.check_row(row, subscription)
                subscription.fields = kept
                message.erases = None if anew else id
                subscription.queue.append(message)
            if members is None and subscription.segment.missing & subscription.fields.keys():
                self.ask_whether_broken(subscription)
        must_equal({row["segment"]: (row["rows"] > 0, row["messages"]) for row in result},
                   {of.name: (rows_of[of.name], told[of.name]) for of in self.segments if rows_of[of.name] or told[of.name]},
                   f"{what}: what is told")
        self.read_again()
        left = [row for row in self.traces(tokens) if self.is_wrong(row, id, held, runs)]
        must(not left, f"{what}: there is still something of {sorted(tokens)}", left)
        if is_gone:
            self.erased |= tokens
        return True

    def ask_whether_broken(self, subscription: Subscription) -> None:
        row = self.db.execute("select status from segmenter_log where subscription_id = %s and action = 'hand over'"
                              " order by id desc limit 1", (subscription.id,)).fetchone()
        if row and row["status"] == "failed":
            subscription.broken = subscription.fields

    def hashes_of_people(self) -> set[str]:
        return {value for person in self.people.values() for value in (person.values["email"], person.values["phone"]) if value}

    def is_wrong(self, trace: Row, id: str, held: dict[Any, Row], runs: set[Any]) -> bool:
        """Whether there must not be a trace of somebody who was erased."""
        if trace["place"] != "outbox":
            return True
        payload = json.loads(trace["t"], parse_float=Decimal)
        if payload["run_id"] in map(str, runs):
            return False
        # Without ids only what the table still holds can be recognised.
        fields = self.fields[trace["id"]]
        row = held.get(trace["segment"])
        if "id" in fields or row is None:
            return "id" in fields
        return {name: row[column] if column != "id" else id for column, name in fields.items()} in payload["members"]

    def erase_from(self, subscription: Subscription, id: str) -> list[Row] | str | None:
        """Takes somebody out of the messages that wait. Gives the members that have to be removed, or says that
        everything has to be handed over; none: without ids that cannot be told."""
        if subscription.without_id:
            return None
        segment, served = subscription.segment, subscription.served or subscription.fields
        members: list[Row] = []
        for message in subscription.queue:
            name = message.fields["id"]
            taken = [member for member in message.members if member[name] == id]
            if taken:
                message.payload["members"] = [member for member in message.members if member[name] != id]
            if message.fields == served:
                # What came with other fields is replaced before the removal.
                members += taken
        is_whole = not segment.missing & served.keys()
        if id in segment.rows and is_whole:
            members.append(subscription.project(id, segment.rows[id], served))
        if not subscription.there:
            return []
        return members if is_whole else "everything" if members or id in segment.rows else []

    def read_again(self) -> None:
        """Takes over messages as they are now where that cannot be told beforehand, and compares the others."""
        waiting = {message.id: (subscription, message) for subscription in self.subscriptions for message in subscription.queue}
        rows = self.db.execute("select id, members, payload from segmenter_outbox where id = any (%s)", (list(waiting),)).fetchall()
        must_equal({row["id"] for row in rows}, set(waiting), "an erasure: the messages that wait")
        for row in rows:
            subscription, message = waiting[row["id"]]
            if subscription.without_id:
                message.payload = row["payload"]
            else:
                must_equal(row["payload"]["members"], message.members, "an erasure: a message", subscription, message.id)
            must_equal(row["members"], len(row["payload"]["members"]), "an erasure: the number of members", row)

    # Two at once.

    def compete(self) -> bool:
        """Two claim for one consumer, while a segment is refreshed."""
        consumer = self.consumers[0]
        if not consumer.actual:
            return False
        mine = [of for of in self.subscriptions if of.consumer is consumer]
        for subscription in mine:
            if subscription.failed or subscription.waits:
                self.retry(subscription)
        self.expire(*mine)
        events: list[tuple[str, Any, Any]] = []
        held: set[int] = set()
        guard = threading.Lock()
        problems: list[str] = []
        finished = threading.Event()

        def work(connection: Connection, chance: random.Random) -> None:
            try:
                while True:
                    last_look = finished.is_set()
                    rows = connection.execute(self.CLAIM, (consumer.name, chance.randint(1, 4), "5 minutes")).fetchall()
                    if not rows:
                        if last_look:
                            return
                        continue
                    ids = {row["message_id"] for row in rows}
                    last = chance.randrange(len(rows)) if chance.random() < 0.2 else len(rows) - 1
                    through = rows[last]["message_id"]
                    with guard:
                        if held & ids:
                            problems.append(f"both hold {held & ids}")
                        held.update(ids)
                        events.append(("claimed", rows[0]["subscription_id"], rows))
                    # Let go before it is, so that whoever gets it next does not find it held.
                    with guard:
                        held.difference_update(ids)
                        events.append(("through", rows[0]["subscription_id"], through))
                    lease = rows[0]["lease"]
                    connection.execute("select segmenter_ack(%s, %s)", (lease, through))
                    for row in rows[last + 1:last + 2]:
                        connection.execute("select segmenter_nack(%s, %s, 'later', '0')", (lease, row["message_id"]))
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=work, args=(connection, random.Random(self.random.random())))
                   for connection in consumer.connections]
        for thread in threads:
            thread.start()
        try:
            self.change_source()
            _, _, expected = self.refresh(self.a_segment())
        finally:
            finished.set()
            for thread in threads:
                thread.join()
        must(not problems, "two at once", problems)
        self.adopt(expected, mine, events)
        return True

    def adopt(self, expected: Expected, mine: list[Subscription], events: list[tuple[str, Any, Any]]) -> None:
        """Checks what two have done, and takes it over."""
        self.watch(expected, "a refresh while two claim")
        by_id = {of.id: of for of in mine}
        for what, id, about in events:
            subscription = by_id[id]
            if what == "through":
                self.acknowledged(subscription, about, {})
                continue
            must_equal([row["message_id"] for row in about], [of.id for of in subscription.queue[:len(about)]],
                       "two at once: the messages claimed", subscription, about)
            for row, message in zip(about, subscription.queue):
                subscription.apply(message)
                must_equal(row["payload"]["members"], message.members, "two at once: a message", subscription)
        rows = self.db.execute("select d.*, u.status, u.external_id, d.leased_until > clock_timestamp() as is_leased,"
                               " d.next_attempt_at > clock_timestamp() as waits from segmenter_deliveries d"
                               " join segmenter_subscriptions u on u.id = d.subscription_id where u.consumer_id = %s", (mine[0].consumer.id,) if mine else (uuid.uuid4(),)).fetchall()
        for row in rows:
            subscription = by_id[row["subscription_id"]]
            about = f"{subscription} {row}"
            must(not row["is_leased"] and not row["waits"], "two at once: something is left over", about)
            must(not subscription.queue, "two at once: a message was left over", about)
            if subscription.through:
                must_equal(row["delivered_through"], subscription.through, "two at once: how far it is", about)
            subscription.lease, subscription.out, subscription.leased = row["lease"], False, False
            subscription.attempts = row["attempts"]
            must(row["leased_until"] is None, "two at once: something is still out", about)
            subscription.leased_through = row["leased_through"] or 0
            subscription.failed, subscription.acked = row["status"] == "failed", None
            must_equal(row["external_id"], subscription.external_id, "two at once: the audience's id", about)

    # --- Settling ---------------------------------------------------------------------

    def drain(self) -> None:
        for consumer in self.consumers:
            while True:
                subscription, messages = self.claim(consumer, 50)
                if subscription is None:
                    if any(of.failed for of in self.subscriptions if of.consumer is consumer):
                        for of in self.subscriptions:
                            if of.failed and of.consumer is consumer:
                                self.retry(of)
                        continue
                    break
                for message in messages:
                    subscription.apply(message)
                self.acknowledge(subscription, messages[-1])

    def settle(self) -> bool:
        """Everything is delivered; then audiences, segments and the model are the same."""
        for subscription in self.subscriptions:
            if subscription.failed or subscription.waits:
                self.help(subscription)
        leased = [of for of in self.subscriptions if of.leased]
        if leased:
            self.expire(*leased)
        self.run()
        self.drain()
        for subscription in self.subscriptions:
            if subscription.astray and subscription.is_actual and not subscription.segment.missing & subscription.fields.keys():
                self.resync(subscription)
        self.drain()
        self.compare()
        return True

    def compare(self) -> None:
        tables = {of.table for of in self.segments}
        rows = self.db.execute(" union all ".join(
            f"select segment_id, to_jsonb(t) as row from only {table} t where actual_end = 'infinity'" for table in sorted(tables))).fetchall()
        held: dict[uuid.UUID, dict[str, Row]] = {of.id: {} for of in self.segments}
        service = {"segment_id", "id", "actual_begin", "actual_end", "processed"}
        for row in rows:
            values = row["row"]
            if "grade_away" in values:
                values["grade"] = values.pop("grade_away")
            must(values["id"] not in held[row["segment_id"]], "a member is there twice", values)
            held[row["segment_id"]][values["id"]] = {column: value for column, value in values.items() if column not in service}
        for segment in self.segments:
            must_equal(held[segment.id], segment.rows, "the members", segment.name)

        statuses = {row["update_target"]: row for row in self.db.execute(
            "select update_target, update_consumer, update_name, name, update_status, pending_messages, last_delivery"
            " from segmenter_status where update_target is not null").fetchall()}
        must_equal(set(statuses), {of.target for of in self.subscriptions if of.actual and of.segment.actual}, "segmenter_status")
        for subscription in self.subscriptions:
            about = f"{subscription} {subscription.params}"
            must(not subscription.queue, "a message was not delivered", about)
            if not subscription.is_actual and not subscription.astray:
                must(subscription.audience is None, "what has ended has an audience", about, subscription.audience)
            # Whose fields the table lacks is behind until it has them.
            is_right = subscription.broken is None and not subscription.astray
            if subscription.is_actual and is_right:
                kept = held[subscription.segment.id]
                expected = Counter(canonical(subscription.project(id, row)) for id, row in kept.items())
                must_equal(subscription.audience, expected if subscription.segment.refreshed else None, "the audience", about)
                if "id" in subscription.fields:
                    people = Counter(map(canonical, (subscription.people or {}).values()))
                    must_equal(people, expected, "the audience of a consumer that goes by ids", about)
            status = statuses.get(subscription.target)
            if status is None:
                continue
            must_equal((status["update_consumer"], status["name"], status["update_name"], status["pending_messages"]),
                       (subscription.consumer.name, subscription.segment.name, subscription.name(), 0), "segmenter_status", about)
            must_equal(status["last_delivery"] is not None, subscription.delivered, "last_delivery", about, status)
            if not subscription.astray:
                must_equal(status["update_status"], "not uploaded" if subscription.audience is None else "uploaded",
                           "update_status", about, status)
        if self.logged_acks is not None:
            row = self.db.execute("select count(*) as n from segmenter_log where action = 'deliver' and status = 'ok'").fetchone()
            assert row
            must_equal(row["n"], self.logged_acks, "the deliveries in the log")
        if self.erased:
            self.look_for_erased()

    def look_for_erased(self) -> None:
        left = [row for row in self.traces(self.erased) if row["place"] != "outbox" or "id" in self.fields[row["id"]]]
        must(not left, "who was erased is still there", left)
        self.erased = set()

    ACTIONS: list[tuple[str, float]] = [
        ("change_source", 30), ("change_note", 3), ("refresh_one", 14), ("run", 4), ("run_each", 2.5), ("dry_run", 5),
        ("roll_back", 4), ("two_in_one", 2), ("one_off", 3), ("break_source", 1.2), ("mend_source", 4), ("empty_source", 1),
        ("unknown_segment", 1), ("edit_by_hand", 2), ("take_column_away", 1), ("deliver", 22), ("claim_and_vanish", 6),
        ("too_late", 3), ("nack", 6), ("fail", 1), ("invent", 1.5), ("resolve", 4), ("resync_one", 2.5),
        ("change_subscription", 4), ("subscribe", 2), ("end_or_revive_subscription", 2.5), ("delete_subscription", 0.7),
        ("end_or_revive_segment", 1), ("end_or_revive_consumer", 1), ("rename", 1), ("prune", 1), ("erase", 2.5),
        ("compete", 0.8),
    ]

    def round(self) -> None:
        names, weights = zip(*self.ACTIONS)
        for _ in range(self.random.choice([1, 1, 2, 3])):
            self.act(self.random.choices(names, weights)[0])
        if self.chance(0.1):
            self.act("settle")

    def act(self, name: str) -> None:
        self.trail.append(name)
        began = time.monotonic()
        if getattr(self, name)():
            self.done[name] += 1
        self.took[name] += time.monotonic() - began



def model(rounds: int, seed: int) -> bool:
    print(f"# the model: seed {seed}", flush=True)
    world = World(seed)
    began, at = time.monotonic(), 0
    try:
        for at in range(1, rounds + 1):
            world.round()
        at += 1
        world.act("settle")
    except Exception as wrong:
        print(f"not ok the model, round {at}: {type(wrong).__name__}: {wrong}\n"
              f"# the last actions: {', '.join(world.trail[-12:])}\n# again: pg_test/cluster/audiences {at} {seed}")
        if not isinstance(wrong, Wrong):
            traceback.print_exc()
        return False
    print(f"ok the model: {rounds} rounds, {world.seen} messages, {world.done['erase']} erasures, in {time.monotonic() - began:.0f} s")
    if os.environ.get("SEGMENTER_TIMES"):
        for name, seconds in world.took.most_common():
            print(f"# {name}: {world.done[name]} times, {seconds:.1f} s")
    kinds = {name for name, _ in World.ACTIONS} | {"settle", "ok", "failed", "refused", "given up", "failed to deliver"}
    never = sorted(name for name in kinds if not world.done[name])
    if rounds >= 1000:
        print(f"not ok everything came: {', '.join(never)} did not" if never else "ok everything came")
        return not never
    return True


# --- Pullers that are killed ----------------------------------------------------------

PULLED = """
create extension segmenter;
create schema crm;
create table crm.people (id int primary key, email text, phone text, city int not null);
insert into crm.people select g, md5('e' || g), md5('p' || g % 50), g % 5 from generate_series(1, 400) g;
select segmenter_create_segment('history', 'select id, email as hash_email, phone as hash_phone, city from crm.people where city in (0, 1)', '1 second', 'crm.history');
select segmenter_create_segment('latest', 'select id, email as hash_email, phone as hash_phone from crm.people where city in (1, 2)', null, 'crm.latest', false);
select segmenter_create_segment('large', 'select id, email as hash_email, phone as hash_phone, city from crm.people where city <> 4', null, 'crm.large');
create role one login;
create role two login;
insert into segmenter_consumers (name, role, subscribers, params) select name, name::regrole, '{postgres}', '{"max_attempts": 1000}' from unnest('{one,two}'::text[]) name;
select segmenter_subscribe('one', 'history', 'delta', '{"batch_size": 7}'),
    segmenter_subscribe('one', 'latest', 'whole', '{"batch_size": 20, "mode": "replace"}'),
    segmenter_subscribe('one', 'large', 'no ids', '{"batch_size": 11, "fields": {"hash_phone": "phone", "city": "city"}}'),
    segmenter_subscribe('two', 'large', 'whole', '{"batch_size": 40, "mode": "replace", "fields": {"id": "user"}}'),
    segmenter_subscribe('two', 'large', 'delta', '{"batch_size": 5}'),
    segmenter_subscribe('two', 'latest', 'delta', '{"batch_size": 3, "fields": ["id", "hash_phone"]}');
"""


class Puller:
    def __init__(self, consumer: str, scratch: Path) -> None:
        self.consumer, self.out, self.log = consumer, scratch / "audiences", scratch / f"{consumer}.log"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "examples/puller.py"), f"dbname=pulled user={self.consumer}", self.consumer,
                 "--out", str(self.out), "--lease", "1 second"], stdout=log, stderr=log)

    def end(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Wrong(f"the puller of {self.consumer} does not end: {self.log.read_text()[-2000:]}") from None


def pullers(rounds: int, seed: int, scratch: Path, settings: list[str]) -> bool:
    print(f"# the pullers: seed {seed}", flush=True)
    began, chance = time.monotonic(), random.Random(seed)
    connect(database="postgres").execute("create database pulled")
    db = connect(database="pulled")
    db.execute(PULLED)
    running = [Puller("one", scratch), Puller("two", scratch)]
    ended: Counter[str] = Counter()

    def is_at_work(consumer: str) -> bool:
        return bool(db.execute("select 1 from segmenter_deliveries d join segmenter_subscriptions u on u.id = d.subscription_id"
                               " join segmenter_consumers c on c.id = u.consumer_id"
                               " where c.name = %s and d.leased_until > clock_timestamp()", (consumer,)).fetchone())

    def is_connected(consumer: str) -> bool:
        return bool(db.execute("select 1 from pg_stat_activity where application_name = %s", (f"puller: {consumer}",)).fetchone())

    def waiting() -> int:
        row = db.execute("select coalesce(sum(pending_messages), 0)::int as n from segmenter_status").fetchone()
        assert row
        return row["n"]

    try:
        for round in range(1, rounds + 1):
            db.execute("update crm.people set city = (city + 1) %% 5 where id %% 11 = %s", (chance.randrange(11),))
            db.execute("update crm.people set phone = md5(phone) where id %% 13 = %s", (chance.randrange(13),))
            for name in chance.sample(["history", "latest", "large"], 2):
                row = db.execute("select status from segmenter_refresh(%s)", (name,)).fetchone()
                must_equal(row, {"status": "ok"}, f"a refresh of {name}")
            puller = running[round % 2]
            time.sleep(chance.random() * 0.1)
            if round % 5 == 0:
                kill_server(settings)
                ended["server"] += 1
                db = connect(database="pulled")
            elif round % 5 == 1:
                wait_for(f"the puller of {puller.consumer}", lambda: is_connected(puller.consumer))
                must_equal(puller.end(signal.SIGTERM), 0, f"what a puller ends with when it is told to: {puller.log.read_text()[-2000:]}")
                ended["told to"] += 1
                puller.start()
            else:
                wait_for(f"work for {puller.consumer}", lambda: is_at_work(puller.consumer), pause=0.005)
                must(puller.process.poll() is None, "a puller has ended by itself", puller.log.read_text()[-2000:])
                puller.end(signal.SIGKILL)
                ended["puller"] += 1
                puller.start()
        print(f"ok {ended['puller']} pullers and {ended['server']} servers killed, {ended['told to']} pullers told to end")
        # What nobody has told of yet is handed out when its lease has run out.
        db.execute("select count(*) from unnest('{history,latest,large}'::text[]) name, lateral segmenter_refresh(name)")
        wait_for("the end of deliveries", lambda: not waiting())
        print("ok everything is delivered")
        for puller in running:
            must_equal(puller.end(signal.SIGTERM), 0, f"what a puller ends with: {puller.log.read_text()[-2000:]}")
        print("ok the pullers end cleanly when they are told to")
        compare_files(db, scratch / "audiences")
        print("ok the files are what the segments are")
        row = db.execute("select count(*) filter (where (params ->> 'attempt')::int > 1) as again, count(*) as all from segmenter_log"
                         " where action = 'deliver' and status = 'ok'").fetchone()
        assert row
        must(row["again"] > 0, "nothing was handed out again", row)
        print(f"ok {row['again']} of {row['all']} messages were handed out again; {time.monotonic() - began:.0f} s")
    except (Wrong, psycopg.Error) as wrong:
        print(f"not ok the pullers: {type(wrong).__name__}: {wrong}")
        if not isinstance(wrong, Wrong):
            traceback.print_exc()
        return False
    finally:
        for puller in running:
            puller.process.kill()
    return True


def compare_files(db: Connection, out: Path) -> None:
    rows = db.execute("select u.id, u.target, u.params, g.table_name::text as segment_table, u.external_id from segmenter_subscriptions u"
                      " join segmenter_segments g on g.id = u.segment_id").fetchall()
    must_equal({path.stem for path in out.glob("*.json")}, {str(row["id"]) for row in rows}, "the files")
    for row in rows:
        state = json.loads((out / f"{row['id']}.json").read_text("utf-8"))
        fields = row["params"].get("fields", list(DEFAULT))
        named = fields if isinstance(fields, dict) else {one: one for one in fields}
        members = db.execute(f"select to_jsonb(t) as member from only {row['segment_table']} t where actual_end = 'infinity'").fetchall()
        expected = Counter(canonical({name: of["member"][column] for column, name in named.items()}) for of in members)
        must(expected, "a segment without members", row)
        must_equal(Counter(map(canonical, state["members"])), expected, "a file", row)
        must_equal((state["pending"], state["target"], row["external_id"]), (None, row["target"], f"{row['id']}.json"), "a file's head", row)


if __name__ == "__main__":
    part, rounds, seed, *rest = sys.argv[1:]
    if part == "model":
        is_right = model(int(rounds), int(seed))
    else:
        is_right = pullers(int(rounds), int(seed), Path(rest[0]), rest[1:])
    sys.exit(0 if is_right else 1)
