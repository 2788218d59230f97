"""Tests of the server of VK Ads."""
from __future__ import annotations

import hashlib
import json
from typing import Any

from .case import Case
from .client import Client, hashes
from .vk import Vk


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
