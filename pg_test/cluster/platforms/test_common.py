"""What all test servers have: strictness, faults, limits, connections, processes."""
from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import jwt
from .case import Case
from .client import Client, hashes, sha256
from .example import Example


class TestCommon(Case):
    """What all servers have, at the example of the simplest."""

    def setUp(self) -> None:
        self.server = self.serve(Example())
        self.client = Client(self.server.url, {"Authorization": "Bearer example-token"})
        self.audience = self.client.call("POST", "/lists", {"name": "vip"}).json["id"]
        self.path = f"/lists/{self.audience}/members"

    def add(self, *values: str) -> Any:
        return self.client.call("POST", self.path, {"add": [{"email": value} for value in values]})

    def there(self) -> set[Any]:
        return self.server.members(self.audience, "email")

    def test_members(self) -> None:
        a, b, c = hashes(3)
        self.assertEqual(self.add(a, b).json, {"received": 2, "invalid": 0})
        self.add(b, c)
        self.client.call("POST", self.path, {"remove": [{"email": a}]})
        self.assertEqual(self.there(), {b, c})
        self.client.call("PUT", self.path, {"members": [{"email": a, "phone": b}]})
        self.assertEqual(self.server.members(self.audience, "email", "phone"), {(a, b)})
        self.assertEqual(self.client.call("GET", "/lists").json, {"lists": [{"id": self.audience, "name": "vip", "size": 1}]})
        self.assertEqual(self.client.call("DELETE", f"/lists/{self.audience}").status, 204)
        self.assertEqual((self.server.audiences, list(self.server.deleted)), ({}, [self.audience]))
        self.assertEqual(self.client.call("DELETE", f"/lists/{self.audience}").status, 404)
        self.no_faults(self.server)

    def test_log(self) -> None:
        self.add(*hashes(1))
        last = self.server.requests[-1]
        self.assertEqual((last["method"], last["path"], last["answer"], last["fault"]), ("POST", self.path, 200, None))
        self.assertEqual(last["body"], {"add": [{"email": hashes(1)[0]}]})
        self.assertEqual(last["headers"]["authorization"], "Bearer ***")

    def test_strict(self) -> None:
        good = hashes(1)[0]
        for body, kind, pattern in (
            ("{", "application/json", "malformed JSON"),
            ('{"add": [], "add": []}', "application/json", "twice"),
            ('{"add": NaN}', "application/json", "NaN"),
            (b'{"add": "\xff"}', "application/json", "UTF-8"),
            ({"add": []}, "form", "content type"),
            ("{}", "text/plain", "content type"),
            ({"add": [{"email": good}], "more": 1}, "json", "unknown more"),
            ({}, "json", "one of add and remove"),
            ([], "json", "no object"),
            ({"add": [{"email": good, "mail": good}]}, "json", "unknown mail"),
            ({"add": [{"email": good.upper()}]}, "json", "SHA-256"),
            ({"add": [{"email": "a@example.com"}]}, "json", "SHA-256"),
            ({"add": [{"email": None}]}, "json", "None is no str"),
            ({"add": [{"email": good}] * 1001}, "json", "1001 members"),
        ):
            with self.subTest(pattern):
                self.assertEqual(self.client.call("POST", self.path, body, kind=kind).status, 400)
                self.bug(self.server, pattern)
        self.assertEqual(self.there(), set())

    def test_paths_and_headers(self) -> None:
        self.assertEqual(self.client.call("GET", "/nothing").status, 404)
        self.bug(self.server, "nothing of this path")
        self.assertEqual(self.client.call("PATCH", self.path, {}).status, 405)
        self.bug(self.server, "nothing of this path")
        self.assertEqual(self.client.call("GET", "/lists", query={"a": 1}).status, 400)
        self.bug(self.server, "unknown a")
        self.assertEqual(self.client.call("GET", "/lists", headers={"Idempotency-Key": "1"}).status, 400)
        self.bug(self.server, "idempotency-key")
        self.assertEqual(self.client.call("DELETE", f"/lists/{self.audience}", {}).status, 400)
        self.bug(self.server, "with a body")
        self.assertEqual(self.client.call("GET", "/lists", headers={"Authorization": "Token x"}).status, 401)
        self.bug(self.server, "Bearer")
        # A wrong token is a fault of who configured it, not of the client.
        self.assertEqual(self.client.call("GET", "/lists", headers={"Authorization": "Bearer x"}).status, 401)
        self.no_faults(self.server)

    def test_faults_answered(self) -> None:
        for kind, status in (("rate_limit", 429), ("server_error", 503), ("token_expired", 401), ("revoked", 403), ("gone", 404)):
            self.server.fail_next(kind, path="/members$", method="POST")
            self.assertEqual(self.client.call("GET", "/lists").status, 200)
            self.assertEqual(self.add(*hashes(1)).status, status, kind)
            self.assertEqual(self.there(), set())
        self.assertEqual(self.server.requests[-1]["fault"], "gone")
        self.server.reset()
        self.server.fail_next("rate_limit", times=2, wait=7)
        self.assertEqual([self.add(*hashes(1)).headers.get("retry-after") for _ in range(3)], ["8", "8", None])
        self.assertEqual(self.server.impatient, 1)
        with self.assertRaises(ValueError):
            self.server.fail_next("fail_processing")

    def test_faults_of_connection(self) -> None:
        a, b, c = hashes(3)
        self.server.fail_next("drop_before")
        self.broken(lambda: self.add(a))
        self.assertEqual(self.there(), set())
        self.server.fail_next("drop_after")
        self.broken(lambda: self.add(a))
        self.assertEqual(self.there(), {a})
        self.server.fail_next("truncated")
        self.broken(lambda: self.add(b))
        self.assertEqual(self.there(), {a, b})
        self.server.fail_next("garbage")
        reply = self.add(c)
        self.assertEqual((reply.status, reply.headers["content-type"][:9], self.there()), (200, "text/html", {a, b}))
        self.server.fail_next("redirect", location="http://127.0.0.1:1/")
        self.assertEqual(self.add(c).headers["location"], "http://127.0.0.1:1/")
        self.server.fail_next("huge", size=200000)
        self.assertGreater(len(self.add(c).data), 200000)
        begun = time.monotonic()
        self.server.fail_next("slow", seconds=0.2)
        self.assertEqual((self.add(c).status, time.monotonic() - begun > 0.2), (200, True))
        self.server.fail_next("partial")
        self.assertEqual(self.add(sha256("x"), sha256("y")).json, {"received": 2, "invalid": 1})
        self.no_faults(self.server)

    def test_endless_ends_with_the_server(self) -> None:
        self.server.fail_next("huge", size=None)
        connection = self.client.connect()
        connection.request("GET", "/lists", headers=self.client.headers)
        response = connection.getresponse()
        self.assertEqual(len(response.read(1 << 20)), 1 << 20)
        self.server.stop()
        with suppress(OSError, http.client.HTTPException):
            while response.read(1 << 20):
                pass
        connection.close()

    def test_random_faults(self) -> None:
        def answers() -> list[Any]:
            self.server.reset()
            self.server.fail_randomly(0.5, seed=7, kinds=["server_error", "revoked"])
            return [self.client.call("GET", "/lists").status for _ in range(40)]

        first = answers()
        self.assertEqual(set(first), {200, 503, 403})
        self.assertEqual(first, answers())
        self.server.stop_failing()
        self.assertEqual(self.client.call("GET", "/lists").status, 200)

    def test_limits(self) -> None:
        self.server.reset()
        self.server.configure(limit_per_minute=3)
        replies = [self.client.call("GET", "/lists") for _ in range(5)]
        self.assertEqual([reply.status for reply in replies], [200, 200, 200, 429, 429])
        self.assertEqual((self.server.exceeded, self.server.impatient, self.server.recent["minute"]), (2, 1, 3))
        self.assertGreater(int(replies[3].headers["retry-after"]), 50)
        self.server.configure(limit_per_minute=None, limit_per_second=2)
        with self.assertRaises(ValueError):
            self.server.configure(no_such_limit=1)

    def test_connection_is_kept(self) -> None:
        connection = self.client.connect()
        for _ in range(3):
            self.assertEqual(self.client.call("GET", "/lists", over=connection).status, 200)
            local = connection.sock.getsockname()
        self.assertEqual(self.client.call("DELETE", f"/lists/{self.audience}", over=connection).status, 204)
        self.assertEqual(self.client.call("GET", "/lists", over=connection).json, {"lists": []})
        self.assertEqual(connection.sock.getsockname(), local)
        connection.close()

    def test_chunks(self) -> None:
        connection = self.client.connect()
        body = json.dumps({"add": [{"email": hashes(1)[0]}]}).encode()
        headers = {**self.client.headers, "Content-Type": "application/json"}
        connection.request("POST", self.path, iter([body[:7], body[7:]]), headers, encode_chunked=True)
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        self.assertEqual(self.there(), set(hashes(1)))

    def test_malformed_http(self) -> None:
        for request, pattern in ((b"GET\r\n\r\n", "malformed"), (b"TRACE /lists HTTP/1.1\r\nHost: localhost\r\n\r\n", "TRACE"),
                                 (b"GET /lists HTTP/1.1\r\nHost: localhost\r\nA: 1\r\nA: 2\r\n\r\n", "twice")):
            with socket.create_connection(("127.0.0.1", int(self.server.url.rpartition(":")[2]))) as connection:
                connection.sendall(request)
                self.assertIn(b"400" if b"TRACE" not in request else b"501", connection.recv(4096))
            self.bug(self.server, pattern)
        # A slash of a value stays within its segment of the path.
        self.assertEqual(self.client.call("DELETE", f"/lists/{self.audience}%2Fmembers").status, 404)
        self.bug(self.server, "nothing of this path")

    def test_many_threads(self) -> None:
        def work(first: int) -> None:
            for value in hashes(20, first):
                self.add(value)

        threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.there(), set(hashes(160)))

    def test_https(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = f"{directory}/cert", f"{directory}/key"
            made = jwt.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", "-addext",
                               "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
            self.assertEqual(made.returncode, 0, made.stderr)
            server = self.serve(Example(tls=(certificate, key)))
            client = Client(server.url, self.client.headers, ca=certificate)
            self.assertEqual((server.url[:8], client.call("GET", "/lists").status), ("https://", 200))


class TestProcess(Case):
    """A server as a process of its own."""

    def run_server(self, state: str) -> tuple[subprocess.Popen[str], Client]:
        command = [sys.executable, "-m", "platforms.example", "--port", "0", "--state", state, "--set", "max_rows=2", "--set", "token=t"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process, Client(process.stdout.readline().strip(), {"Authorization": "Bearer t"})

    def test_process(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            state = f"{directory}/state.json"
            process, client = self.run_server(state)
            id = client.call("POST", "/lists", {"name": "vip"}).json["id"]
            client.call("POST", f"/lists/{id}/members", {"add": [{"email": value} for value in hashes(2)]})
            self.assertEqual(client.call("POST", "/-/fail", {"kind": "server_error"}).status, 204)
            self.assertEqual(client.call("POST", "/-/fail", {"kind": "nothing"}).status, 400)
            self.assertEqual([client.call("GET", "/lists").status for _ in range(2)], [503, 200])
            self.assertEqual(client.call("POST", "/-/set", {"limit_per_minute": 0}).status, 204)
            self.assertEqual(client.call("GET", "/lists").status, 429)
            found = client.call("GET", "/-/state").json
            self.assertEqual((found["exceeded"], found["faults"], len(found["log"])), (1, [], 5))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)
            kept = json.loads(Path(state).read_text())
            self.assertEqual([list(row) for row in kept["audiences"][id]["members"]], sorted([["email", h]] for h in hashes(2)))
            _, client = self.run_server(state)
            self.assertEqual(client.call("GET", "/lists").json["lists"], [{"id": id, "name": "vip", "size": 2}])
