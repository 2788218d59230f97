"""Clocks that were moved, and sequences that are behind: what is recorded lies in the future or long ago, as after a restore on another
machine, a switchover, or a wrong date. It decides nothing but when something is due.

What an actor has done may last through a pause: the doctor names it there, and then it is mended.
"""
from __future__ import annotations

import random

from checks import Connection, value

from actors import Actor, action
from world import Set

# The victim's times are those by which it is told whether anybody disturbs it.
OTHERS = "(select id from {segments} where name <> 'victim')"


def mend_times(db: Connection, of: Set) -> None:
    """No time lies in the future, and no sequence is behind; see docs/operations.md."""
    db.execute(of("update {log} set processed = now() where processed > now()"))  # type: ignore[call-overload]
    db.execute(of("update {state} set changed_at = null where changed_at > timezone('UTC', now()) + interval '1 minute'"))  # type: ignore[call-overload]

    for relation in SEQUENCES:
        name = of.names[relation]
        value(db, f"select setval(pg_get_serial_sequence('{name}', 'id'), greatest(nextval(pg_get_serial_sequence('{name}', 'id')), {highest(of, relation)}))")


# Of which relations the ids may be behind, and what the next one must be above.
SEQUENCES = ("outbox", "log")


def highest(of: Set, relation: str) -> str:
    found = f"(select coalesce(max(id), 0) from {{{relation}}})"
    return of(f"greatest({found}, (select coalesce(max(delivered_through), 0) from {{deliveries}}))" if relation == "outbox" else found)


def move_sequences(db: Connection, of: Set, dice: random.Random) -> None:
    """Where nothing goes on: as on a logical replica that has become the primary, which has no sequences, or where they were
    synchronized some time ago."""
    for relation in SEQUENCES:
        if dice.random() < 0.5:
            name = value(db, "select pg_get_serial_sequence(%s, 'id')", of.names[relation])
            position = dice.choice(["1, false", "greatest(1, last_value - 1)", "greatest(1, last_value - 100)"])
            value(db, f"select setval('{name}', {position}) from {name}")


class ClockMover(Actor):
    """The times of the log, of segments' states and attempts, of leases and retries."""
    rest = 1.5

    def shift(self) -> str:
        """Not so long ago that the log's entries would be deleted."""
        return f"interval '{self.dice.choice([-200, -25, -1, 1, 25, 2000])} hours'"

    @action(3)
    def log(self) -> None:
        hours = self.dice.choice([-200, -25, -1, 1, 25])
        self.write(f"update {{log}} set processed = processed + interval '{hours} hours' where id > (select max(id) from {{log}}) - {self.dice.choice([3, 30])}")

    @action(4)
    def state(self) -> None:
        shift = self.shift()
        columns = self.dice.choice(["started_at = started_at + {}, ended_at = ended_at + {}", "started_at = started_at + {}", "ended_at = ended_at + {}", "lost_at = lost_at + {}"])
        self.write(f"update {{state}} set {columns.replace('{}', shift)} where segment_id in (select segment_id from {{state}} where segment_id in {OTHERS} order by random() limit 3)")

    @action(2)
    def attempts(self) -> None:
        shift = self.shift()
        self.write(f"update {{attempts}} set started_at = started_at + {shift}, ended_at = ended_at + {shift}, waiting_since = waiting_since + {shift} where segment_id in {OTHERS}")

    @action(2)
    def checkpoint(self) -> None:
        """Only into the future, where it counts for nothing: an earlier one would be a lie about what was read."""
        key = self.dice.choice(["watermark", "at", "full_at"])
        self.write(f"""update {{state}} set checkpoint = jsonb_set(checkpoint, '{{{{{key}}}}}', to_jsonb((checkpoint ->> '{key}')::timestamptz + interval '3 days'))
            where checkpoint ->> '{key}' is not null and segment_id in {OTHERS}""".replace("{{", "{").replace("}}", "}"))

    @action(1)
    def retries(self) -> None:
        self.write(f"update {{deliveries}} set next_attempt_at = next_attempt_at + interval '2 days' where subscription_id in (select u.id from {{subscriptions}} u where u.segment_id in {OTHERS})")
