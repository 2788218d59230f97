"""Tests of the test servers: python -m unittest platforms.test_servers, in seconds, without PostgreSQL.

The vendors' own clients drive them where they are installed: facebook-business, google-ads-datamanager.
"""
from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import jwt
from .client import Client, hashes, sha256
from .example import Example
from .google import JWT_BEARER, SCOPE, TOKEN_URL, Google
from .meta import Meta
from .server import Platform
from .tiktok import TikTok
from .vk import Vk
from .yandex import Yandex

try:
    from facebook_business.adobjects.adaccount import AdAccount
    from facebook_business.adobjects.customaudience import CustomAudience
    from facebook_business.api import FacebookAdsApi
    from facebook_business.exceptions import FacebookRequestError
    from facebook_business.session import FacebookSession
except ImportError:
    FacebookAdsApi = None
try:
    import google.auth.transport.requests
    import google.oauth2.credentials
    import google.oauth2.service_account
    from google.ads import datamanager_v1
    from google.ads.datamanager_v1.services.ingestion_service.transports import IngestionServiceRestTransport
    from google.ads.datamanager_v1.services.user_list_service.transports import UserListServiceRestTransport
except ImportError:
    datamanager_v1 = None


class Case(unittest.TestCase):
    """A test with servers of its own; a fault that it does not expect fails it."""

    def serve(self, platform: Platform) -> Any:
        platform.start()
        self.addCleanup(platform.stop)
        return platform

    def broken(self, call: Any) -> None:
        """The call gets no whole answer."""
        with self.assertRaises((OSError, http.client.HTTPException)):
            call()

    def no_faults(self, platform: Platform) -> None:
        self.assertEqual(platform.faults, [])

    def bug(self, platform: Platform, pattern: str) -> None:
        """The last request was noted as one of a faulty client."""
        self.assertTrue(platform.faults, f"no fault like {pattern}")
        self.assertRegex(platform.faults.pop(), pattern)
        self.no_faults(platform)


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
        self.bug(self.server, "not there")
        self.assertEqual(self.client.call("PATCH", self.path, {}).status, 405)
        self.bug(self.server, "not there")
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


class TestMeta(Case):
    def setUp(self) -> None:
        self.server = self.serve(Meta())
        self.client = Client(self.server.url, {"Authorization": "Bearer meta-token"})
        self.account = f"/v26.0/act_{self.server.account}/customaudiences"
        body = {"name": "vip", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"}
        self.audience = self.client.call("POST", self.account, body).json["id"]

    def payload(self, values: list[str]) -> dict[str, Any]:
        return {"schema": ["EMAIL"], "data": [[value] for value in values]}

    def users(self, method: str, values: list[str]) -> Any:
        return self.client.call(method, f"/v26.0/{self.audience}/users", {"payload": self.payload(values)})

    def replace(self, session: int, batch: int, last: bool, values: list[str]) -> Any:
        fields = {"session_id": session, "batch_seq": batch, "last_batch_flag": last}
        return self.client.call("POST", f"/v26.0/{self.audience}/usersreplace", {"payload": self.payload(values), "session": fields})

    def there(self) -> set[Any]:
        return self.server.members(self.audience, "EMAIL")

    def refused(self, reply: Any, code: int, subcode: int | None = None) -> None:
        error = reply.json["error"]
        self.assertEqual((error["code"], error.get("error_subcode")), (code, subcode), error)

    def test_users(self) -> None:
        reply = self.users("POST", hashes(3))
        self.assertEqual((reply.json["num_received"], reply.json["num_invalid_entries"], reply.json["audience_id"]), (3, 0, self.audience))
        self.users("DELETE", hashes(1))
        self.assertEqual(self.there(), set(hashes(2, 1)))
        body = {"payload": {"schema": ["EMAIL", "PHONE"], "data": [[hashes(1)[0], ""], ["", hashes(1)[0]]]}}
        self.client.call("POST", f"/v26.0/{self.audience}/users", body)
        self.assertIn((("PHONE", hashes(1)[0]),), self.server.audiences[self.audience]["members"])
        self.no_faults(self.server)

    def test_list_and_delete(self) -> None:
        self.users("POST", hashes(3))
        page = self.client.call("GET", self.account, query={"fields": "name,approximate_count_lower_bound", "limit": 1}).json
        self.assertEqual(page["data"], [{"id": self.audience, "name": "vip", "approximate_count_lower_bound": 1000}])
        self.assertNotIn("next", page["paging"])
        self.assertEqual(self.client.call("DELETE", f"/v26.0/{self.audience}").json, {"success": True})
        self.refused(self.users("POST", hashes(1)), 100, 33)
        self.assertEqual(len(self.server.deleted[self.audience]["members"]), 3)
        self.no_faults(self.server)

    def test_replace(self) -> None:
        a, b, c = hashes(2), hashes(2, 2), hashes(2, 4)
        self.users("POST", hashes(2, 10))
        self.assertEqual(self.replace(77, 1, False, a).json["num_received"], 2)
        self.assertEqual(self.there(), set(hashes(2, 10)))
        self.assertEqual(self.replace(77, 1, False, a).json["num_received"], 2)
        self.refused(self.replace(78, 1, False, c), 2650, 1870145)
        self.assertEqual(self.replace(77, 2, True, b).json["num_received"], 4)
        self.assertEqual(self.there(), {*a, *b})
        self.assertEqual(self.replace(77, 2, True, b).status, 200)
        self.no_faults(self.server)
        self.refused(self.replace(77, 3, True, c), 2650, 1870159)
        self.bug(self.server, "last_batch_flag")
        self.refused(self.replace(79, 2, True, c), 2650, 1870147)
        self.bug(self.server, "first batch_seq")
        self.replace(80, 1, False, c)
        self.refused(self.replace(80, 3, True, c), 2650, 1870147)
        self.bug(self.server, "batch 3 after 1")
        self.refused(self.replace(80, 1, True, c), 100)
        self.bug(self.server, "another last_batch_flag")
        self.users("POST", hashes(1))
        self.bug(self.server, "while a replacement")

    def test_replace_times_out(self) -> None:
        self.replace(77, 1, False, hashes(2))
        self.server.expire_sessions()
        self.refused(self.replace(77, 2, True, hashes(2, 2)), 2650, 1870158)
        self.assertEqual(self.there(), set(hashes(2)))
        self.replace(78, 1, True, hashes(3))
        self.assertEqual(self.there(), set(hashes(3)))
        self.no_faults(self.server)

    def test_strict(self) -> None:
        good = hashes(1)[0]
        for payload, pattern in (
            ({"schema": ["EMAIL"], "data": [[good, good]]}, "2 values for 1 keys"),
            ({"schema": ["MAIL"], "data": [[good]]}, "none of"),
            ({"schema": ["EMAIL"], "data": []}, "0 rows"),
            ({"schema": ["EMAIL"], "data": [[good]] * 10001}, "10001 rows"),
            ({"schema": ["EMAIL"], "data": [good]}, "no list"),
            ({"schema": ["EMAIL"], "data": [[good]], "hashed": True}, "unknown hashed"),
        ):
            with self.subTest(pattern):
                self.refused(self.client.call("POST", f"/v26.0/{self.audience}/users", {"payload": payload}), 100)
                self.bug(self.server, pattern)
        reply = self.users("POST", [good, good.upper()])
        self.assertEqual((reply.json["num_invalid_entries"], list(reply.json["invalid_entry_samples"])), (1, [f'["{good.upper()}"]']))
        self.bug(self.server, "lower-case hex")
        body = {"name": "vip", "subtype": "CUSTOM"}
        self.refused(self.client.call("POST", self.account, body), 100)
        self.bug(self.server, "missing customer_file_source")
        self.refused(self.client.call("GET", f"/v20.0/{self.audience}"), 2635)
        self.bug(self.server, "not there")
        self.refused(self.client.call("GET", f"/v26.0/{self.audience}", headers={"Authorization": "Bearer x"}), 190)

    def test_faults(self) -> None:
        self.server.fail_next("rate_limit", wait=120)
        reply = self.users("POST", hashes(1))
        self.refused(reply, 80003, 2446079)
        usage = json.loads(reply.headers["x-business-use-case-usage"])[self.server.account][0]
        self.assertEqual((reply.status, usage["estimated_time_to_regain_access"], usage["type"]), (400, 2, "custom_audience"))
        for kind, code, subcode in (("token_expired", 190, 463), ("revoked", 200, 1870090), ("gone", 100, 33), ("server_error", 2, None)):
            self.server.fail_next(kind)
            self.refused(self.users("POST", hashes(1)), code, subcode)
        self.server.fail_next("partial", path="/users")
        self.assertEqual(self.users("POST", hashes(2)).json["num_invalid_entries"], 1)
        self.assertEqual(self.there(), set(hashes(1)))
        self.server.flag_audience(self.audience)
        self.refused(self.users("POST", hashes(1)), 100, 1713230)
        self.server.configure(app_secret="secret")
        self.refused(self.client.call("GET", f"/v26.0/{self.audience}"), 100)
        self.bug(self.server, "appsecret_proof")

    @unittest.skipIf(FacebookAdsApi is None, "facebook-business is not installed")
    def test_vendor_client(self) -> None:
        session = FacebookSession(app_secret="app-secret", access_token="meta-token")
        session.GRAPH = self.server.url
        api = FacebookAdsApi(session, api_version="v26.0")
        self.server.configure(app_secret="app-secret")
        account = AdAccount(f"act_{self.server.account}", api=api)
        params = {"name": "theirs", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"}
        audience = account.create_custom_audience(params=params)
        emails = [f"person{n}@example.com" for n in range(3)]
        audience.add_users(CustomAudience.Schema.email_hash, emails)
        audience.remove_users(CustomAudience.Schema.email_hash, emails[:1])
        self.assertEqual(self.server.members(audience["id"], "EMAIL"), set(hashes(2, 1)))
        both = CustomAudience.Schema.MultiKeySchema
        params = CustomAudience.format_params([both.email, both.phone], [[emails[0], "15551234567"]], is_raw=True,
                                              session={"session_id": 5, "batch_seq": 1, "last_batch_flag": True})
        audience.create_users_replace(params=params)
        self.assertEqual(self.server.members(audience["id"], "EMAIL", "PHONE"), {(hashes(1)[0], sha256("15551234567"))})
        self.assertEqual([a["name"] for a in account.get_custom_audiences(fields=["name"])], ["vip", "theirs"])
        self.assertNotIn("meta-token", json.dumps(self.server.requests))
        audience.api_delete()
        with self.assertRaises(FacebookRequestError) as caught:
            audience.add_users(CustomAudience.Schema.email_hash, emails)
        self.assertEqual((caught.exception.api_error_code(), caught.exception.api_error_subcode()), (100, 33))
        self.no_faults(self.server)


class TestGoogle(Case):
    def setUp(self) -> None:
        self.server = self.serve(Google())
        self.lists = f"/v1/accountTypes/GOOGLE_ADS/accounts/{self.server.account}/userLists"
        self.client = Client(self.server.url)
        self.sign_in()
        info = {"uploadKeyTypes": ["CONTACT_ID"], "contactIdInfo": {"dataSourceType": "DATA_SOURCE_TYPE_FIRST_PARTY"}}
        body = {"displayName": "vip", "membershipDuration": "864000s", "ingestedUserListInfo": info}
        self.audience = self.client.call("POST", self.lists, body).json["id"]

    def grant(self, **form: str) -> Any:
        return self.client.call("POST", "/token", form, kind="form")

    def refresh(self) -> Any:
        return self.grant(grant_type="refresh_token", client_id=self.server.client_id, client_secret=self.server.client_secret,
                          refresh_token=self.server.refresh_token)

    def sign_in(self) -> None:
        self.client.headers["Authorization"] = "Bearer " + self.refresh().json["access_token"]

    def body(self, values: list[str], **more: Any) -> dict[str, Any]:
        account = {"accountType": "GOOGLE_ADS", "accountId": self.server.account}
        members = [{"userData": {"userIdentifiers": [{"emailAddress": value}]}} for value in values]
        return {"destinations": [{"operatingAccount": account, "productDestinationId": self.audience}], "audienceMembers": members,
                "encoding": "HEX", **more}

    def ingest(self, values: list[str], **more: Any) -> Any:
        terms = {"customerMatchTermsOfServiceStatus": "ACCEPTED"}
        return self.client.call("POST", "/v1/audienceMembers:ingest", self.body(values, **{"termsOfService": terms, **more}))

    def status(self, reply: Any) -> Any:
        query = {"requestId": reply.json["requestId"]}
        return self.client.call("GET", "/v1/requestStatus:retrieve", query=query).json["requestStatusPerDestination"][0]

    def there(self) -> set[Any]:
        return self.server.members(self.audience, "emailAddress")

    def refused(self, reply: Any, status: int, reason: str) -> None:
        error = reply.json["error"]
        self.assertEqual((reply.status, error["code"], error["details"][0]["reason"]), (status, status, reason), error)

    def test_members(self) -> None:
        reply = self.ingest(hashes(3))
        self.assertEqual(self.status(reply)["requestStatus"], "PROCESSING")
        done = self.status(reply)
        self.assertEqual((done["requestStatus"], done["audienceMembersIngestionStatus"]["userDataIngestionStatus"]["recordCount"]), ("SUCCESS", "3"))
        body = self.body(hashes(1))
        self.assertEqual(self.client.call("POST", "/v1/audienceMembers:remove", body).status, 200)
        self.assertEqual(self.there(), set(hashes(2, 1)))
        self.no_faults(self.server)

    def test_mark_and_sweep(self) -> None:
        self.ingest(hashes(4))
        begun = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun)) + f"{begun % 1:.6f}"[1:] + "Z"
        self.ingest(hashes(3, 2))
        sweep = {"destinations": self.body([])["destinations"], "removeAsOfTime": stamp}
        self.assertEqual(self.client.call("POST", "/v1/audienceMembers:removeAll", sweep).status, 200)
        self.assertEqual(self.there(), set(hashes(3, 2)))
        sweep["removeAsOfTime"] = "2999-01-01T00:00:00Z"
        self.refused(self.client.call("POST", "/v1/audienceMembers:removeAll", sweep), 400, "INVALID_FORMAT")
        self.bug(self.server, "no time in the past")
        del sweep["removeAsOfTime"]
        self.client.call("POST", "/v1/audienceMembers:removeAll", sweep)
        self.assertEqual(self.there(), set())
        self.no_faults(self.server)

    def test_identifiers(self) -> None:
        a, b = hashes(2)
        address = {"givenName": a, "familyName": b, "regionCode": "US", "postalCode": "94045"}
        members = [{"userData": {"userIdentifiers": [{"emailAddress": a}, {"phoneNumber": b}, {"address": address}]}}]
        self.ingest([], audienceMembers=members)
        self.assertEqual(self.server.members(self.audience, "emailAddress", "phoneNumber", "postalCode"), {(a, b, "94045")})
        self.ingest(["UJ6TMBm7KFoTSpM0uLtnnf950M4CPVKa9L10TUe0/Yo="], encoding="BASE64")
        self.assertIn(sha256("alexz@example.com"), self.there())
        self.no_faults(self.server)

    def test_strict(self) -> None:
        good = hashes(1)[0]
        member = {"userData": {"userIdentifiers": [{"emailAddress": good}]}}
        for change, reason, pattern in (
            ({"audienceMembers": [{"userData": {"userIdentifiers": [{"emailAddress": good.upper()}]}}]}, "INVALID_SHA256_FORMAT", "lower-case"),
            ({"audienceMembers": [{"userData": {"userIdentifiers": []}}]}, "REQUIRED_FIELD_MISSING", "without identifiers"),
            ({"audienceMembers": [{"userData": {"userIdentifiers": [{"emailAddress": good}] * 11}}]}, "TOO_MANY_USER_IDENTIFIERS", "11"),
            ({"audienceMembers": [{"userData": {"userIdentifiers": [{"addressInfo": {}}]}}]}, "INVALID", "addressInfo"),
            ({"audienceMembers": [member] * 10001}, "TOO_MANY_AUDIENCE_MEMBERS", "10001"),
            ({"audience_members": []}, "INVALID_ARGUMENT", "unknown audience_members"),
            ({"encoding": "hex"}, "INVALID", "hex"),
            ({"consent": {"adUserData": "yes"}}, "INVALID", "yes"),
            ({"destinations": []}, "TOO_MANY_DESTINATIONS", "0 destinations"),
        ):
            with self.subTest(pattern):
                reply = self.ingest([good], **change)
                self.assertEqual(reply.status, 400)
                self.assertIn(reason, reply.json["error"]["details"][0]["reason"])
                self.bug(self.server, pattern)
        self.assertEqual(self.there(), set())
        self.refused(self.ingest([good], termsOfService={}), 400, "TERMS_AND_CONDITIONS_NOT_SIGNED")
        self.ingest([good], validateOnly=True)
        self.assertEqual(self.there(), set())

    def test_lists(self) -> None:
        self.ingest(hashes(2))
        found = self.client.call("GET", self.lists).json["userLists"]
        self.assertEqual([(u["id"], u["displayName"], u["sizeInfo"]["searchNetworkMembersCount"]) for u in found], [(self.audience, "vip", "2")])
        self.assertEqual(self.client.call("GET", f"{self.lists}/{self.audience}").json["name"][-len(self.audience):], self.audience)
        self.assertEqual(self.client.call("DELETE", f"{self.lists}/{self.audience}").json, {})
        self.refused(self.client.call("DELETE", f"{self.lists}/{self.audience}"), 404, "NOT_FOUND")
        self.refused(self.ingest(hashes(1)), 400, "INVALID_DESTINATION")
        self.refused(self.client.call("GET", self.lists.replace(self.server.account, "1")), 403, "PERMISSION_DENIED")
        self.no_faults(self.server)

    def test_tokens(self) -> None:
        self.server.expire_tokens()
        self.refused(self.ingest(hashes(1)), 401, "ACCESS_TOKEN_EXPIRED")
        self.sign_in()
        self.assertEqual((self.ingest(hashes(1)).status, self.server.grants), (200, {"refresh_token": 2}))
        self.server.configure(token_lifetime=0.05)
        self.sign_in()
        time.sleep(0.06)
        self.refused(self.ingest(hashes(1)), 401, "ACCESS_TOKEN_EXPIRED")
        self.server.revoke()
        self.assertEqual((self.refresh().status, self.refresh().json["error"]), (400, "invalid_grant"))
        reply = self.grant(grant_type="refresh_token", client_id="x", client_secret="y", refresh_token="z")
        self.assertEqual((reply.status, reply.json["error"]), (401, "invalid_client"))
        self.no_faults(self.server)
        reply = self.client.call("POST", "/token", {"grant_type": "refresh_token"})
        self.assertEqual((reply.status, reply.json["error"]), (400, "invalid_request"))
        self.bug(self.server, "content type")
        self.assertNotIn(self.server.refresh_token, json.dumps(self.server.requests))

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        return {"iss": self.server.service_account, "scope": SCOPE, "aud": TOKEN_URL, "iat": now, "exp": now + 3600, **more}

    def test_service_account(self) -> None:
        key = self.server.service_account_key()
        header = {"alg": "RS256", "typ": "JWT", "kid": key["private_key_id"]}

        def grant(**more: Any) -> Any:
            return self.grant(grant_type=JWT_BEARER, assertion=jwt.sign(key["private_key"], header, self.claims(**more)))

        token = grant().json["access_token"]
        self.assertEqual(self.client.call("GET", self.lists, headers={"Authorization": f"Bearer {token}"}).status, 200)
        self.assertEqual(self.server.grants["jwt_bearer"], 1)
        self.no_faults(self.server)
        now = int(time.time())
        for more, error in (({"aud": "https://example.com"}, "invalid_request"), ({"scope": "all"}, "invalid_scope"),
                            ({"exp": now + 7200}, "invalid_grant"), ({"iat": now - 7200}, "invalid_grant"), ({"more": 1}, "invalid_request")):
            self.assertEqual(grant(**more).json["error"], error, more)
            self.server.faults.pop()
        self.assertEqual(grant(iss="x@example.com").json["error"], "invalid_grant")
        forged = jwt.sign(key["private_key"], header, self.claims())[:-8] + "AAAAAAAA"
        self.assertEqual(self.grant(grant_type=JWT_BEARER, assertion=forged).json["error_description"], "Invalid JWT Signature.")
        self.bug(self.server, "Signature")

    def test_signatures_by_openssl(self) -> None:
        private, public = jwt.make_key()
        _, _, signed, signature = jwt.parse(jwt.sign(private, {}, {}))
        for check in (jwt.is_signed, jwt.is_signed_by_openssl):
            self.assertTrue(check(public, signed, signature))
            self.assertFalse(check(public, signed + b".", signature))

    def test_faults(self) -> None:
        self.server.configure(limit_per_minute=2)
        self.server.reset()
        replies = [self.ingest(hashes(1)) for _ in range(3)]
        self.refused(replies[2], 429, "RATE_LIMIT_EXCEEDED")
        self.assertIn("quota_limit", replies[2].json["error"]["details"][0]["metadata"])
        self.assertEqual(self.server.exceeded, 1)
        self.server.configure(limit_per_minute=None)
        self.server.fail_next("fail_processing", path="ingest")
        failed = self.ingest(hashes(1, 5))
        self.server.settle()
        self.assertEqual(self.status(failed)["requestStatus"], "FAILED")
        self.server.fail_next("partial", path="ingest")
        partial = self.ingest(hashes(2, 8))
        self.server.settle()
        self.assertEqual(self.status(partial)["requestStatus"], "PARTIAL_SUCCESS")
        self.assertEqual(self.there(), {*hashes(1), *hashes(1, 8)})
        self.no_faults(self.server)

    @unittest.skipIf(datamanager_v1 is None, "google-ads-datamanager is not installed")
    def test_vendor_client(self) -> None:
        request = google.auth.transport.requests.Request()
        account = google.oauth2.service_account.Credentials.from_service_account_info(self.server.service_account_key(), scopes=[SCOPE])
        account.refresh(request)
        credentials = google.oauth2.credentials.Credentials(
            None, refresh_token=self.server.refresh_token, token_uri=f"{self.server.url}/token",
            client_id=self.server.client_id, client_secret=self.server.client_secret)
        credentials.refresh(request)
        host = self.server.url.removeprefix("http://")
        v1 = datamanager_v1
        lists = v1.UserListServiceClient(transport=UserListServiceRestTransport(host=host, credentials=account, url_scheme="http"))
        people = v1.IngestionServiceClient(transport=IngestionServiceRestTransport(host=host, credentials=credentials, url_scheme="http"))
        made = lists.create_user_list(parent=f"accountTypes/GOOGLE_ADS/accounts/{self.server.account}", user_list={
            "display_name": "theirs", "ingested_user_list_info": {"upload_key_types": ["CONTACT_ID"]}})
        destination = {"operating_account": {"account_type": "GOOGLE_ADS", "account_id": self.server.account}, "product_destination_id": str(made.id)}
        members = [{"user_data": {"user_identifiers": [{"email_address": value}]}} for value in hashes(2)]
        answer = people.ingest_audience_members({
            "destinations": [destination], "audience_members": members, "encoding": "HEX",
            "terms_of_service": {"customer_match_terms_of_service_status": "ACCEPTED"}})
        people.remove_audience_members({"destinations": [destination], "audience_members": members[:1], "encoding": "HEX"})
        self.assertEqual(self.server.members(str(made.id), "emailAddress"), set(hashes(1, 1)))
        states = [people.retrieve_request_status({"request_id": answer.request_id}).request_status_per_destination[0] for _ in range(2)]
        self.assertEqual([state.request_status.name for state in states], ["PROCESSING", "SUCCESS"])
        people.remove_all_audience_members({"destinations": [destination]})
        listed = lists.list_user_lists(parent=f"accountTypes/GOOGLE_ADS/accounts/{self.server.account}")
        self.assertEqual([u.display_name for u in listed], ["vip", "theirs"])
        lists.delete_user_list(name=made.name)
        self.assertEqual(self.server.deleted[str(made.id)]["members"], [])
        self.no_faults(self.server)


class TestYandex(Case):
    def setUp(self) -> None:
        self.server = self.serve(Yandex(min_rows=3, limit_per_minute=None, limit_per_hour=None))
        self.client = Client(self.server.url, {"Authorization": "OAuth yandex-token"})

    def send(self, path: str, values: list[str], header: str = "email", **query: Any) -> Any:
        file = "\n".join([header, *values]) + "\n"
        parts = [("file", "data.csv", "application/octet-stream", file)]
        return self.client.call("POST", f"/v1/management/{path}", parts, kind="multipart", query=query)

    def confirm(self, id: int, **query: Any) -> Any:
        segment = {"id": id, "name": "vip", "hashed": True, "hashing_alg": "SHA256", "content_type": "crm"}
        return self.client.call("POST", f"/v1/management/segment/{id}/confirm", {"segment": segment}, query=query)

    def states(self) -> list[str]:
        return [s["status"] for s in self.client.call("GET", "/v1/management/segments").json["segments"]]

    def make(self, values: list[str]) -> int:
        id = self.send("segments/upload_csv_file", values).json["segment"]["id"]
        self.assertEqual(self.confirm(id).json["segment"]["status"], "is_processed")
        self.assertEqual([self.states(), self.states()], [["is_processed"], ["processed"]])
        return id

    def refused(self, reply: Any, status: int, kind: str) -> None:
        self.assertEqual((reply.status, reply.json["code"], reply.json["errors"][0]["error_type"]), (status, status, kind), reply.json)

    def test_segment(self) -> None:
        id = self.make(hashes(4))
        self.assertEqual(self.server.members(str(id), "email"), set(hashes(4)))
        path = f"segment/{id}/modify_data"
        self.assertEqual(self.send(path, hashes(3, 4), modification_type="addition").json["segment"]["status"], "is_updated")
        self.assertEqual(self.server.members(str(id), "email"), set(hashes(4)))
        self.refused(self.send(path, hashes(3), modification_type="replace"), 400, "invalid_parameter")
        self.states(), self.states()
        self.assertEqual(self.server.members(str(id), "email"), set(hashes(7)))
        self.send(path, hashes(3), modification_type="subtraction")
        self.server.settle()
        self.send(path, hashes(2, 5), modification_type="replace", check_size="false")
        self.server.settle()
        self.assertEqual((self.server.members(str(id), "email"), self.states()), (set(hashes(2, 5)), ["few_data"]))
        self.assertEqual(self.client.call("DELETE", f"/v1/management/segment/{id}").json, {"success": True})
        self.refused(self.send(path, hashes(3), modification_type="replace"), 404, "not_found")
        self.no_faults(self.server)

    def test_confirm(self) -> None:
        id = self.send("segments/upload_csv_file", hashes(2)).json["segment"]["id"]
        self.assertEqual((self.states(), self.server.audiences), (["uploaded"], {}))
        self.refused(self.send(f"segment/{id}/modify_data", hashes(2), modification_type="replace"), 404, "not_found")
        self.refused(self.confirm(id), 400, "invalid_parameter")
        self.assertEqual(self.confirm(id, check_size="false").status, 200)
        self.assertEqual(self.confirm(id, check_size="false").status, 200)
        self.refused(self.confirm(id + 1), 404, "not_found")
        self.server.settle()
        self.assertEqual(self.states(), ["few_data"])
        self.no_faults(self.server)

    def test_strict(self) -> None:
        upload, good = "segments/upload_csv_file", hashes(3)
        for reply, pattern in (
            (lambda: self.send(upload, good, header="mail"), "phone, email"),
            (lambda: self.send(upload, ["a,b"]), "2 values in 1 columns"),
            (lambda: self.send(upload, []), "without rows"),
            (lambda: self.send(upload, good, check_size="no"), "unknown check_size"),
            (lambda: self.client.call("POST", f"/v1/management/{upload}", {}), "content type"),
            (lambda: self.client.call("POST", f"/v1/management/{upload}", b"--x", kind="multipart/form-data; boundary=x"), "multipart"),
            (lambda: self.client.call("POST", f"/v1/management/{upload}", [("data", "f", None, "")], kind="multipart"), "missing file"),
            (lambda: self.client.call("POST", f"/v1/management/{upload}", [("file", None, None, "")], kind="multipart"), "no filename"),
        ):
            with self.subTest(pattern):
                self.assertEqual(reply().status, 400)
                self.bug(self.server, pattern)
        id = self.send(upload, ["a@example.com", *good]).json["segment"]["id"]
        self.refused(self.confirm(id), 400, "invalid_parameter")
        self.bug(self.server, "SHA-256")
        id = self.make_other(good)
        self.refused(self.send(f"segment/{id}/modify_data", good, header="phone", modification_type="replace"), 400, "invalid_parameter")
        self.bug(self.server, "in place of")
        self.refused(self.send(f"segment/{id}/modify_data", good), 400, "invalid_parameter")
        self.bug(self.server, "modification_type")
        reply = self.client.call("GET", "/v1/management/segments", headers={"Authorization": "Bearer yandex-token"})
        self.refused(reply, 401, "unauthorized")
        self.bug(self.server, "OAuth TOKEN")

    def make_other(self, values: list[str]) -> int:
        id = self.send("segments/upload_csv_file", values).json["segment"]["id"]
        self.confirm(id)
        self.server.settle()
        return id

    def test_faults(self) -> None:
        id = self.make(hashes(3))
        self.server.fail_next("fail_processing")
        self.send(f"segment/{id}/modify_data", hashes(3, 3), modification_type="replace")
        self.assertEqual([self.states(), self.states()], [["is_updated"], ["processing_failed"]])
        self.assertEqual(self.server.members(str(id), "email"), set(hashes(3)))
        self.send(f"segment/{id}/modify_data", hashes(3, 3), modification_type="replace")
        self.server.settle()
        self.assertEqual(self.states(), ["processed"])
        self.server.configure(limit_per_minute=4)
        self.refused(self.send("segments/upload_csv_file", hashes(3)), 429, "quota")
        self.assertEqual((self.server.exceeded, self.states()), (1, ["processed"]))
        for kind, status, error in (("server_error", 503, "backend_error"), ("revoked", 403, "access_denied"), ("token_expired", 401, "unauthorized")):
            self.server.fail_next(kind)
            self.refused(self.client.call("GET", "/v1/management/segments"), status, error)


class TestVk(Case):
    lists, segments = "/api/v2/remarketing/users_lists", "/api/v2/remarketing/segments"

    def setUp(self) -> None:
        self.server = self.serve(Vk(min_rows=5, min_delta_rows=2, processing_polls=3))
        self.client = Client(self.server.url)
        self.take(self.grant("client_credentials"))

    def grant(self, kind: str, **more: str) -> Any:
        form = {"grant_type": kind, "client_id": self.server.client_id, "client_secret": self.server.client_secret, **more}
        return self.client.call("POST", "/api/v2/oauth2/token.json", form, kind="form")

    def take(self, reply: Any) -> None:
        self.pair = reply.json
        self.client.headers["Authorization"] = "Bearer " + self.pair["access_token"]

    def send(self, values: list[str], **data: Any) -> Any:
        data = {"name": "vip", "type": "emails", **data}
        parts = [("file", "list.txt", "text/plain", "\n".join(values) + "\n"), ("data", None, None, json.dumps(data))]
        return self.client.call("POST", f"{self.lists}.json", parts, kind="multipart")

    def test_lists(self) -> None:
        reply = self.send(hashes(6))
        id = reply.json["id"]
        self.assertEqual((reply.status, reply.json["status"], reply.json["base"]), (201, "loading", 0))
        states = [self.client.call("GET", f"{self.lists}/{id}.json").json["status"] for _ in range(4)]
        self.assertEqual(states, ["mapped", "writing", "writing", "ready"])
        self.assertEqual(self.send(hashes(2, 6), base=id).json["base"], id)
        self.assertEqual(self.send(hashes(3), base=-id).status, 201)
        self.assertEqual(self.server.members(str(id), "emails"), set(hashes(5, 3)))
        self.assertEqual((len(self.server.audiences), len(self.server.deltas)), (1, 2))
        self.assertEqual(self.client.call("GET", f"{self.lists}.json").json["count"], 3)
        self.assertEqual(self.client.call("POST", f"{self.lists}/{id}.json", {"name": "new"}).status, 204)
        self.assertEqual(self.client.call("DELETE", f"{self.lists}/{id}.json").status, 204)
        self.assertEqual(self.client.call("GET", f"{self.lists}/{id}.json").status, 404)
        self.assertEqual(self.server.deleted[str(id)]["name"], "new")
        self.no_faults(self.server)

    def test_least_sizes(self) -> None:
        self.assertEqual(self.send(hashes(4)).json["error"]["code"], "validation_failed")
        id = self.send(hashes(5)).json["id"]
        self.assertEqual(self.send(hashes(1, 5), base=id).status, 400)
        self.assertEqual(self.send(hashes(2, 5), base=id + 50).status, 400)
        self.assertEqual(self.server.members(str(id), "emails"), set(hashes(5)))
        self.no_faults(self.server)

    def test_strict(self) -> None:
        id = self.send(hashes(5)).json["id"]
        for reply, code, pattern in (
            (lambda: self.send([value.upper() for value in hashes(5)]), "validation_failed", "no hash"),
            (lambda: self.send(hashes(5), base=str(id)), "validation_failed", "no int"),
            (lambda: self.send(hashes(5), base=id, type="phones"), "validation_failed", "phones"),
            (lambda: self.send(hashes(5), kind="x"), "validation_failed", "unknown kind"),
            (lambda: self.client.call("POST", f"{self.lists}.json", [("data", None, None, "{}")], kind="multipart"), "required", "File"),
            (lambda: self.client.call("POST", f"{self.lists}.json", [("file", "f", None, ""), ("data", None, None, "{")], kind="multipart"),
             "invalid_json", "malformed JSON"),
        ):
            with self.subTest(pattern):
                self.assertEqual((found := reply()).json["error"]["code"], code, found.json)
                self.bug(self.server, pattern)
        self.assertEqual(self.send([hashlib.md5(value.encode()).hexdigest() for value in hashes(5)]).status, 201)
        self.server.configure(hashes=["sha256"])
        self.assertEqual(self.send([hashlib.md5(value.encode()).hexdigest() for value in hashes(5)]).status, 400)

    def test_segments(self) -> None:
        first, second = (self.send(hashes(5)).json["id"] for _ in range(2))

        def relation(source: int) -> dict[str, Any]:
            return {"object_type": "remarketing_users_list", "params": {"source_id": source, "type": "positive"}}

        made = self.client.call("POST", f"{self.segments}.json", {"name": "vip", "pass_condition": 1, "relations": [relation(first)]})
        id = made.json["id"]
        self.assertEqual(self.client.call("DELETE", f"{self.lists}/{first}.json").status, 409)
        path = f"{self.segments}/{id}/relations"
        old = self.client.call("GET", f"{path}.json").json["items"][0]["id"]
        self.assertEqual(self.client.call("DELETE", f"{path}/{old}.json").status, 400)
        self.assertEqual(self.client.call("POST", f"{path}.json", {"items": [relation(first)]}).json["error"]["code"], "relation_exists")
        self.assertEqual(self.client.call("POST", f"{path}.json", {"items": [relation(second)]}).json["items"][0]["object_id"], second)
        self.assertEqual(self.client.call("DELETE", f"{path}/{old}.json").status, 204)
        self.assertEqual(self.client.call("DELETE", f"{self.lists}/{first}.json").status, 204)
        self.assertEqual(self.client.call("DELETE", f"{self.segments}/{id}.json").status, 204)
        self.no_faults(self.server)

    def test_tokens(self) -> None:
        old = self.pair
        renewed = self.grant("refresh_token", refresh_token=old["refresh_token"])
        self.assertEqual(self.client.call("GET", f"{self.lists}.json").json, {"code": "invalid_token", "message": "Unknown access token"})
        self.take(renewed)
        self.assertNotEqual(self.pair["refresh_token"], old["refresh_token"])
        self.assertEqual(self.pair["expires_in"], "86400")
        self.assertEqual(self.client.call("GET", f"{self.lists}.json").status, 200)
        self.assertEqual(self.grant("refresh_token", refresh_token=old["refresh_token"]).status, 401)
        self.server.expire_tokens()
        reply = self.client.call("GET", f"{self.lists}.json")
        self.assertEqual((reply.status, reply.json["code"]), (401, "expired_token"))
        self.assertIn("expired_token", reply.headers["www-authenticate"])
        self.assertEqual([self.grant("client_credentials").status for _ in range(5)], [200, 200, 200, 200, 403])
        self.assertEqual(self.server.grants, {"client_credentials": 5, "refresh_token": 1})
        form = {"client_id": self.server.client_id, "client_secret": self.server.client_secret}
        self.assertEqual(self.client.call("POST", "/api/v2/oauth2/token/delete.json", form, kind="form").status, 204)
        self.take(self.grant("client_credentials"))
        self.server.revoke()
        self.assertEqual(self.client.call("GET", f"{self.lists}.json").json["code"], "revoked_token")
        self.no_faults(self.server)

    def test_faults(self) -> None:
        self.server.reset()
        self.server.configure(limit_per_hour=1)
        reply = self.client.call("GET", f"{self.lists}.json")
        self.assertEqual((reply.headers["x-ratelimit-hourly-limit"], reply.headers["x-ratelimit-hourly-remaining"]), ("1", "0"))
        self.assertEqual((self.client.call("GET", f"{self.lists}.json").status, self.server.exceeded), (429, 1))
        self.server.configure(limit_per_hour=None)
        self.server.fail_next("fail_processing")
        id = self.send(hashes(5)).json["id"]
        self.server.settle()
        self.assertEqual(self.client.call("GET", f"{self.lists}/{id}.json").json["status"], "deleted_to_notify")
        self.assertEqual(self.server.members(str(id), "emails"), set())


class TestTikTok(Case):
    base = "/open_api/v1.3/dmp/custom_audience"

    def setUp(self) -> None:
        self.server = self.serve(TikTok(min_rows=3))
        self.client = Client(self.server.url, {"Access-Token": "tiktok-token"})

    def upload(self, values: list[str], kind: str = "EMAIL_SHA256", filename: str = "data.csv", signature: str | None = None) -> Any:
        file = "\n".join(values) + "\n"
        signature = signature or hashlib.md5(file.encode()).hexdigest()
        parts = [("advertiser_id", None, None, self.server.advertiser), ("calculate_type", None, None, kind),
                 ("file_signature", None, None, signature), ("file", filename, "text/csv", file)]
        return self.client.call("POST", f"{self.base}/file/upload/", parts, kind="multipart").json

    def post(self, what: str, **body: Any) -> Any:
        return self.client.call("POST", f"{self.base}/{what}/", {"advertiser_id": self.server.advertiser, **body}).json

    def create(self, values: list[str]) -> str:
        path = self.upload(values)["data"]["file_path"]
        made = self.post("create", custom_audience_name="vip", calculate_type="EMAIL_SHA256", file_paths=[path])
        self.assertEqual(made["code"], 0, made)
        return made["data"]["custom_audience_id"]

    def update(self, id: str, values: list[str], **more: Any) -> Any:
        return self.post("update", custom_audience_id=id, file_paths=[self.upload(values)["data"]["file_path"]], **more)

    def get(self, id: str) -> Any:
        query = {"advertiser_id": self.server.advertiser, "custom_audience_ids": json.dumps([id])}
        return self.client.call("GET", f"{self.base}/get/", query=query).json["data"]["list"][0]["audience_details"]

    def test_audience(self) -> None:
        id = self.create(hashes(3))
        self.assertEqual((self.get(id)["is_valid"], self.get(id)["cover_num"]), (True, 3))
        self.assertEqual(self.update(id, hashes(2, 3), action="APPEND")["code"], 0)
        self.assertEqual(self.update(id, hashes(2), action="REMOVE")["code"], 0)
        self.assertEqual(self.server.members(id, "EMAIL_SHA256"), set(hashes(3, 2)))
        self.assertEqual(self.update(id, hashes(1, 2), action="REMOVE")["code"], 40002)
        self.assertEqual(self.update(id, hashes(3, 10))["code"], 0)
        self.assertEqual(self.server.members(id, "EMAIL_SHA256"), set(hashes(3, 10)))
        query = {"advertiser_id": self.server.advertiser}
        listed = self.client.call("GET", f"{self.base}/list/", query=query).json["data"]
        self.assertEqual(([a["audience_id"] for a in listed["list"]], listed["page_info"]["total_number"]), ([id], 1))
        self.assertEqual(self.post("delete", custom_audience_ids=[id])["code"], 0)
        self.assertEqual(self.post("delete", custom_audience_ids=[id])["code"], 40007)
        self.no_faults(self.server)

    def test_several_kinds(self) -> None:
        a, b = hashes(2)
        path = self.upload(["EMAIL_SHA256,PHONE_SHA256", f"{a},{b}", f",{a}"], "MULTIPLE_TYPES")["data"]["file_path"]
        id = self.post("create", custom_audience_name="x", calculate_type="MULTIPLE_TYPES", file_paths=[path])["data"]["custom_audience_id"]
        self.assertEqual(self.server.members(id, "EMAIL_SHA256", "PHONE_SHA256"), {(a, b), ("", a)})

    def test_strict(self) -> None:
        path = self.upload(hashes(3))["data"]["file_path"]
        for reply, code, pattern in (
            (lambda: self.upload(hashes(3), filename="data.CSV"), 40908, "filename"),
            (lambda: self.upload(hashes(3), signature="0" * 32), 40900, "MD5"),
            (lambda: self.upload(["a@example.com"]), 40062, "lower-case hex"),
            (lambda: self.upload(hashes(3), "EMAIL"), 40002, "none of"),
            (lambda: self.post("create", custom_audience_name="x", calculate_type="PHONE_SHA256", file_paths=[path]), 40909, "in place of"),
            (lambda: self.post("create", custom_audience_name="x", calculate_type="EMAIL_SHA256", file_paths=["/x"]), 40905, "/x"),
            (lambda: self.post("create", custom_audience_name="", calculate_type="EMAIL_SHA256", file_paths=[path]), 40002, "0 characters"),
            (lambda: self.post("delete", ids=[]), 40002, "missing"),
            (lambda: self.client.call("GET", f"{self.base}/get/").json, 40002, "missing"),
            (lambda: self.client.call("GET", f"{self.base}/get").json, 40400, "not there"),
        ):
            with self.subTest(pattern):
                self.assertEqual(reply()["code"], code)
                self.bug(self.server, pattern)
        reply = self.client.call("POST", f"{self.base}/delete/", {}, headers={"Access-Token": "x"})
        self.assertEqual((reply.status, reply.json["code"]), (200, 40105))

    def test_faults(self) -> None:
        id = self.create(hashes(3))
        for kind, status, code in (("rate_limit", 200, 40100), ("token_expired", 200, 40102), ("revoked", 200, 40001),
                                   ("not_success_200", 200, 50000), ("server_error", 500, 50000)):
            self.server.fail_next(kind)
            reply = self.client.call("POST", f"{self.base}/delete/", {"advertiser_id": self.server.advertiser, "custom_audience_ids": [id]})
            self.assertEqual((reply.status, reply.json["code"]), (status, code))
        self.server.fail_next("fail_processing")
        self.assertEqual(self.update(id, hashes(3, 5))["code"], 0)
        self.assertEqual((self.get(id)["error_msg"], self.server.members(id, "EMAIL_SHA256")), ("The file could not be processed.", set(hashes(3))))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    unittest.main()
