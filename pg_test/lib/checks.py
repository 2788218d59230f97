"""What the tests in Python share: how a check fails, short ways to ask the server, and waiting."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


class Wrong(Exception):
    """Something is not as it has to be."""


def must(holds: object, what: str, *about: object) -> None:
    if not holds:
        raise Wrong(": ".join([what, *(str(one)[:2000] for one in about)]))


def must_equal(actual: object, expected: object, what: str, *about: object) -> None:
    must(actual == expected, what, *about, f"{expected!r} was expected, it is {actual!r}")


def rows(db: Connection, query: str, *args: object) -> list[Row]:
    return db.execute(query, args or None).fetchall()


def one(db: Connection, query: str, *args: object) -> Row:
    row = db.execute(query, args or None).fetchone()
    must(row, "no row", query)
    return row  # type: ignore[return-value]


def value(db: Connection, query: str, *args: object) -> Any:
    return next(iter(one(db, query, *args).values()))


def wait_for(what: str, condition: Callable[[], object], seconds: float = 90, pause: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not condition():
        must(time.monotonic() < end, f"{what} did not come within {seconds:.0f} s")
        time.sleep(pause)
