#!/usr/bin/env python3
"""Pulls the messages of a consumer from Segmenter, and stores its audiences as files.

    puller.py 'host=/run/postgresql dbname=shop user=crm_sync' crm --out /var/lib/audiences

Requires psycopg 3.2 or later. Replace send() with the calls of your system, and keep the rest.
Several pullers can run at the same time: only one of them has the lease of a subscription.

The file <out>/<subscription_id>.json holds an audience:

    {"audience": name, "target": target, "message_id": the last message applied,
     "pending": null, or an unfinished replace: {"part": the last part, "members": [...]},
     "members": [...], or null after a delete}
"""
from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import ObjectNotInPrerequisiteState
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Message = dict[str, Any]
Receipt = dict[str, Any]
Connection = psycopg.Connection[Message]

POLL = 10.0  # seconds; there is no notification when the time of a retry or a schedule comes
log = logging.getLogger("puller")


# --- Replace this part -----------------------------------------------------------------

def send(message: Message, out: Path) -> Receipt:
    """Applies a message to its audience, and returns the receipt.

    A message can be delivered again; then it must change nothing. An exception is reported as
    the reason of the failure, and the message is retried later.
    """
    path = out / f"{message['subscription_id']}.json"
    # The lease of this puller may run out while it is working, and another puller may take
    # over. The lock and the check of message_id keep this one from overwriting its result.
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = {"message_id": 0, "pending": None, "members": None}
        state = json.loads(path.read_text("utf-8")) if path.exists() else new
        num_invalid = 0
        if message["message_id"] > state["message_id"]:
            num_invalid = apply(state, message)
            write(path, state)
    receipt = {"coverage": len(state["members"] or []), "num_received": len(message["payload"]["members"]),
               "num_invalid": num_invalid}
    return {**receipt, "external_id": path.name} if message["operation"] == "create" else receipt


def apply(state: dict[str, Any], message: Message) -> int:
    """Applies a message to the state. Returns how many members to remove were not there."""
    operation, part, pending = message["operation"], message["part"], state["pending"]
    members, num_invalid = message["payload"]["members"], 0
    if operation in ("create", "delete"):
        state["members"], state["pending"] = ([] if operation == "create" else None), None
    elif operation == "replace":
        before = {"part": 0, "members": []} if part == 1 else pending
        if before is None or part != before["part"] + 1:
            raise ValueError(f"part {part} does not follow what came before: resync the subscription")
        state["pending"] = {"part": part, "members": before["members"] + members}
        if part == message["parts"]:
            state["members"], state["pending"] = state["pending"]["members"], None
    elif operation not in ("add", "remove"):
        raise ValueError(f"unknown operation {operation}")
    elif pending is not None or state["members"] is None:
        raise ValueError(f"{operation} for an audience that is not complete: resync the subscription")
    else:
        # A multiset: if "id" is not among the fields, two people can have the same values.
        have = Counter(map(canonical, state["members"]))
        change = Counter(map(canonical, members))
        num_invalid = (change - have).total() if operation == "remove" else 0
        have = have - change if operation == "remove" else have + change
        state["members"] = [json.loads(member) for member in sorted(have.elements())]
    state.update(audience=message["audience"], target=message["target"], message_id=message["message_id"])
    return num_invalid


def canonical(member: Any) -> str:
    return json.dumps(member, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def write(path: Path, state: dict[str, Any]) -> None:
    """Writes the file atomically and durably: a power failure leaves the old or the new one."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(state, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


# --- Keep this part --------------------------------------------------------------------

class Puller:
    def __init__(self, dsn: str, consumer: str, out: Path, lease: str, once: bool) -> None:
        self.dsn, self.consumer, self.out, self.lease, self.once = dsn, consumer, out, lease, once
        self.stopping, self.failed, self.delay = False, False, 1.0
        # The answer (ack or nack) to the last message, until the database has it. If the
        # connection breaks it is sent after the reconnect; otherwise the message would wait until
        # its lease has run out.
        self.untold: tuple[str, tuple[Any, ...]] | None = None

    def stop(self, signum: int, _frame: object) -> None:
        log.info("stopping (%s)", signal.Signals(signum).name)
        self.stopping = True

    def run(self) -> int:
        while not self.stopping:
            try:
                # Autocommit: a claim must be committed before the message is sent.
                with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row,
                                     fallback_application_name=f"puller: {self.consumer}") as connection:
                    connection.execute("listen segmenter_outbox")
                    self.tell(connection)
                    self.serve(connection)
                    break
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if self.once:
                    raise
                log.warning("no database, again in %.0f s: %s", self.delay, error)
                until = time.monotonic() + self.delay
                while not self.stopping and time.monotonic() < until:
                    time.sleep(0.2)
                self.delay = min(self.delay * 2, 60.0)
        return 1 if self.failed else 0

    def serve(self, connection: Connection) -> None:
        """Handles messages until a signal stops it, or with --once until no message waits."""
        while not self.stopping:
            message = connection.execute("select * from segmenter_claim(%s, 1, %s::interval)",
                                         (self.consumer, self.lease)).fetchone()
            self.delay = 1.0
            if message is not None:
                self.handle(connection, message)
            elif self.once:
                return
            else:
                self.wait(connection)

    def handle(self, connection: Connection, message: Message) -> None:
        what = 'message {message_id} of "{audience}": {operation} {part}/{parts}'.format(**message)
        held = (message["lease"], message["message_id"])
        try:
            receipt = send(message, self.out)
        except Exception as error:  # after any error the message is retried
            log.exception("%s: attempt %s failed", what, message["attempt"])
            self.failed = True
            reason = f"{type(error).__name__}: {error}"[:1000]
            self.untold = "select segmenter_nack(%s, %s, %s)", (*held, reason)
        else:
            log.info("%s: %s", what, receipt)
            self.untold = "select segmenter_ack(%s, %s, %s)", (*held, Jsonb(receipt))
        self.tell(connection)

    def tell(self, connection: Connection) -> None:
        if self.untold is not None:
            try:
                connection.execute(*self.untold)
            except ObjectNotInPrerequisiteState as lost:
                # The lease ran out, and another puller has the message: it is a repeat there.
                log.warning("%s", lost)
            self.untold = None

    def wait(self, connection: Connection) -> None:
        """Waits for a notification of this consumer, in steps of a second so that signals work."""
        until = time.monotonic() + POLL
        while not self.stopping and time.monotonic() < until:
            for news in connection.notifies(timeout=1.0, stop_after=1):
                if news.payload == self.consumer:
                    return


def main() -> int:
    parser = argparse.ArgumentParser(description="Pulls a consumer's messages and keeps its audiences as files.")
    parser.add_argument("dsn", help="a libpq connection string; '' for PGHOST and the like")
    parser.add_argument("consumer", help="the consumer's name")
    parser.add_argument("--out", type=Path, default=Path("audiences"), help="directory (default: %(default)s)")
    parser.add_argument("--lease", default="5 minutes", help="longer than send() takes (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="handle what there is, then exit; 1 if some failed")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    puller = Puller(**vars(arguments))
    signal.signal(signal.SIGTERM, puller.stop)
    signal.signal(signal.SIGINT, puller.stop)
    try:
        return puller.run()
    except psycopg.Error as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
