"""TikTok: Customer File audiences of the API for Business v1.3 (business-api.tiktok.com/open_api/v1.3).

After tiktok-business-api-sdk (yml_files/dmp_custom_audience_*.yml; the codes of tiktok_code.py). Each answer has
HTTP status 200; code 0 is success. Facts that are not from there:

* which code an update below the least size gets (40002), and that it is refused at once;
* that a new audience below the least size is made, and is not valid;
* what a file of MULTIPLE_TYPES looks like: CSV with a header (EMAIL_SHA256, PHONE_SHA256, …) here;
* the details that `list` shows; that processing ends with is_valid true.
"""
from __future__ import annotations

import csv
import hashlib
import io
import re
import secrets
from collections.abc import Callable
from typing import Any

from .message import Answer, Part, Refused, Request, bug, keys, number, one_of, parse_json, typed
from .server import Audience, Job, Member, Platform, main, member, route

BASE = "/open_api/v1.3/dmp/custom_audience"
SHA, MD5 = "[0-9a-f]{64}", "[0-9a-f]{32}"
TYPES = {"EMAIL_SHA256": SHA, "PHONE_SHA256": SHA, "FIRST_SHA256": SHA, "FIRST_MD5": MD5, "GAID_SHA256": SHA, "GAID_MD5": MD5,
         "IDFA_SHA256": SHA, "IDFA_MD5": MD5, "MAID_SHA256": SHA, "MAID_MD5": MD5}
# Code and message.
ERRORS = {"invalid": (40002, "Invalid params"), "unknown_path": (40400, "Route not found"), "method": (40400, "Route not found"),
          "gone": (40007, "The audience does not exist"), "unauthorized": (40105, "Access token is incorrect or has been revoked."),
          "no_token": (40104, "Access token is empty"), "token_expired": (40102, "Access token has expired"),
          "revoked": (40001, "No permission to operate the advertiser"), "rate_limit": (40100, "Request too frequent"),
          "server_error": (50000, "System error"), "not_success_200": (50000, "System error"), "signature": (40900, "Signature error"),
          "file_type": (40908, "File type error"), "file_empty": (40906, "File is empty"), "no_file": (40905, "File does not exist"),
          "calculate_type": (40909, "calculate_type differs from that of the file"), "too_large": (40907, "File is too large"),
          "not_hashed": (40062, "PII is not hashed")}


class TikTok(Platform):
    """TikTok's API for Business, as far as it is about audiences from files."""

    name = "tiktok"
    advertiser = "7000000000000000001"
    token = "tiktok-token"
    min_rows = 1000
    max_files = 50
    processing_polls = 0
    kinds = Platform.kinds | {"not_success_200", "fail_processing"}

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.files: dict[str, tuple[str, list[Member]]] = {}
        self.work: dict[str, Job] = {}
        super().__init__(*args, **settings)

    def authorize(self, request: Request) -> None:
        token = request.headers.get("access-token")
        if not token:
            raise Refused("no_token", "no header Access-Token", bug=True)
        if token != self.token:
            raise Refused("unauthorized", "unknown token")

    def error(self, what: str, message: str, **more: Any) -> Answer:
        code, text = ERRORS[what]
        if what == "rate_limit":
            self.limited(more.get("wait", 0))
        status = more.get("status", 500) if what == "server_error" else 200
        return Answer(status, {"code": code, "message": f"{text}: {message}", "request_id": secrets.token_hex(12), "data": {}})

    def success(self, data: dict[str, Any]) -> Answer:
        return Answer(200, {"code": 0, "message": "OK", "request_id": secrets.token_hex(12), "data": data})

    def check_advertiser(self, advertiser: Any) -> None:
        if typed(advertiser, str, "advertiser_id") != self.advertiser:
            raise Refused("revoked", f"advertiser {advertiser}")

    # ---- Files.

    @route("POST", f"{BASE}/file/upload/")
    def upload(self, request: Request) -> Answer:
        parts = request.multipart(("advertiser_id", "calculate_type", "file_signature", "file"))
        self.check_advertiser(parts["advertiser_id"].text())
        kind = one_of(parts["calculate_type"].text(), (*TYPES, "MULTIPLE_TYPES"), "calculate_type")
        file = parts["file"]
        if not re.fullmatch(r".+\.(csv|txt)", file.filename or ""):
            raise Refused("file_type", f"filename {file.filename!r}", bug=True)
        if hashlib.md5(file.content).hexdigest() != parts["file_signature"].text():
            raise Refused("signature", "file_signature is not the MD5 of the file", bug=True)
        path = f"/{self.advertiser}/{secrets.token_hex(16)}"
        self.files[path] = kind, self.rows(kind, file)
        return self.success({"file_path": path})

    def rows(self, kind: str, file: Part) -> list[Member]:
        lines = list(csv.reader(io.StringIO(file.text(), newline=""), strict=True))
        kinds = lines.pop(0) if kind == "MULTIPLE_TYPES" and lines else [kind]
        for name in kinds:
            one_of(name, TYPES, "column")
        if not lines:
            raise Refused("file_empty", "no rows", bug=True)
        return [self.row(kinds, line) for line in lines]

    def row(self, kinds: list[str], line: list[str]) -> Member:
        if len(line) != len(kinds) or not any(line):
            raise bug(f"a row of {len(line)} values for {len(kinds)} kinds")
        for kind, value in zip(kinds, line, strict=True):
            if value and not re.fullmatch(TYPES[kind], value):
                raise Refused("not_hashed", f"{value!r:.80} is no {kind} in lower-case hex", bug=True)
        return member(zip(kinds, line, strict=True))

    def rows_of(self, paths: Any, kind: str) -> list[Member]:
        """The rows of uploaded files, which must be of one kind."""
        if not 0 < len(typed(paths, list, "file_paths")) <= self.max_files:
            raise bug(f"{len(paths)} file_paths")
        for path in paths:
            if path not in self.files:
                raise Refused("no_file", f"{path!r:.80}", bug=True)
            if self.files[path][0] != kind:
                raise Refused("calculate_type", f"{self.files[path][0]} in place of {kind}", bug=True)
        return [row for path in paths for row in self.files[path][1]]

    # ---- Audiences.

    @route("POST", f"{BASE}/create/", takes=("fail_processing",))
    def create(self, request: Request) -> Answer:
        optional = ("audience_sub_type", "retention_in_days", "audience_enhancement")
        body = request.object(("advertiser_id", "custom_audience_name", "calculate_type", "file_paths"), optional)
        self.check_advertiser(body["advertiser_id"])
        name = self.name_of(body["custom_audience_name"])
        one_of(body["calculate_type"], (*TYPES, "MULTIPLE_TYPES"), "calculate_type")
        one_of(body.get("audience_sub_type", "NORMAL"), ("NORMAL", "REACH_FREQUENCY"), "audience_sub_type")
        if not 1 <= typed(body.get("retention_in_days", 365), int, "retention_in_days") <= 365:
            raise bug("retention_in_days is not between 1 and 365")
        rows = self.rows_of(body["file_paths"], body["calculate_type"])
        details = {"calculate_type": body["calculate_type"], "is_valid": False, "error_msg": ""}
        audience = Audience("17" + self.next_id(), name, details=details)
        self.store[audience.id] = audience
        self.begin(request, audience, lambda: audience.replace(rows))
        return self.success({"custom_audience_id": audience.id})

    @route("POST", f"{BASE}/update/", takes=("fail_processing",))
    def update(self, request: Request) -> Answer:
        optional = ("file_paths", "action", "custom_audience_name", "audience_sub_type", "audience_enhancement")
        body = request.object(("advertiser_id", "custom_audience_id"), optional)
        self.check_advertiser(body["advertiser_id"])
        audience = self.lookup(typed(body["custom_audience_id"], str, "custom_audience_id"))
        if "file_paths" not in body and "custom_audience_name" not in body:
            raise bug("neither file_paths nor custom_audience_name")
        if "file_paths" in body:
            self.change(request, audience, body)
        audience.name = self.name_of(body.get("custom_audience_name", audience.name))
        return self.success({})

    def change(self, request: Request, audience: Audience, body: dict[str, Any]) -> None:
        action = one_of(body.get("action", "REPLACE"), ("APPEND", "REMOVE", "REPLACE"), "action")
        rows = self.rows_of(body["file_paths"], audience.details["calculate_type"])
        if audience.id in self.work:
            self.work[audience.id].settle(force=True)
        before = set(audience.members)
        after = {"APPEND": before | set(rows), "REMOVE": before - set(rows), "REPLACE": set(rows)}[action]
        if len(after) < self.min_rows:
            raise Refused("invalid", f"the audience size is less than {self.min_rows} after the operation")
        operation = {"APPEND": audience.add, "REMOVE": audience.remove, "REPLACE": audience.replace}[action]
        self.begin(request, audience, lambda: operation(rows))

    def begin(self, request: Request, audience: Audience, change: Callable[[], None]) -> None:
        def finish() -> None:
            change()
            audience.details["is_valid"] = len(audience.members) >= self.min_rows
            audience.details["error_msg"] = "" if audience.details["is_valid"] else "The audience is too small."

        failed = request.fault == "fail_processing"
        if failed:
            audience.details["error_msg"] = "The file could not be processed."
        self.work[audience.id] = self.later(finish, failed)

    def name_of(self, name: Any) -> str:
        if not 0 < len(typed(name, str, "custom_audience_name")) <= 128:
            raise bug(f"custom_audience_name of {len(name)} characters")
        return name

    @route("POST", f"{BASE}/delete/")
    def remove(self, request: Request) -> Answer:
        body = request.object(("advertiser_id", "custom_audience_ids"))
        self.check_advertiser(body["advertiser_id"])
        ids = self.ids(body["custom_audience_ids"])
        for audience in [self.lookup(id) for id in ids]:
            self.delete(audience)
        return self.success({})

    def ids(self, ids: Any) -> list[str]:
        if not 0 < len(typed(ids, list, "custom_audience_ids")) <= 100:
            raise bug(f"{len(ids)} custom_audience_ids")
        return [typed(id, str, "custom_audience_ids") for id in ids]

    @route("GET", f"{BASE}/get/", query=("advertiser_id", "custom_audience_ids", "history_size"))
    def get(self, request: Request) -> Answer:
        keys(request.query, "query", ("advertiser_id", "custom_audience_ids"), ("history_size",))
        self.check_advertiser(request.query["advertiser_id"])
        ids = self.ids(parse_json(request.query["custom_audience_ids"], "custom_audience_ids"))
        found = [self.lookup(id) for id in ids]
        return self.success({"list": [{"audience_details": self.look(a), "audience_history": []} for a in found]})

    @route("GET", f"{BASE}/list/", query=("advertiser_id", "custom_audience_ids", "page", "page_size"))
    def list_all(self, request: Request) -> Answer:
        keys(request.query, "query", ("advertiser_id",), ("custom_audience_ids", "page", "page_size"))
        self.check_advertiser(request.query["advertiser_id"])
        page, size = number(request, "page", 1, 1, 10**6), number(request, "page_size", 10, 1, 100)
        query = request.query.get("custom_audience_ids")
        wanted = self.store if query is None else self.ids(parse_json(query, "custom_audience_ids"))
        found = [a for a in self.store.values() if a.id in wanted]
        info = {"page": page, "page_size": size, "total_number": len(found), "total_page": -(-len(found) // size)}
        return self.success({"list": [self.look(a) for a in found[(page - 1) * size:page * size]], "page_info": info})

    def look(self, audience: Audience) -> dict[str, Any]:
        ended = audience.id not in self.work or self.work[audience.id].look()
        valid = ended and audience.details["is_valid"]
        return {"audience_id": audience.id, "name": audience.name, "calculate_type": audience.details["calculate_type"],
                "audience_type": "Customer File", "is_valid": valid, "is_creator": True, "shared": False,
                "cover_num": len(audience.members) if valid else 0, "error_msg": audience.details["error_msg"] if ended else ""}


if __name__ == "__main__":
    main(TikTok)
