"""Tests of the server of Yandex Audience."""
from __future__ import annotations

from typing import Any

from .case import Case
from .client import Client, hashes
from .yandex import Yandex


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
        for kind, status, error in (("server_error", 503, "backend_error"), ("revoked", 403, "access_denied"),
                                    ("token_expired", 401, "unauthorized")):
            self.server.fail_next(kind)
            self.refused(self.client.call("GET", "/v1/management/segments"), status, error)
