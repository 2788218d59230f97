"""The model of the cluster test exclusion, which see.

    exclusion.py ROUNDS SEED          lists, suppression, priorities, schedules, failures
    exclusion.py ROUNDS SEED held     the same, and subscriptions with filters, pauses and min_members that change

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import psycopg
from audience import Audience, Fault
from checks import Connection, Wrong, must, must_equal, rows, value
from psycopg.rows import dict_row

# A person's hash of the e-mail address and of the phone number; several people have the same ones.
Person = tuple[str | None, str | None]
Members = dict[str, Person]
COLUMNS = {"id": 0, "hash_email": 1, "hash_phone": 2}

SCHEMA = """
create extension segmenter;
create schema crm;
create table crm.base (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create table crm.shared (like crm.base including defaults, unique (segment_id, id));
create table crm.periods (like crm.base including defaults);
create unique index on crm.periods (segment_id, id) where actual_end = 'infinity';
-- A procedure that writes the rows of a segment as its source has them, whoever is on a list.
create procedure crm.load(segment uuid, source regclass, target regclass) language plpgsql as $$
begin
    execute format('update %s t set actual_end = now(), processed = now() where segment_id = $1 and actual_end = ''infinity'''
        ' and not exists (select from %s s where s.id = t.id and (s.email, s.phone) is not distinct from (t.hash_email, t.hash_phone))',
        target, source) using segment;
    execute format('insert into %s (segment_id, id, hash_email, hash_phone) select $1, s.id, s.email, s.phone from %s s'
        ' where not exists (select from %s t where t.segment_id = $1 and t.id = s.id and t.actual_end = ''infinity'')'
        || case when target = 'crm.shared'::regclass then ' on conflict (segment_id, id) do update set actual_begin = now(),'
            ' actual_end = ''infinity'', hash_email = excluded.hash_email, hash_phone = excluded.hash_phone' else '' end,
        target, source, target) using segment;
end $$;
"""


@dataclass
class Segment:
    number: int
    id: str
    kind: str
    table: str
    # What the query gives, and gave when it was refreshed last.
    source: Members = field(default_factory=dict)
    seen: Members | None = None
    members: Members = field(default_factory=dict)
    exclude: dict[int, set[str]] = field(default_factory=dict)
    exempt: set[int] = field(default_factory=set)
    is_suppression: bool = False
    priority: int | None = None
    is_actual: bool = True
    is_broken: bool = False
    # Refreshed at every run; otherwise by a schedule that never comes.
    is_frequent: bool = True
    # Its last attempt did not succeed.
    is_late: bool = False

    @property
    def name(self) -> str:
        return f"s{self.number}"


# What a filter says of a person, in SQL and here.
FILTERS: dict[str, Callable[[str, Person], bool]] = {
    "true": lambda id, person: True,
    "hash_email is not null -- only those": lambda id, person: person[0] is not None,
    "hash_phone collate \"C\" < 'p2'": lambda id, person: person[1] is not None and person[1] < "p2",
    "segmenter_bucket(id, 'spring', 2) = 0": lambda id, person: int.from_bytes(sha256(f"spring:{id}".encode()).digest()[:8], "big") % 2 == 0,
    "id::int % 3 <> 0 or (hash_email = hash_phone) is null": lambda id, person: int(id) % 3 != 0 or None in person,
}
FIELDS = [["id", "hash_email", "hash_phone"], ["id"], ["id", "hash_phone"]]


@dataclass
class Handed:
    """A member as the consumer has it, with the person whom it was made of."""
    member: dict[str, Any]
    person: Person
    # The segment has another one by now, or none.
    has_changed: bool = False


@dataclass
class Subscription:
    """What a consumer must have, by the rules alone: of filters, pauses and limits, and of people who must leave."""
    id: str
    segment: Segment
    params: dict[str, Any] = field(default_factory=dict)
    # With which filter and fields it was handed over last; and whom the consumer has: none, there is no audience.
    served: dict[str, Any] = field(default_factory=dict)
    people: dict[str, Handed] | None = None

    @staticmethod
    def selects(params: dict[str, Any], id: str, person: Person) -> bool:
        return FILTERS[params["where"]](id, person) if "where" in params else True

    @staticmethod
    def member(params: dict[str, Any], id: str, person: Person) -> dict[str, Any]:
        all = {"id": id, "hash_email": person[0], "hash_phone": person[1]}
        return {name: all[name] for name in params.get("fields", FIELDS[0])}

    def follow(self, before: Members, closed: Members, is_listed: Callable[[str, Person], bool]) -> None:
        """A run: the members were those, after lists have gained members these, and are those of the segment now."""
        members = self.segment.members
        if not self.segment.is_actual or self.segment.seen is None:
            # It begins anew when the segment is active again.
            self.people = None
            return
        wanted = {id: person for id, person in members.items() if self.selects(self.params, id, person)}
        if not self.params.get("paused") and len(wanted) >= self.params.get("min_members", 0):
            self.people = {id: Handed(self.member(self.params, id, person), person) for id, person in wanted.items()}
            self.served = dict(self.params)
            return
        if self.people is None:
            return
        for id, handed in list(self.people.items()):
            has_left = id in before and id not in closed
            if has_left or is_listed(id, handed.person):
                del self.people[id]
            elif not handed.has_changed:
                person = members.get(id)
                if person is not None and self.selects(self.served, id, person) and self.member(self.served, id, person) == handed.member:
                    handed.person = person
                else:
                    handed.has_changed = True


class Model:
    def __init__(self, db: Connection, dice: random.Random, has_holds: bool) -> None:
        self.db, self.dice, self.has_holds = db, dice, has_holds
        self.segments: list[Segment] = []
        self.audiences: dict[str, Audience] = {}
        self.subscriptions: list[Subscription] = []
        # Those that get all members, by segment.
        self.alls: dict[str, str] = {}
        self.read = 0
        self.has_new_lists = False
        self.done: Counter[str] = Counter()
        for number in range(9):
            self.create(number)

    # --- What is there.

    def create(self, number: int) -> None:
        kind = ["query", "incremental", "procedure"][number % 3]
        own = f"crm.own{number}"
        table = [own, "crm.shared", "crm.periods"][number // 3]
        self.db.execute(f"create table crm.source{number} (id text primary key, email text, phone text)")
        if table == own:
            self.db.execute(f"create table {own} (like crm.base including defaults)")
            self.db.execute(f"create unique index on {own} (id) where actual_end = 'infinity'")
        id = str(value(self.db, "insert into segmenter_segments (name, table_name, refresh_auto, guards) values (%s, %s, true, '{\"allow_empty\": true}') returning id", f"s{number}", table))
        segment = Segment(number, id, kind, table)
        self.segments.append(segment)
        if kind == "incremental":
            value(self.db, "select segmenter_watch(%s::regclass, 'id')", f"crm.source{number}")
        self.repair(segment)
        self.subscribe(segment, "all")
        if self.has_holds:
            self.subscriptions += [self.subscribe(segment, "one"), self.subscribe(segment, "two")]

    def subscribe(self, segment: Segment, target: str) -> Subscription:
        id = str(value(self.db, "select segmenter_subscribe('reader', %s, %s)", segment.name, target))
        self.audiences[id] = Audience()
        if target == "all":
            self.alls[segment.id] = id
        return Subscription(id, segment)

    def refresher(self, segment: Segment) -> dict[str, Any]:
        query = f"select id, email as hash_email, phone as hash_phone from crm.source{segment.number}"
        if segment.is_broken:
            query += " where 1 / (select count(*) - count(*) from pg_class) = 1"
        if segment.kind == "query" or segment.is_broken:
            return {"query": {"sql": query}}
        if segment.kind == "incremental":
            changed = f"{query} where id in (select c.id from changed c)"
            return {"incremental": {"watch": [f"crm.source{segment.number}"], "sql": changed}}
        return {"procedure": {"sql": f"call crm.load('{segment.id}', 'crm.source{segment.number}', '{segment.table}')"}}

    def repair(self, segment: Segment) -> None:
        self.write(segment, "refresh_params", json.dumps(self.refresher(segment)))

    def write(self, segment: Segment, column: str, what: Any) -> None:
        self.db.execute(f"update segmenter_segments set {column} = %s where id = %s", (what, segment.id))

    # --- What must be.

    def lists(self, segment: Segment) -> dict[int, set[str]]:
        found = {number: set(by) for number, by in segment.exclude.items() if self.segments[number].is_actual}
        for other in self.segments:
            if other is segment or not other.is_actual:
                continue
            is_suppressed = other.is_suppression and not segment.is_suppression and other.number not in segment.exempt
            is_behind = segment.priority is not None and other.priority is not None and other.priority < segment.priority
            if is_suppressed or is_behind:
                found.setdefault(other.number, set()).add("id")
        return found

    def order(self) -> list[Segment] | None:
        """The active segments, each after its lists; none: there is a cycle."""
        left = [segment for segment in self.segments if segment.is_actual]
        placed: list[Segment] = []
        while left:
            numbers = {segment.number for segment in left}
            free = [segment for segment in left if not numbers & set(self.lists(segment))]
            if not free:
                return None
            placed += free
            left = [segment for segment in left if segment not in free]
        return placed

    def is_listed(self, id: str, person: Person, segment: Segment) -> bool:
        for number, by in self.lists(segment).items():
            others = self.segments[number].members
            for column in by:
                mine = (id, *person)[COLUMNS[column]]
                if mine is not None and any(mine == (other, *of)[COLUMNS[column]] for other, of in others.items()):
                    return True
        return False

    def left(self, segment: Segment, people: Members) -> Members:
        return {id: person for id, person in people.items() if not self.is_listed(id, person, segment)}

    def expect(self) -> None:
        """What a run makes of the members."""
        self.before: dict[str, Members] = {}
        self.closed: dict[str, Members] = {}
        statuses = {str(row["id"]): row["last_status"] for row in rows(self.db, "select id, last_status from segmenter_status")}
        for segment in self.order() or []:
            self.before[segment.id] = dict(segment.members)
            held = self.left(segment, segment.members)
            self.closed[segment.id] = held
            must_wait = any(self.segments[number].is_late for number in self.lists(segment))
            if not segment.is_frequent and segment.seen is not None:
                # It is not due, unless a list has lost members; then it reads its source, which is as it was. It waits if it
                # was due while a list was late, which the model does not know.
                segment.is_late = statuses[segment.id] == "waiting"
                must(must_wait or not segment.is_late, f"{segment.name} waits, and no list of it is late", self.logged(segment))
                segment.members = held if must_wait else self.left(segment, segment.seen)
                continue
            segment.is_late = segment.is_broken or must_wait
            if segment.is_late:
                segment.members = held
                continue
            segment.seen = dict(segment.source)
            segment.members = self.left(segment, segment.source)

    # --- What happens.

    def change_source(self) -> None:
        segment = self.dice.choice([segment for segment in self.segments if segment.is_frequent])
        for _ in range(self.dice.randint(1, 6)):
            id = str(self.dice.randint(1, 25))
            if self.dice.random() < 0.35:
                segment.source.pop(id, None)
                self.db.execute(f"delete from crm.source{segment.number} where id = %s", (id,))
                continue
            hashed = lambda kind: None if self.dice.random() < 0.2 else f"{kind}{self.dice.randint(1, 40)}"
            person = (hashed("e"), hashed("p"))
            segment.source[id] = person
            self.db.execute(f"insert into crm.source{segment.number} values (%s, %s, %s) on conflict (id) do update"
                            " set email = excluded.email, phone = excluded.phone", (id, *person))

    def try_to(self, what: str, query: str, args: tuple[Any, ...], undo: Any) -> None:
        """A change of the config, which is refused if it makes a cycle, and only then."""
        is_cycle = self.order() is None
        try:
            self.db.execute(query, args)
        except psycopg.Error as error:
            must_equal((is_cycle, error.sqlstate), (True, "42P19"), f"{what} is refused", error)
            undo()
            self.done["refused"] += 1
        else:
            must(not is_cycle, f"{what} makes a cycle, and is not refused")
            self.has_new_lists = True
            self.done[what] += 1

    def change_lists(self) -> None:
        segment = self.dice.choice(self.segments)
        before = segment.exclude
        others = [other.number for other in self.segments if other is not segment and other.is_actual]
        chosen = self.dice.sample(others, min(len(others), self.dice.choice([0, 0, 1, 1, 2])))
        segment.exclude = {number: set(self.dice.choice([["id"], ["id"], ["hash_email"], ["id", "hash_email", "hash_phone"]])) for number in chosen}
        entries = [f"s{number}" if by == {"id"} else {"segment": f"s{number}", "by": sorted(by)} for number, by in segment.exclude.items()]
        self.try_to("exclude", "update segmenter_segments set exclude = %s where id = %s", (json.dumps(entries), segment.id),
                    lambda: setattr(segment, "exclude", before))

    def change_suppression(self) -> None:
        segment = self.dice.choice(self.segments[:4])
        before = segment.is_suppression
        segment.is_suppression = not before and sum(other.is_suppression for other in self.segments) < 2
        self.try_to("suppression", "update segmenter_segments set is_suppression = %s where id = %s", (segment.is_suppression, segment.id),
                    lambda: setattr(segment, "is_suppression", before))

    def change_exemption(self) -> None:
        segment = self.dice.choice(self.segments)
        before = segment.exempt
        lists = [other.number for other in self.segments if other.is_suppression and other is not segment and other.is_actual]
        segment.exempt = set(self.dice.sample(lists, self.dice.randint(0, len(lists))))
        exempt = {f"s{number}": "a reason" for number in segment.exempt}
        self.try_to("exempt", "update segmenter_segments set exempt = %s where id = %s", (json.dumps(exempt), segment.id),
                    lambda: setattr(segment, "exempt", before))

    def change_priorities(self) -> None:
        before = [segment.priority for segment in self.segments]
        grouped = [segment for segment in self.segments if segment.priority is not None]
        if len(grouped) > 1 and self.dice.random() < 0.6:
            one, two = self.dice.sample(grouped, 2)
            one.priority, two.priority = two.priority, one.priority
        else:
            segment = self.dice.choice(self.segments)
            taken = {other.priority for other in self.segments}
            free = [priority for priority in range(1, 12) if priority not in taken]
            segment.priority = None if segment.priority is not None else self.dice.choice(free)
        wanted = [segment.priority for segment in self.segments]

        def undo() -> None:
            for segment, priority in zip(self.segments, before):
                segment.priority = priority

        changed = [(segment.id, new) for segment, old, new in zip(self.segments, before, wanted) if old != new]
        self.try_to("priority", "update segmenter_segments s set priority = n.priority, priority_group = case when n.priority is not null then 'g' end"
                    " from unnest(%s::uuid[], %s::int[]) n (id, priority) where s.id = n.id",
                    ([id for id, _ in changed], [priority for _, priority in changed]), undo)

    def change_life(self) -> None:
        segment = self.dice.choice(self.segments)
        before = segment.is_actual
        named = any(segment.number in other.exclude for other in self.segments)
        if before and named:
            # Who names it would wait for ever.
            return
        segment.is_actual = not before
        if not before:
            # Names of lists that were retired meanwhile are none.
            segment.exclude = {number: by for number, by in segment.exclude.items() if self.segments[number].is_actual}
            self.db.execute("update segmenter_segments set exclude = '[]', exempt = '{}' where id = %s", (segment.id,))
            segment.exclude, segment.exempt = {}, set()
        self.db.execute("set segmenter.force_retire = on")
        self.try_to("life", "update segmenter_segments set actual_end = %s where id = %s", ("infinity" if segment.is_actual else "now", segment.id),
                    lambda: setattr(segment, "is_actual", before))

    def change_schedule(self) -> None:
        segment = self.dice.choice(self.segments)
        if segment.is_late or segment.seen != segment.source or segment.is_broken:
            return
        segment.is_frequent = not segment.is_frequent
        self.write(segment, "refresh_cron", None if segment.is_frequent else "0 0 1 1 *")

    def change_params(self) -> None:
        subscription = self.dice.choice(self.subscriptions)
        params = subscription.params
        match self.dice.choice(["where", "where", "fields", "paused", "paused", "min_members", "min_members", "mode"]):
            case "where":
                params.pop("where", None)
                if self.dice.random() < 0.8:
                    params["where"] = self.dice.choice(list(FILTERS))
            case "fields":
                params["fields"] = self.dice.choice(FIELDS)
            case "paused":
                params["paused"] = not params.get("paused", False)
            case "min_members":
                params["min_members"] = self.dice.choice([0, 1, 2, 4, 6, 8])
            case "mode":
                params["mode"] = self.dice.choice(["delta", "delta", "replace"])
        self.db.execute("update segmenter_subscriptions set params = %s where id = %s", (json.dumps(params), subscription.id))

    def erase(self) -> None:
        """Somebody who is in no source any more."""
        id = str(self.dice.randint(1, 25))
        for segment in self.segments:
            if segment.is_frequent or id not in segment.source:
                continue
            # A source of a segment that is not due may not change.
            return
        for segment in self.segments:
            segment.source.pop(id, None)
            self.db.execute(f"delete from crm.source{segment.number} where id = %s", (id,))
            segment.members.pop(id, None)
            if segment.seen is not None:
                segment.seen.pop(id, None)
        must(all(row["status"] == "ok" for row in rows(self.db, "select status from segmenter_erase(%s)", id)), "an erasure fails")
        for subscription in self.subscriptions:
            if subscription.people is not None:
                subscription.people.pop(id, None)
        self.done["erase"] += 1

    def break_or_repair(self) -> None:
        segment = self.dice.choice([segment for segment in self.segments if segment.is_frequent])
        segment.is_broken = not segment.is_broken
        self.repair(segment)

    def refresh_one(self) -> None:
        """A refresh by hand, of whatever is up to date: the members are right at once, and those of the others never wrong."""
        segment = self.dice.choice(self.segments)
        if segment.is_actual:
            value(self.db, "select status from segmenter_refresh(%s, full => %s)", segment.name, self.dice.random() < 0.3)
            # Lists that were given since the last run are followed with the next one.
            if not self.has_new_lists:
                self.nobody_is_listed("after a refresh by hand")

    def run(self) -> None:
        if self.dice.random() < 0.2:
            self.db.execute("call segmenter_run_each()")
        else:
            rows(self.db, "select * from segmenter_run()")
        self.has_new_lists = False

    def refresh_fully(self) -> None:
        """Directly after a run: nothing is left to find."""
        segment = self.dice.choice(self.segments)
        if segment.is_actual and not segment.is_broken:
            value(self.db, "select status from segmenter_refresh(%s, full => true)", segment.name)

    # --- What is compared.

    def stored(self, segment: Segment) -> Members:
        found = rows(self.db, f"select id, hash_email, hash_phone from only {segment.table} where segment_id = %s and actual_end = 'infinity'", segment.id)
        must_equal(len({row["id"] for row in found}), len(found), "members that are there twice", segment.name)
        return {row["id"]: (row["hash_email"], row["hash_phone"]) for row in found}

    def nobody_is_listed(self, when: str) -> None:
        """No member is on a list of its segment, whatever is late."""
        stored = {segment.number: self.stored(segment) for segment in self.segments}
        for segment in self.segments:
            if not segment.is_actual or segment.seen is None:
                continue
            for number, by in self.lists(segment).items():
                for column in by:
                    place = COLUMNS[column]
                    listed = {(id, *person)[place] for id, person in stored[number].items()} - {None}
                    both = {id for id, person in stored[segment.number].items() if (id, *person)[place] in listed}
                    must(not both, f"members of {segment.name} are in {self.segments[number].name} {when}", both, self.logged(segment), segment)

    def logged(self, segment: Segment) -> list[Any]:
        return [tuple(row.values()) for row in rows(self.db, "select segment_name, action, status, added, removed, excluded, message from segmenter_log"
                                                    " where run_id in (select l.run_id from segmenter_log l where l.segment_id = %s order by l.id desc limit 2)"
                                                    " order by id desc limit 20", segment.id)]

    def take_messages(self) -> None:
        for row in rows(self.db, "select id, subscription_id, operation, part, parts, payload, is_erasure from segmenter_outbox where id > %s order by id", self.read):
            self.read = row["id"]
            problems = self.audiences[str(row["subscription_id"])].take(row["id"], row["operation"], row["part"], row["parts"], row["payload"]["members"], "id")
            # An erasure may remove whom the consumer does not have, or has with other values, and with all of them.
            problems = [problem for problem in problems if not (row["is_erasure"] and problem.fault in (Fault.STRANGER, Fault.TWICE))]
            must(not problems, "a message", row["operation"], *problems)

    def compare(self) -> None:
        for segment in self.segments:
            if segment.is_actual:
                stored = self.stored(segment)
                if stored != segment.members:
                    must_equal(stored, segment.members, f"the members of {segment.name}", self.logged(segment), segment, self.lists(segment))
        self.take_messages()
        for subscription in self.subscriptions:
            if not subscription.segment.is_actual:
                continue
            people = self.audiences[subscription.id].people
            wanted = subscription.people and {id: handed.member for id, handed in subscription.people.items()}
            must_equal(people or None, wanted or None, f"the audience of {subscription.segment.name}", subscription.params, self.logged(subscription.segment))
            self.done["held" if subscription.params.get("paused") else "handed over"] += 1
        for segment in self.segments:
            people = self.audiences[self.alls[segment.id]].people
            if segment.is_actual and segment.seen is not None:
                handed = {id: (of["hash_email"], of["hash_phone"]) for id, of in (people or {}).items()}
                must_equal(handed, segment.members, f"the audience of {segment.name}")


def check_buckets(db: Connection, dice: random.Random) -> None:
    """segmenter_bucket() is what its definition gives in another language."""
    letters = "0123456789abcXYZ:-_ @.'\\\tЖяßÅ\u0301漢字😀\u200d"
    texts = ["".join(dice.choices(letters, k=dice.randint(0, 40))) for _ in range(20_000)]
    for salt, buckets in (("", 10_000), ("spring", 10_000), ("Ж:é", 7), ("a:b", 1), ("x", 2**31 - 1)):
        given = rows(db, "select segmenter_bucket(t, %s, %s) as bucket from unnest(%s::text[]) with ordinality u (t, n) order by n", salt, buckets, texts)
        expected = [int.from_bytes(sha256(f"{salt}:{text}".encode()).digest()[:8], "big") % buckets for text in texts]
        must_equal([row["bucket"] for row in given], expected, f"buckets of {salt!r}")


def main(rounds: int, seed: int, has_holds: bool) -> bool:
    db = psycopg.connect(dbname="shop", user="postgres", autocommit=True, row_factory=dict_row)
    db.add_notice_handler(lambda _: None)
    db.execute("set client_min_messages = error")
    db.execute(SCHEMA)
    dice = random.Random(seed)
    round = 0
    model = Model(db, dice, has_holds)
    actions = [model.change_source] * 6 + [model.change_lists] * 3 + [model.change_suppression, model.change_exemption, model.change_priorities,
               model.change_priorities, model.change_life, model.change_schedule, model.change_schedule, model.break_or_repair, model.refresh_one]
    if has_holds:
        # What is held back depends on what came before, which the model does not know of a refresh by hand.
        actions = [action for action in actions if action != model.refresh_one] + [model.change_params] * 6 + [model.erase]
    history: list[str] = []
    try:
        check_buckets(db, dice)
        for round in range(rounds):
            for _ in range(dice.randint(1, 4)):
                action = dice.choice(actions)
                history.append(action.__name__)
                action()
            model.run()
            history.append("run")
            if has_holds and dice.random() < 0.4:
                model.refresh_fully()
            # A refresh by hand between has made other figures; the run makes them what they must be.
            for segment in model.segments:
                segment.members = {} if segment.seen is None else segment.members
            model.expect()
            for subscription in model.subscriptions:
                segment = subscription.segment
                before, closed = model.before.get(segment.id, {}), model.closed.get(segment.id, {})
                subscription.follow(before, closed, lambda id, person: model.is_listed(id, person, segment))
            model.nobody_is_listed("after a run")
            model.compare()
    except (Wrong, psycopg.Error) as wrong:
        print(f"not ok round {round} with seed {seed}: {type(wrong).__name__}: {wrong}; before: {' '.join(history[-12:])}")
        return False
    print(f"ok {rounds} rounds with seed {seed}: {', '.join(f'{what} {times}' for what, times in sorted(model.done.items()))}")
    return True


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]), int(sys.argv[2]), "held" in sys.argv[3:]) else 1)
