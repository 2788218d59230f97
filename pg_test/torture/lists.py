"""Who is left out of segments, and who is not handed over: lists, suppression lists, groups by priority, and subscriptions'
filters, pauses and limits; and the rules of these, as docs/reference.md has them, by which all is judged at a pause.

What an actor has done lasts through a pause: it is no damage, but for what the doctor names, which is mended there.
"""
from __future__ import annotations

from collections.abc import Iterable

import psycopg
from checks import Connection, Row, must, rows
from psycopg.types.json import Jsonb

from actors import Actor, action
from world import GROUP, LISTS, Set


def lists_of(segment: Row, segments: Iterable[Row]) -> list[tuple[Row, set[str]]]:
    """The active segments whose members this one leaves out, and the columns by which."""
    actual = {other["name"]: other for other in segments if other["is_actual"] and other["id"] != segment["id"]}
    named = [entry if isinstance(entry, dict) else {"segment": entry} for entry in segment["exclude"]]
    found = [(actual[entry["segment"]], set(entry.get("by", ["id"]))) for entry in named if entry["segment"] in actual]
    for other in actual.values():
        is_suppressed = other["is_suppression"] and not segment["is_suppression"] and other["name"] not in segment["exempt"]
        is_behind = segment["priority_group"] is not None and other["priority_group"] == segment["priority_group"] and other["priority"] < segment["priority"]
        if is_suppressed or is_behind:
            found.append((other, {"id"}))
    return found


def is_left_out(member: Row, lists: list[tuple[Row, set[str]]]) -> bool:
    return any(member[column] is not None and member[column] in other["keys"][column] for other, by in lists for column in by)


# A pause refreshes each segment after those whose members it leaves out, and after those it reads.
ORDER = f"name <> '{LISTS[0]}', name <> '{LISTS[1]}', name ~ '^reading', priority nulls last, name"


def mend_lists(db: Connection, of: Set) -> None:
    """Every list has an effect, and may be read by those who leave its members out; nothing is held back."""
    names = ", ".join(f"'{name}'" for name in LISTS)
    for statement in (
            # One that others leave out the members of may have been retired all the same.
            f"update {{segments}} set actual_end = 'infinity' where name in ({names}) and actual_end <> 'infinity'",
            "update {segments} set exempt = '{}' where exempt <> '{}' and not exists (select from {segments} s where s.is_suppression and s.actual_end = 'infinity')",
            """update {segments} s set priority_group = null, priority = null where priority_group is not null and (
                not exists (select from {segments} o where o.priority_group = s.priority_group and o.id <> s.id and o.actual_end = 'infinity')
                or (select count(distinct o.owner) from {segments} o where o.priority_group = s.priority_group and o.actual_end = 'infinity') > 1)""",
            "update {subscriptions} set params = params - 'paused' - 'min_members' where params ?| array['paused', 'min_members']"):
        db.execute(of(statement))  # type: ignore[call-overload]


def faults(db: Connection, of: Set) -> list[tuple[str, str]]:
    """Lists and exemptions without effect, lists that are late: what the doctor must name."""
    found = rows(db, of("""
        select 'segment "' || s.name || '" is exempt from "' || e.name || '"' as what from {segments} s cross join jsonb_object_keys(s.exempt) e (name)
        where s.actual_end = 'infinity' and not exists (select from {segments} l where l.name = e.name and l.is_suppression and l.actual_end = 'infinity')
        union all
        select 'segment "' || s.name || '" is the only one of priority group' from {segments} s where s.actual_end = 'infinity' and s.priority_group is not null
        and not exists (select from {segments} o where o.priority_group = s.priority_group and o.id <> s.id and o.actual_end = 'infinity')"""))
    return [("exclusion", row["what"]) for row in found]


class ListChanger(Actor):
    """By whom may do all of it. (Suppression lists concern all segments of a set: there are none in that of the victim.)"""
    rest = 1.0

    def one(self) -> Row | None:
        """A segment that may leave out members of others."""
        return self.segment(f"name !~ '^(odd|hostile)' and name not in ('{LISTS[0]}', '{LISTS[1]}')")

    # Whom the owner may not read at the moment it may not leave out; or the list was retired.
    @action(4, "42501", "42704")
    def exclude(self) -> None:
        if segment := self.one():
            names = self.dice.sample(LISTS, self.dice.randint(0, len(LISTS)))
            entries = [self.dice.choice([name, {"segment": name, "by": self.dice.choice([["hash_email"], ["id", "hash_phone"]])}]) for name in names]
            self.write("update {segments} set exclude = %s where id = %s", Jsonb(entries), segment["id"])

    @action(1, "42501", "42704")
    def of_a_list(self) -> None:
        if segment := self.segment(f"name = '{LISTS[1]}'"):
            self.write("update {segments} set exclude = %s where id = %s", Jsonb(self.dice.choice([[], [LISTS[0]]])), segment["id"])

    @action(1, "42501", "42704")
    def cycle(self) -> None:
        """Two that leave out each other's members."""
        with self.db.transaction(force_rollback=True):
            if segment := self.one():
                self.execute("update {segments} set exclude = %s where id = %s", Jsonb([LISTS[1]]), segment["id"])
                try:
                    done = self.execute("update {segments} set exclude = %s where name = %s and actual_end = 'infinity'", Jsonb([segment["name"]]), LISTS[1])
                except psycopg.Error as error:
                    if error.sqlstate != "42P19":
                        raise
                    self.world.count("cycles that were refused")
                else:
                    must(not done.rowcount, "a cycle was not refused", segment["name"])

    @action(2, "42501")
    def suppress(self) -> None:
        if self.of is not self.world.sets[0] and (segment := self.segment(f"name = '{LISTS[0]}'")):
            self.write("update {segments} set is_suppression = not is_suppression where id = %s", segment["id"])

    @action(1, "42704")
    def exempt(self) -> None:
        if self.of is not self.world.sets[0] and (segment := self.one()):
            self.write("update {segments} set exempt = %s where id = %s", Jsonb(self.dice.choice([{}, {LISTS[0]: "a reason"}])), segment["id"])

    # Another segment has the priority; or their owners are not the same.
    @action(2, "42501", "22023")
    def priority(self) -> None:
        if segment := self.segment(f"name = any ('{{{', '.join(GROUP)}}}')"):
            if self.dice.random() < 0.3:
                self.write("update {segments} set priority_group = null, priority = null where id = %s", segment["id"])
            else:
                self.write("update {segments} set priority_group = 'offers', priority = %s where id = %s", self.dice.randint(1, 4), segment["id"])

    @action(2, "42501", "22023")
    def all_priorities(self) -> None:
        """All at once, in another order."""
        names = self.dice.sample(GROUP, len(GROUP))
        places = ", ".join(f"('{name}', {place})" for place, name in enumerate(names, 1))
        self.write(f"update {{segments}} s set priority_group = 'offers', priority = p.place from (values {places}) p (name, place) where s.name = p.name and s.actual_end = 'infinity'")
