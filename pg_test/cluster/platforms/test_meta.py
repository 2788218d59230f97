"""Tests of the server of Meta; facebook-business drives it, where that is installed."""
from __future__ import annotations

import http.client
import json
import unittest
from typing import Any

from .case import Case
from .client import Client, hashes, sha256
from .meta import Meta

try:
    from facebook_business.adobjects.adaccount import AdAccount
    from facebook_business.adobjects.customaudience import CustomAudience
    from facebook_business.api import FacebookAdsApi
    from facebook_business.exceptions import FacebookRequestError
    from facebook_business.session import FacebookSession
except ImportError:
    FacebookAdsApi = None


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
        self.bug(self.server, "nothing of this path")
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

    def test_repeats_through_faults(self) -> None:
        """A client that repeats what was not answered well has the right audience in the end."""
        self.server.fail_randomly(0.4, 11, self.server.kinds - {"slow", "huge", "partial", "gone", "revoked"})
        for session in range(1, 6):
            for batch in range(1, 5):
                self.until_taken(session, batch)
        self.server.stop_failing()
        self.assertEqual(self.there(), set(hashes(12, 5)))
        self.assertGreater(len(self.server.requests), 25)
        self.no_faults(self.server)

    def until_taken(self, session: int, batch: int) -> None:
        values = hashes(3, session + 3 * (batch - 1))
        for _ in range(30):
            try:
                if self.replace(session, batch, batch == 4, values).json.get("num_received") == 3 * batch:
                    return
            except (OSError, http.client.HTTPException, ValueError):
                continue
        self.fail("no answer")

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
        sent = self.server.requests[-1]["body"]
        self.assertEqual({name: json.loads(sent[name]) for name in params}, params)
        self.assertEqual(self.server.members(audience["id"], "EMAIL", "PHONE"), {(hashes(1)[0], sha256("15551234567"))})
        self.assertEqual([a["name"] for a in account.get_custom_audiences(fields=["name"])], ["vip", "theirs"])
        self.assertNotIn("meta-token", json.dumps(self.server.requests))
        audience.api_delete()
        with self.assertRaises(FacebookRequestError) as caught:
            audience.add_users(CustomAudience.Schema.email_hash, emails)
        self.assertEqual((caught.exception.api_error_code(), caught.exception.api_error_subcode()), (100, 33))
        self.no_faults(self.server)
