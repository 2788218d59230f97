"""Tests of the server of TikTok."""
from __future__ import annotations

import hashlib
import json
from typing import Any

from .case import Case
from .client import Client, hashes
from .tiktok import TikTok


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
            (lambda: self.client.call("GET", f"{self.base}/get").json, 40400, "nothing of this path"),
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
        self.assertEqual(self.get(id)["error_msg"], "The file could not be processed.")
        self.assertEqual(self.server.members(id, "EMAIL_SHA256"), set(hashes(3)))
