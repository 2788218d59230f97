"""What the test servers have in common: HTTP, routes, limits, faults on demand, the audiences.

A server speaks a platform's protocol as its public description says. It is strict: what the description does
not have is refused in the platform's own form of errors, and what only a faulty client would send is noted in
`faults` besides. In a test:

    with Meta(max_rows=100) as meta:
        meta.fail_next("drop_after", path="/users$")
        ...
        assert meta.members("1") == {...} and not meta.faults

As a process of its own (`python -m platforms.meta --port 8080 --state FILE`) it is ruled over HTTP:

    GET  /-/state      everything that there is to know
    POST /-/fail       {"kind": KIND, "times": N, "path": PATTERN, …}: fail_next()
    POST /-/random     {"probability": P, "seed": N, "kinds": […]}: fail_randomly()
    POST /-/set        {NAME: VALUE, …}: settings
    POST /-/call       {"name": NAME, "args": […]}: a method, such as expire_tokens
    POST /-/reset      no more faults; the logs are empty
"""
from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .connection import HttpServer
from .faults import ANSWERED, BROKEN, SERVED, Fault
from .message import Answer, Refused, Request, bug, keys

WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
# What Segmenter sends to consumers of its own protocol only, and what no platform takes.
FOREIGN_HEADERS = {"content-encoding", "idempotency-key", "webhook-id", "webhook-signature", "webhook-timestamp"}

Member = tuple[tuple[str, str], ...]


def member(values: Iterable[tuple[str, str]]) -> Member:
    """A row by value: what is not empty, in the order of the kinds."""
    return tuple(sorted((kind, value) for kind, value in values if value))


def route(method: str, pattern: str, *, query: tuple[str, ...] = (), body: bool | None = None, auth: bool = True,
          takes: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Marks what serves a path; the groups of the pattern are its arguments.

    query: what the query may have; body: whether there may be one, else as it is usual; auth: whether the client has
    to show its right; takes: the faults on demand that are served here.
    """

    def mark(function: Any) -> Any:
        has_body = method in ("POST", "PUT", "PATCH") if body is None else body
        function.route = Route(method, re.compile(pattern), function, query, has_body, auth, takes)
        return function

    return mark


@dataclass
class Route:
    method: str
    pattern: re.Pattern[str]
    function: Callable[..., Answer]
    query: tuple[str, ...]
    body: bool
    auth: bool
    takes: tuple[str, ...]


@dataclass
class Audience:
    """An audience: its members by value, each with the time when it was added last."""

    id: str
    name: str
    members: dict[Member, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, rows: Iterable[Member]) -> None:
        now = time.time()
        self.members.update((row, now) for row in rows)

    def remove(self, rows: Iterable[Member]) -> None:
        for row in rows:
            self.members.pop(row, None)

    def replace(self, rows: Iterable[Member]) -> None:
        self.members = {}
        self.add(rows)

    def dump(self) -> dict[str, Any]:
        return {"name": self.name, "members": sorted(map(list, self.members)), **self.details}


class Job:
    """Something that a platform does later: after a number of looks at its state and some seconds."""

    def __init__(self, platform: Platform, finish: Callable[[], None], failed: bool = False) -> None:
        self.looks = platform.processing_polls
        self.ends = time.monotonic() + platform.processing_seconds
        self.finish, self.failed, self.ended = finish, failed, False

    def settle(self, force: bool = False) -> None:
        if not self.ended and (force or (self.looks <= 0 and time.monotonic() >= self.ends)):
            self.ended = True
            if not self.failed:
                self.finish()

    def look(self) -> bool:
        """Whether it has ended; asking brings the end nearer."""
        self.settle()
        self.looks -= 1
        return self.ended


class Platform:
    """A platform: the base of the test servers.

    Every attribute of a class that is no method is a setting, which the constructor and configure() take.
    """

    name: ClassVar[str] = ""
    # Requests in a window; none: no limit. What counts is for counts() to say.
    limit_per_second: int | None = None
    limit_per_minute: int | None = None
    limit_per_hour: int | None = None
    limit_per_day: int | None = None
    # How long something takes: so many looks at its state that say "not yet", and so many seconds.
    processing_polls = 1
    processing_seconds = 0.0
    max_body = 256 << 20
    # Attributes that are kept in the state file besides the audiences.
    kept: ClassVar[tuple[str, ...]] = ()
    # What any query may have.
    system_query: tuple[str, ...] = ()
    kinds: ClassVar[frozenset[str]] = frozenset(ANSWERED - {"not_success_200"} | set(BROKEN))

    def __init__(self, port: int = 0, *, tls: tuple[str, str] | None = None, state: str | None = None, **settings: Any) -> None:
        self.lock = threading.RLock()
        self.store: dict[str, Audience] = {}
        self.deleted: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.exceeded = 0
        self.impatient = 0
        self.jobs: list[Job] = []
        self.last_id = 0
        self._closed_until = 0.0
        self._times: deque[float] = deque()
        self._ordered: list[Fault] = []
        self._random: dict[str, Any] | None = None
        self._stopped = threading.Event()
        self._routes = [f.route for name in dir(type(self)) if hasattr(f := getattr(type(self), name), "route")]
        self._port, self._tls, self._state = port, tls, state
        self._server: HttpServer | None = None
        self.configure(**settings)

    # ---- The server.

    def start(self) -> Platform:
        self._stopped.clear()
        self._server = HttpServer(self, self._port, self._tls)
        self._port = self._server.server_address[1]
        if self._state and os.path.exists(self._state):
            self.load()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.save()
        return self

    def stop(self) -> None:
        self._stopped.set()
        if self._server:
            self._server.end()
            self._server = None

    def __enter__(self) -> Any:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    def configure(self, **settings: Any) -> None:
        with self.lock:
            for name, value in settings.items():
                if name.startswith("_") or not hasattr(type(self), name) or callable(getattr(type(self), name)):
                    raise ValueError(f"{self.name} has no setting {name!r}")
                setattr(self, name, value)

    # ---- What is there, for assertions.

    @property
    def audiences(self) -> dict[str, dict[str, Any]]:
        """The audiences by their ids: name, members as a set, and what else the platform keeps of them."""
        with self.lock:
            self.settle_due()
            return {id: {"name": a.name, "members": set(a.members), **a.details} for id, a in self.store.items()}

    def members(self, id: str, *kinds: str) -> set[Any]:
        """The members of an audience: as values of the kinds, a text where that is one kind."""
        rows = [dict(row) for row in self.audiences[str(id)]["members"]]
        if not kinds:
            kinds = tuple(sorted({kind for row in rows for kind in row}))
        return {row.get(kinds[0], "") if len(kinds) == 1 else tuple(row.get(kind, "") for kind in kinds) for row in rows}

    @property
    def recent(self) -> dict[str, int]:
        """How many requests that count there were in the last second, minute, hour, day."""
        now = time.monotonic()
        with self.lock:
            return {name: sum(t > now - seconds for t in self._times) for name, seconds in WINDOWS.items()}

    def settle(self) -> None:
        """What is in process ends now."""
        with self.lock:
            self.settle_due(force=True)

    def settle_due(self, force: bool = False) -> None:
        for job in self.jobs:
            job.settle(force)
        self.jobs = [job for job in self.jobs if not job.ended]

    def later(self, finish: Callable[[], None], failed: bool = False) -> Job:
        job = Job(self, finish, failed)
        self.jobs.append(job)
        return job

    # ---- Faults on demand.

    def fail_next(self, kind: str, times: int = 1, path: str | None = None, method: str | None = None, **how: Any) -> None:
        """The next requests that match (path is a pattern that is searched for) fail in this way.

        how: seconds (slow), size in bytes or none for without end (huge), location (redirect), wait in seconds
        (rate_limit), apply: whether the request is served nevertheless.
        """
        self.check_kind(kind)
        with self.lock:
            self._ordered.append(Fault(kind, times, path or "", method, how))

    def fail_randomly(self, probability: float, seed: int, kinds: Iterable[str] | None = None, path: str | None = None, **how: Any) -> None:
        chosen = sorted(kinds if kinds is not None else self.kinds)
        for kind in chosen:
            self.check_kind(kind)
        with self.lock:
            self._random = {"random": random.Random(seed), "probability": probability, "kinds": chosen, "path": path or "", "how": how}

    def stop_failing(self) -> None:
        with self.lock:
            self._ordered, self._random = [], None

    def reset(self) -> None:
        """No more faults; the logs are empty. Audiences stay."""
        with self.lock:
            self.stop_failing()
            self.requests, self.faults, self.exceeded, self.impatient = [], [], 0, 0
            self._times.clear()
            self._closed_until = 0.0

    def check_kind(self, kind: str) -> None:
        if kind not in self.kinds:
            raise ValueError(f"{self.name} does not fail by {kind!r}; it does by {', '.join(sorted(self.kinds))}")

    def pick(self, request: Request) -> Fault | None:
        """The fault that this request meets."""
        found = self.find(request)
        takes = found[0].takes if isinstance(found, tuple) else ()

        def suits(fault: Fault) -> bool:
            return fault.fits(request) and (fault.kind not in SERVED or fault.kind in takes)

        for fault in self._ordered:
            if fault.times > 0 and suits(fault):
                fault.times -= 1
                return fault
        if self._random and self._random["random"].random() < self._random["probability"]:
            fault = Fault(self._random["random"].choice(self._random["kinds"]), 1, self._random["path"], None, self._random["how"])
            return fault if suits(fault) else None
        return None

    # ---- One request.

    def find(self, request: Request) -> tuple[Route, tuple[str, ...]] | str:
        """What serves the request, with its arguments; else what is wrong with it."""
        matches = [(r, m.groups()) for r in self._routes if (m := r.pattern.fullmatch(request.path))]
        for r, arguments in matches:
            if r.method == request.method:
                return r, arguments
        return "method" if matches else "unknown_path"

    def process(self, request: Request) -> Answer:
        """Serves the request."""
        with self.lock:
            try:
                found = self.find(request)
                if isinstance(found, str):
                    raise Refused(found, "there is nothing of this path and method", bug=True)
                self.settle_due()
                self.meter(request)
                answer = self.serve(request, *found)
            except Refused as refused:
                answer = self.refuse(request, refused)
            except Exception:
                traceback.print_exc()
                self.faults.append(f"the test server failed: {traceback.format_exc(limit=-1)}")
                answer = self.error("server_error", "the test server failed")
            self.save()
            return self.signed(answer)

    def serve(self, request: Request, route: Route, arguments: tuple[str, ...]) -> Answer:
        self.check_headers(request)
        if route.auth:
            self.authorize(request)
        keys(request.query, "query", (), (*route.query, *self.system_query))
        if request.body and not route.body:
            raise bug(f"{request.method} with a body")
        return route.function(self, request, *arguments)

    def refuse(self, request: Request, refused: Refused) -> Answer:
        if refused.bug:
            self.faults.append(f"{request.method} {request.path}: {refused.message}")
        return self.error(refused.what, refused.message, **refused.more)

    def check_headers(self, request: Request) -> None:
        if strange := FOREIGN_HEADERS & set(request.headers):
            raise bug(f"header {min(strange)} is not part of the protocol")
        if request.body and "content-type" not in request.headers:
            raise bug("a body without content-type")
        if not re.match(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$", request.headers.get("host", "")):
            raise bug(f"host {request.headers.get('host')!r}")

    def meter(self, request: Request) -> None:
        """Counts the request; refuses what goes over a limit."""
        now = time.monotonic()
        if now < self._closed_until:
            self.impatient += 1
        if not self.counts(request):
            return
        while self._times and self._times[0] <= now - WINDOWS["day"]:
            self._times.popleft()
        for name, seconds in WINDOWS.items():
            limit = getattr(self, f"limit_per_{name}")
            if limit is not None:
                within = [t for t in self._times if t > now - seconds]
                if len(within) >= limit:
                    wait = within[-limit] + seconds - now if limit else seconds
                    self.exceeded += 1
                    raise Refused("rate_limit", f"more than {limit} requests a {name}", window=name, limit=limit, wait=wait)
        self._times.append(now)

    def limited(self, wait: float) -> None:
        """Notes what a client is told to wait; requests before are impatient."""
        self._closed_until = max(self._closed_until, time.monotonic() + wait)

    def next_id(self) -> str:
        self.last_id += 1
        return str(1000 + self.last_id)

    def lookup(self, id: str) -> Audience:
        if id not in self.store:
            raise Refused("gone", f"there is no audience {id}", id=id)
        return self.store[id]

    def delete(self, audience: Audience) -> None:
        self.deleted[audience.id] = audience.dump()
        del self.store[audience.id]

    # ---- What a platform says for itself.

    def counts(self, request: Request) -> bool:
        """Whether the request counts for the limits."""
        return True

    def authorize(self, request: Request) -> None:
        """Refuses who has no right."""
        raise NotImplementedError

    def error(self, what: str, message: str, **more: Any) -> Answer:
        """An error in the platform's form. what: invalid, unknown_path, method, unauthorized, and ANSWERED."""
        raise NotImplementedError

    def signed(self, answer: Answer) -> Answer:
        """The answer with the headers that each one has."""
        return answer

    # ---- The state, as JSON.

    def dump(self) -> dict[str, Any]:
        with self.lock:
            self.settle_due()
            return {
                "url": self.url,
                "last_id": self.last_id,
                "audiences": {id: audience.dump() for id, audience in self.store.items()},
                "deleted": self.deleted,
                "faults": self.faults,
                "exceeded": self.exceeded,
                "impatient": self.impatient,
                "recent": self.recent,
                "requests": len(self.requests),
                **{name: getattr(self, name) for name in self.kept},
            }

    def save(self) -> None:
        if self._state:
            with open(self._state + ".new", "w") as file:
                json.dump(self.dump(), file)
            os.replace(file.name, self._state)

    def load(self) -> None:
        """Takes the audiences of the state file; what was in process, and tokens, are not kept."""
        with open(self._state or "") as file:
            state = json.load(file)
        for name in ("last_id", "deleted", *self.kept):
            setattr(self, name, state[name])
        for id, found in state["audiences"].items():
            audience = self.store[id] = Audience(id, found.pop("name"))
            audience.add(tuple((kind, value) for kind, value in row) for row in found.pop("members"))
            audience.details = found

    def control(self, request: Request) -> Answer:
        """Serves the paths under /-/."""
        what = request.path.removeprefix("/-/")
        order = json.loads(request.body or b"{}")
        if what == "state" and request.method == "GET":
            return Answer(200, json.dumps({**self.dump(), "log": self.requests}, default=readable).encode())
        actions: dict[str, Callable[..., None]] = {
            "fail": self.fail_next, "random": self.fail_randomly, "set": self.configure, "reset": self.reset,
            "call": lambda name, args=(): getattr(self, name)(*args),
        }
        if what not in actions or request.method != "POST":
            return Answer(404)
        try:
            actions[what](**order)
        except (TypeError, ValueError, AttributeError) as error:
            return Answer(400, {"message": str(error)})
        return Answer(204)


def readable(value: Any) -> Any:
    """What JSON has no form for."""
    return value.decode(errors="replace") if isinstance(value, bytes) else vars(value)


def wait_header(wait: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(wait + 0.5)))}


class Tokens:
    """Access tokens that expire."""

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self.grants: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def issue(self, token: str, lifetime: float) -> None:
        self.ends[token] = time.monotonic() + lifetime

    def state(self, token: str) -> str:
        if token not in self.ends:
            return "unknown"
        return "valid" if time.monotonic() < self.ends[token] else "expired"

    def expire(self) -> None:
        self.ends = dict.fromkeys(self.ends, 0.0)


def bearer(request: Request, scheme: str = "Bearer") -> str:
    """The token of the header Authorization."""
    value = request.headers.get("authorization", "")
    if not value:
        raise Refused("unauthorized", "no header Authorization", bug=True)
    found, _, token = value.partition(" ")
    if found != scheme or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Refused("unauthorized", f"the header Authorization is not \"{scheme} TOKEN\"", bug=True)
    return token


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as JSON or else as text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(platform: type[Platform]) -> None:
    """Runs the server until it is ended by SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog=f"platforms.{platform.name}", description=platform.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", help="file in which the audiences are kept, as JSON")
    parser.add_argument("--cert", help="certificate, for HTTPS")
    parser.add_argument("--key", help="the certificate's private key")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    tls = (given.cert, given.key) if given.cert else None
    ended = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    with platform(given.port, tls=tls, state=given.state, **dict(given.set)) as server:
        print(server.url, flush=True)
        ended.wait()
