"""The consumers' side: who holds which messages, and what the audiences are that come of them."""
from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from audience import Audience, Fault, Problem
from checks import Row
from world import World

# Why a resync may be refused, as the server says.
REFUSED = {"55000", "42703", "42704", "42501", "42P16", "40001", "40P01", "55P03", "57014"}
OF_PEOPLE = {Fault.TWICE, Fault.ADDED, Fault.STRANGER}

class Held(Audience):
    """One subscription's audience, and who holds its messages."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
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

    def receive(self, id: int, operation: str, part: int, parts: int, payload: Row) -> list[str]:
        """Applies a message. Gives what is wrong with it."""
        if id <= self.last:
            return []
        members = payload["members"]
        self.recent.append(f"{id} {operation} {part}/{parts} {len(members)}{' astray' if self.is_astray else ''}")
        is_strict = not self.is_astray and not self.unsettled and payload["segment"]["name"] not in self.world.edited
        # Its id, whatever that is called.
        key = "key" if members and "id" not in members[0] else "id"
        problems = []
        for problem in self.take(id, operation, part, parts, members, key):
            # Who was erased is taken out of messages that wait, and removed as whatever the consumer may have.
            about = [one for one in problem.about if one not in self.world.erased] if problem.fault in OF_PEOPLE else problem.about
            if problem.fault in OF_PEOPLE and not about:
                continue
            # These are wrong whatever has happened before.
            if is_strict or problem.fault == Fault.TWICE or problem.fault == Fault.PART and operation == "replace":
                problems.append(str(Problem(problem.fault, about)))
        if operation == "delete" or operation == "replace" and part == parts:
            self.is_astray &= id < self.astray_through
        return problems


class Audiences:
    """All of one set's, for claimers in several threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.Lock()
        self.all: dict[uuid.UUID, Held] = {}
        self.pushed = 0
        # How often leases were ended.
        self.settled = 0

    def of(self, subscription: uuid.UUID) -> Held:
        return self.all.setdefault(subscription, Held(self.world))

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
            for problem in audience.receive(*(message[name] for name in ("message_id", "operation", "part", "parts", "payload"))):
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
            # A resync may have committed, and its thread not have come to say so.
            is_ending = self.of(message["subscription_id"]).unsettled > 0
            return time.monotonic() < held_until and settled == self.settled and not is_ending

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
        before = audience.is_astray, audience.astray_through
        audience.is_astray, audience.astray_through = True, sys.maxsize
        try:
            with self.ending_leases(subscription):
                yield
        except psycopg.Error as error:
            # What was refused has dropped nothing. Where the connection was lost, nobody knows; and another one may be under way.
            if error.sqlstate in REFUSED and not audience.unsettled:
                audience.is_astray, audience.astray_through = before
            else:
                audience.astray_through = 0
            raise
        audience.is_astray, audience.astray_through = True, newest() or 0

    def push(self, received: list[Row]) -> None:
        """What a consumer's function has got."""
        for row in received:
            message = row["message"]
            self.apply({"subscription_id": row["subscription_id"], "message_id": row["message_id"], "payload": message,
                        **{name: message[name] for name in ("operation", "part", "parts")}})
            self.pushed = row["place"]


# What the condition of a subscription says of a member, in SQL and here.
FILTERS: dict[str, Callable[[Row], bool]] = {
    "city < 6": lambda member: member["city"] is not None and member["city"] < 6,
    "hash_phone is null or (spent > 900) is not false": lambda member: member["hash_phone"] is None or member["spent"] is None or member["spent"] > 900,
    "length(id) % 2 = 0": lambda member: len(member["id"]) % 2 == 0,
    "false": lambda member: False,
}


def is_selected(member: Row, params: Row) -> bool:
    return FILTERS[params["where"]](member) if "where" in params else True


def project(member: Row, params: Row) -> Row:
    """A member as a subscription with such params gets it."""
    fields: Any = params.get("fields", ["id", "hash_email", "hash_phone"])
    named = fields if isinstance(fields, dict) else {field: field for field in fields}
    return {name: member[column] for column, name in named.items()}
