"""The consumer's side, as docs/consumers.md describes it: what an audience is after the messages that a consumer
was given, and what is wrong with a message. One model for all tests; each says which faults are to be expected.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Row = dict[str, Any]
# A member, so that it can be counted.
Canonical = frozenset[tuple[str, Any]]


def canonical(member: Row) -> Canonical:
    return frozenset(member.items())


class Fault(Enum):
    PART = "a part is missing, or comes twice"
    UNFINISHED = "it comes while parts of the operation before are missing"
    THERE = "the audience is created though it is there"
    ABSENT = "there is no such audience"
    TWICE = "members are in it twice"
    ADDED = "members are added who are there"
    STRANGER = "members are removed who are not there as such"


@dataclass
class Problem:
    fault: Fault
    # The members that it is about, or their ids where members have one.
    about: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return self.fault.value + (f": {sorted(map(str, self.about))[:5]}" if self.about else "")


class Audience:
    """One subscription's audience."""

    def __init__(self) -> None:
        # The last message that was applied: what comes again changes nothing.
        self.last = 0
        # The members as they are, however often; none: there is no audience. And by their ids, where they have some.
        self.members: Counter[Canonical] | None = None
        self.people: dict[Any, Row] | None = None
        # Members of a replace whose last part is not there yet.
        self.gathered: list[Row] | None = None
        # The operation of the last message, its run, the part, and of how many.
        self.part: tuple[str, Any, int, int] | None = None

    def take(self, id: int, operation: str, part: int, parts: int, members: list[Row], key: str | None,
             run: Any = None) -> list[Problem]:
        """Applies a message, whatever is wrong with it. `key`: what members call their id; `run`: of the refresh."""
        if id <= self.last:
            return []
        self.last = id
        problems = self._follow(operation, part, parts, run)
        if key:
            twice = [one for one, times in Counter(member[key] for member in members).items() if times > 1]
            problems += [Problem(Fault.TWICE, twice)] if twice else []
        if operation == "create":
            problems += [Problem(Fault.THERE)] if self.members is not None else []
            self._set([], key)
        elif operation == "delete":
            problems += [Problem(Fault.ABSENT)] if self.members is None else []
            self.members = self.people = None
        elif operation == "replace":
            problems += [Problem(Fault.ABSENT)] if self.members is None else []
            self.gathered = [*(self.gathered or [] if part > 1 else []), *members]
            if part == parts:
                self._set(self.gathered, key)
        else:
            if self.members is None:
                problems.append(Problem(Fault.ABSENT))
                self._set([], key)
            problems += self._remove(members, key) if operation == "remove" else self._add(members, key)
        if operation != "replace" or part == parts:
            self.gathered = None
        return problems

    def _follow(self, operation: str, part: int, parts: int, run: Any) -> list[Problem]:
        """Whether it is the part that comes next, of the same operation or of another one."""
        before, self.part = self.part, (operation, run, part, parts)
        is_unfinished = before is not None and before[2] < before[3]
        # Where the run is not known, a first part may be that of another operation of the kind.
        is_new = run is None and part == 1
        is_same = is_unfinished and before[:2] == (operation, run) and not is_new  # type: ignore[index]
        problems = []
        if is_unfinished and not is_same:
            problems.append(Problem(Fault.UNFINISHED, [before]))
        if part != (before[2] + 1 if is_same else 1):  # type: ignore[index]
            problems.append(Problem(Fault.PART, [before, self.part]))
        return problems

    def _set(self, members: Iterable[Row], key: str | None) -> None:
        members = list(members)
        self.members = Counter(map(canonical, members))
        self.people = {member[key]: member for member in members} if key else None

    # With ids both keep the same; what is wrong is said by them then.
    def _add(self, members: list[Row], key: str | None) -> list[Problem]:
        assert self.members is not None
        self.members += Counter(map(canonical, members))
        if not key or self.people is None:
            return []
        known = [member[key] for member in members if member[key] in self.people]
        self.people |= {member[key]: member for member in members}
        return [Problem(Fault.ADDED, known)] if known else []

    def _remove(self, members: list[Row], key: str | None) -> list[Problem]:
        assert self.members is not None
        counted = Counter(map(canonical, members))
        strangers: list[Any] = [*(counted - self.members)]
        self.members = self.members - counted
        if key and self.people is not None:
            strangers = [member[key] for member in members if self.people.get(member[key]) != member]
            for member in members:
                self.people.pop(member[key], None)
        return [Problem(Fault.STRANGER, strangers)] if strangers else []
