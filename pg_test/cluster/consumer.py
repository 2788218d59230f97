"""A consumer over HTTP for the cluster tests: keeps audiences the way docs/consumers.md asks for,
records what it is sent, and misbehaves when it is told to.

    consumer.py PORTFILE

It listens on a free port of 127.0.0.1, which it writes to PORTFILE. Every path is a consumer.

    POST /control/PATH   {"mode": MODE, "count": N, …}: how the next N messages to PATH are answered;
                         without a count all of them. {"secret": …}: what its signatures are made with.
    POST /release/PATH   lets go of the messages that are held there
    GET  /state          everything as JSON: requests, audiences, problems; /state/requests: only those
    GET  /members/PATH   the members of the audiences there, a line each, sorted

MODE, what goes with it, and what follows; a message is applied but where it says otherwise:

    ok                    200 and a receipt
    error     body        500, not applied
    busy      after       429 with Retry-After in seconds, not applied
    closed    after       503 with Retry-After as a date so many seconds away, not applied
    redirect  location    302, not applied
    delay     after       200 and a receipt, after so many seconds
    hold      apply       200 and a receipt when it is released; apply false: not applied, and no answer then
    drop      apply       the connection is closed in place of an answer; apply false: not applied
    hang up               200 and a receipt, then the connection is closed without a word
    garbage               200 and what is no JSON
    huge      size        200 and a receipt of so many bytes
    raw       base64      200 and these bytes
"""
from __future__ import annotations

import base64
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UNTOUCHED = {"error", "busy", "closed", "redirect"}
LONG = "the mail system is down; " + "x" * 1000


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Audience:
    """A segment's copy. A message with a key that is not higher than the last one is a repeat."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.last = 0
        self.digest = ""
        self.external_id: str | None = None
        self.members: Counter[str] | None = None
        self.pending: tuple[int, Counter[str]] | None = None

    def apply(self, key: int, message: dict[str, Any], number: int) -> tuple[str, list[str]]:
        """Applies a message; says whether it was one that was applied before, and what is wrong."""
        members = Counter(canonical(member) for member in message["members"])
        digest = canonical([message["operation"], message["part"], sorted(members.elements())])
        if key <= self.last:
            is_same = key < self.last or digest == self.digest
            return "repeat", [] if is_same else ["a repeat with other content"]
        self.last, self.digest = key, digest

        problems = []
        operation, part, parts = message["operation"], message["part"], message["parts"]
        if operation == "create":
            if self.members is not None:
                problems.append("created though it is there")
            self.members = Counter()
            self.external_id = f"{self.path}-{number}"
            return "applied", problems
        if self.members is None:
            return "applied", [f"{operation} though it was not created"]
        if operation == "add":
            if members & self.members:
                problems.append("added who is there")
            self.members += members
        elif operation == "remove":
            if members - self.members:
                problems.append("removed who is not there")
            self.members -= members
        elif operation == "replace":
            before, gathered = self.pending if part > 1 and self.pending else (0, Counter())
            if part != before + 1:
                problems.append(f"part {part} after part {before}")
            gathered += members
            self.pending = (part, gathered)
            if part == parts:
                self.members, self.pending = gathered, None
        elif operation == "delete":
            self.members, self.external_id = None, None
        return "applied", problems


class Consumer:
    """All of the state, changed by one request at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.released: dict[str, threading.Event] = {}
        self.modes: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.requests: list[dict[str, Any]] = []
        self.audiences: dict[str, Audience] = {}
        self.problems: list[str] = []

    def control(self, path: str, order: dict[str, Any]) -> None:
        with self.lock:
            if "secret" in order:
                self.secrets[path] = order.pop("secret")
            if order:
                self.modes[path] = order

    def release(self, path: str) -> None:
        with self.lock:
            self.released.pop(path, threading.Event()).set()

    def receive(
        self, path: str, headers: Any, body: bytes
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], threading.Event]:
        """Records a message and applies it: how to answer, the record, the receipt, the release."""
        with self.lock:
            mode = self.modes.get(path, {"mode": "ok"})
            if "count" in mode:
                mode["count"] -= 1
                if mode["count"] <= 0:
                    del self.modes[path]
            message = json.loads(body)
            key = int(headers["Idempotency-Key"])
            record = {
                "n": len(self.requests) + 1,
                "path": path,
                "key": key,
                "operation": message["operation"],
                "part": message["part"],
                "parts": message["parts"],
                "members": len(message["members"]),
                "audience": message["audience"]["subscription_id"],
                "external_id": message["audience"]["external_id"],
                "mode": mode["mode"],
                "outcome": "not applied",
                "signature": self.verify(path, headers, body),
                "content_type": headers["Content-Type"],
                "token": headers["X-Token"],
                "began": time.time(),
                "retry_at": None,
                "ended": None,
            }
            self.requests.append(record)
            audience = self.audiences.setdefault(record["audience"], Audience(path))
            if mode["mode"] not in UNTOUCHED and mode.get("apply", True):
                record["outcome"], problems = audience.apply(key, message, record["n"])
                self.problems += [f"{path}, message {key}: {problem}" for problem in problems]
            receipt = {
                "coverage": sum((audience.members or Counter()).values()),
                "num_received": record["members"],
                "num_invalid": 0,
            }
            if record["operation"] == "create":
                receipt["external_id"] = audience.external_id
            return mode, record, receipt, self.released.setdefault(path, threading.Event())

    def verify(self, path: str, headers: Message, body: bytes) -> bool | None:
        """Whether a signature is right; none: there is neither a signature nor a secret."""
        secret, header = self.secrets.get(path), headers["webhook-signature"]
        if secret is None:
            return None if header is None else False
        key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
        id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        if id != headers["Idempotency-Key"] or abs(time.time() - int(timestamp)) > 60:
            return False
        expected = "v1," + base64.b64encode(hmac.digest(key, f"{id}.{timestamp}.".encode() + body, "sha256")).decode()
        return hmac.compare_digest(expected.encode(), (header or "").encode())

    def state(self) -> dict[str, Any]:
        with self.lock:
            return {
                "requests": [dict(record) for record in self.requests],
                "audiences": [
                    {
                        "audience": id,
                        "path": audience.path,
                        "external_id": audience.external_id,
                        "last": audience.last,
                        "members": None if audience.members is None else sorted(audience.members.elements()),
                    }
                    for id, audience in self.audiences.items()
                ],
                "problems": list(self.problems),
            }

    def members(self, path: str) -> list[str]:
        with self.lock:
            found = [a.members for a in self.audiences.values() if a.path == path and a.members]
            return sorted(member for members in found for member in members.elements())


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        what, _, path = self.path.lstrip("/").partition("/")
        if what == "members":
            self.answer(200, "".join(f"{member}\n" for member in self.server.consumer.members(path)))
        else:
            state = self.server.consumer.state()
            self.answer(200, json.dumps(state[path] if path else state))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        what, _, path = self.path.lstrip("/").partition("/")
        if what == "control":
            self.server.consumer.control(path, json.loads(body))
            self.answer(204)
        elif what == "release":
            self.server.consumer.release(path)
            self.answer(204)
        else:
            self.take(self.path.lstrip("/"), body)

    def take(self, path: str, body: bytes) -> None:
        mode, record, receipt, released = self.server.consumer.receive(path, self.headers, body)
        after = mode.get("after", 0)
        match mode["mode"]:
            case "error":
                self.answer(500, mode.get("body", LONG))
            case "busy":
                record["retry_at"] = time.time() + after
                self.answer(429, "later", {"Retry-After": str(after)})
            case "closed":
                record["retry_at"] = int(time.time()) + 1 + after
                date = formatdate(record["retry_at"], usegmt=True)
                self.answer(503, "later", {"Retry-After": date})
            case "redirect":
                self.answer(302, "", {"Location": mode["location"]})
            case "delay":
                time.sleep(after)
                self.answer(200, json.dumps(receipt))
            case "hold":
                released.wait()
                if mode.get("apply", True):
                    self.answer(200, json.dumps(receipt))
                else:
                    self.drop()
                    return
            case "drop":
                self.drop()
                return
            case "hang up":
                self.answer(200, json.dumps(receipt))
                self.drop()
            case "garbage":
                self.answer(200, "<html>thank you</html>")
            case "raw":
                self.answer_bytes(200, base64.b64decode(mode["base64"]))
            case "huge":
                self.answer(200, json.dumps(receipt | {"filler": "x" * mode["size"]}))
            case _:
                self.answer(200, json.dumps(receipt))
        record["ended"] = time.time()

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.answer_bytes(status, body.encode(), headers)

    def answer_bytes(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.consumer = Consumer()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error here: killing it is what the tests do."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main() -> None:
    server = Server()
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(server.server_address[1]))
    os.rename(file.name, sys.argv[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
