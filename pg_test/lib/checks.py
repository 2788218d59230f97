"""What the tests in Python share: how a check fails, short ways to ask the server, and waiting."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[2]
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


def kill_server(settings: list[str]) -> None:
    """The postmaster of the cluster at PGHOST is killed; the server is started again, with settings."""
    directory = Path(os.environ["PGHOST"])
    postmaster = int((directory / "data/postmaster.pid").read_text().splitlines()[0])
    children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
    os.kill(postmaster, signal.SIGKILL)
    # Its children end by themselves; until then the data directory is taken.
    wait_for("the end of the server's processes", lambda: not any(Path(f"/proc/{pid}").exists() for pid in [postmaster, *children]))
    (directory / "data/postmaster.pid").unlink()
    for socket in directory.glob(".s.PGSQL.*"):
        socket.unlink()
    subprocess.run([ROOT / "bin/cluster", "start", directory.name, *settings], check=True)
