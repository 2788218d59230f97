"""The consumers' side: who holds which messages, and what the audiences are that come of them."""
from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from world import Row, World, is_edited

Members = dict[str, Row]


def key_of(member: Row) -> str:
    """Its id, whatever that is called."""
    return str(member.get("id", member.get("key")))


class Audience:
    """One subscription's audience, kept the way docs/consumers.md asks for: what comes again changes nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.last = 0
        self.members: Members | None = None
        self.gathered: Members | None = None
        self.part = 0
        # Whose messages they are, and at least until when; none: nobody's, as far as we know. It is not known while
        # somebody does what ends leases, and counts anew afterwards.
        self.lease: uuid.UUID | None = None
        self.held_until = 0.0
        self.unsettled = 0
        # What the server has taken note of.
        self.acked = 0
        # Messages were dropped on purpose: it need not be right until everything is handed over, by that message.
        self.is_astray = False
        self.astray_through = 0
        self.recent: deque[str] = deque(maxlen=20)

    def take(self, id: int, operation: str, part: int, parts: int, payload: Row) -> list[str]:
        """Applies a message. Gives what is wrong with it."""
        if id <= self.last:
            return []
        self.last = id
        self.recent.append(f"{id} {operation} {part}/{parts} {len(payload['members'])}{' astray' if self.is_astray else ''}")
        problems: list[str] = []
        given = {key_of(member): member for member in payload["members"]}
        twice = {id for id, times in Counter(map(key_of, payload["members"])).items() if times > 1}
        # Who is erased is removed as whatever the consumer may have.
        if twice - self.world.erased:
            problems.append(f"somebody is in a message twice: {sorted(twice)[:5]}")
        is_strict = not self.is_astray and not self.unsettled and not is_edited(payload["segment"]["name"])
        # Who was erased is taken out of messages that wait.
        known = {id for id in given if id not in self.world.erased}
        if operation != "replace" and self.gathered is not None:
            if is_strict:
                problems.append(f"{operation} amid a replace")
            self.gathered = None
        if operation == "create":
            if self.members is not None and is_strict:
                problems.append("created though it is there")
            self.members = {}
        elif operation == "delete":
            if self.members is None and is_strict:
                problems.append("deleted though it is not there")
            self.members = None
            self.is_astray &= id < self.astray_through
        elif self.members is None:
            if is_strict:
                problems.append(f"{operation} though it is not there")
            self.members = {}
        if operation == "add":
            if is_strict and known & self.members.keys():  # type: ignore[union-attr]
                problems.append(f"added who is there: {sorted(known & self.members.keys())[:5]}")  # type: ignore[union-attr]
            self.members |= given  # type: ignore[operator]
        elif operation == "remove":
            wrong = {id for id in known if self.members.get(id) != given[id]}  # type: ignore[union-attr]
            if is_strict and wrong:
                problems.append(f"removed who is not there as such: {sorted(wrong)[:5]}")
            for id_ in given:
                self.members.pop(id_, None)  # type: ignore[union-attr]
        elif operation == "replace":
            if part == 1:
                self.gathered, self.part = {}, 0
            if self.gathered is None or part != self.part + 1:
                problems.append(f"part {part} after part {self.part}")
            self.gathered = (self.gathered or {}) | given
            self.part = part
            if part == parts:
                self.members, self.gathered = self.gathered, None
                self.is_astray &= id < self.astray_through
        return problems


class Audiences:
    """All of one set's, for claimers in several threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.Lock()
        self.all: dict[uuid.UUID, Audience] = {}
        self.pushed = 0
        # How often leases were ended.
        self.settled = 0

    def of(self, subscription: uuid.UUID) -> Audience:
        return self.all.setdefault(subscription, Audience(self.world))

    def claimed(self, messages: list[Row], began: float, seconds: float, acked: int, settled: int) -> None:
        """Messages of one claim, which are ours. Before it, `acked` was known to be delivered, and so often leases had been ended."""
        with self.lock:
            subscription = messages[0]["subscription_id"]
            audience = self.of(subscription)
            ids = [message["message_id"] for message in messages]
            if {message["subscription_id"] for message in messages} != {subscription} or ids != sorted(set(ids)):
                self.world.fail(f"a claim of several subscriptions, or out of order: {ids}")
            if ids[0] <= acked:
                self.world.fail(f"message {ids[0]} of subscription {subscription} was handed out, though {acked} was acknowledged")
            # It was given us before now.
            if audience.lease and not audience.unsettled and time.monotonic() < audience.held_until:
                self.world.fail(f"subscription {subscription} was handed out, though lease {audience.lease} holds it")
            # The server's lease begins later than we asked for it, so it ends later too.
            audience.lease, audience.held_until = messages[0]["lease"], began + seconds
            # Unless it was ended before we got to hear of it.
            if audience.unsettled or settled != self.settled:
                audience.lease = None

    def apply(self, message: Row) -> None:
        with self.lock:
            audience = self.of(message["subscription_id"])
            for problem in audience.take(*(message[name] for name in ("message_id", "operation", "part", "parts", "payload"))):
                self.world.suspects.append(message["subscription_id"])
                self.world.fail(f"message {message['message_id']} of subscription {message['subscription_id']}"
                                f" ({message['payload']['segment']['name']}, {message['operation']}): {problem}; it has got {list(audience.recent)}")

    def answering(self, message: Row, is_last: bool) -> float:
        """Before a claimer answers: until when the message is his; the last answer ends the lease."""
        with self.lock:
            audience = self.of(message["subscription_id"])
            is_ours = audience.lease == message["lease"] and not audience.unsettled
            if is_last and audience.lease == message["lease"]:
                audience.lease = None
            return audience.held_until if is_ours else 0.0

    def refused(self, message: Row, held_until: float, settled: int) -> bool:
        """Whether an answer was refused that should not have been."""
        with self.lock:
            return time.monotonic() < held_until and settled == self.settled

    def acked(self, message: Row) -> None:
        with self.lock:
            audience = self.of(message["subscription_id"])
            audience.acked = max(audience.acked, message["message_id"])

    def known_acked(self) -> dict[uuid.UUID, int]:
        with self.lock:
            return {id: audience.acked for id, audience in self.all.items()}

    @contextmanager
    def ending_leases(self, subscription: uuid.UUID) -> Iterator[None]:
        """While a subscription's leases are ended by others."""
        with self.lock:
            audience = self.of(subscription)
            audience.unsettled += 1
        try:
            yield
        finally:
            with self.lock:
                audience.unsettled -= 1
                audience.lease = None
                self.settled += 1

    @contextmanager
    def dropping(self, subscription: uuid.UUID, newest: Callable[[], int | None]) -> Iterator[None]:
        """While messages of it are dropped, which somebody may have applied, and everything is handed over, up to the newest."""
        audience = self.of(subscription)
        audience.is_astray, audience.astray_through = True, sys.maxsize
        try:
            with self.ending_leases(subscription):
                yield
        finally:
            audience.is_astray, audience.astray_through = True, newest() or 0

    def push(self, received: list[Row]) -> None:
        """What a consumer's function has got."""
        for row in received:
            message = row["message"]
            self.apply({"subscription_id": row["subscription_id"], "message_id": row["message_id"], "payload": message,
                        **{name: message[name] for name in ("operation", "part", "parts")}})
            self.pushed = row["place"]


def project(member: Row, params: Row) -> Row:
    """A member as a subscription with such params gets it."""
    fields: Any = params.get("fields", ["id", "hash_email", "hash_phone"])
    named = fields if isinstance(fields, dict) else {field: field for field in fields}
    return {name: member[column] for column, name in named.items()}
