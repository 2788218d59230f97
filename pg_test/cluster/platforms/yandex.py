"""Yandex Audience: segments from files (api-audience.yandex.ru/v1/management).

After yandex.ru/dev/audience (ref/openapi/segments/*, concept/errors). Facts that are not from there:

* the limits of writes (10 a minute, 100 an hour, 500 a day): two clients of third parties;
* that modify_data is refused while the segment is in process, and by which error (400 invalid_parameter);
* a repeated confirm is taken as a repeat (repeated_confirm turns that off);
* which kinds of content type the part "file" may have.

A file that was uploaded and never confirmed stays in `uploads`. Members change when processing has ended.
"""
from __future__ import annotations

import csv
import io
from typing import Any

from .message import SHA256, Answer, Part, Refused, Request, bug, flag, keys, number, one_of, typed
from .server import Audience, Job, Member, Platform, bearer, main, member, route

BASE = "/v1/management"
IDENTIFIERS = {"phone", "email"}
# HTTP status and type of error.
ERRORS = {"invalid": (400, "invalid_parameter"), "unknown_path": (404, "not_found"), "method": (405, "invalid_parameter"),
          "gone": (404, "not_found"), "unauthorized": (401, "unauthorized"), "token_expired": (401, "unauthorized"),
          "revoked": (403, "access_denied"), "rate_limit": (429, "quota"), "server_error": (503, "backend_error"),
          "too_large": (400, "invalid_parameter"), "busy": (400, "invalid_parameter")}


class Yandex(Platform):
    """Yandex Audience, as far as it is about segments that are made from CRM files."""

    name = "yandex"
    token = "yandex-token"
    # Of writes.
    limit_per_minute = 10
    limit_per_hour = 100
    limit_per_day = 500
    min_rows = 100
    repeated_confirm = True
    kinds = Platform.kinds | {"fail_processing"}

    def __init__(self, *args: Any, **settings: Any) -> None:
        # Files before their confirmation: columns and rows.
        self.uploads: dict[str, tuple[list[str], list[dict[str, str]]]] = {}
        self.work: dict[str, Job] = {}
        super().__init__(*args, **settings)

    def counts(self, request: Request) -> bool:
        return request.method != "GET"

    def authorize(self, request: Request) -> None:
        if bearer(request, "OAuth") != self.token:
            raise Refused("unauthorized", "Invalid oauth_token")

    def error(self, what: str, message: str, **more: Any) -> Answer:
        status, kind = ERRORS[what]
        if more.get("kind") == "missing":
            kind = "missing_parameter"
        if what == "rate_limit":
            self.limited(more.get("wait", 0))
        error = {"error_type": kind, "message": message, "location": more.get("field", "")}
        return Answer(status, {"errors": [error], "code": status, "message": message})

    # ---- Files.

    @route("POST", f"{BASE}/segments/upload_csv_file")
    def upload(self, request: Request) -> Answer:
        id = self.next_id()
        self.uploads[id] = self.rows(request)
        return Answer(200, {"segment": {"id": int(id), "type": "uploading", "status": "uploaded", "has_guests": False}})

    @route("POST", f"{BASE}/segment/([0-9]+)/confirm", takes=("fail_processing",), query=("check_size",))
    def confirm(self, request: Request, id: str) -> Answer:
        body = request.object(("segment",))
        segment = keys(body["segment"], "segment", ("id", "name", "hashed", "content_type"), ("hashing_alg", "device_matching_type"))
        if typed(segment["id"], int, "id") != int(id):
            raise bug(f"segment {segment['id']} is confirmed at the path of {id}")
        one_of(segment["content_type"], ("crm",), "content_type")
        name = typed(segment["name"], str, "name")
        if id in self.store and self.repeated_confirm and self.store[id].name == name:
            return Answer(200, {"segment": self.show(self.store[id])})
        if id not in self.uploads:
            raise Refused("gone", f"there is no upload {id}")
        columns, rows = self.uploads[id]
        self.check_size(request, len(rows))
        if typed(segment["hashed"], bool, "hashed"):
            one_of(segment.get("hashing_alg"), ("SHA256",), "hashing_alg")
            self.check_hashes(rows)
        del self.uploads[id]
        details = {"hashed": segment["hashed"], "status": "is_processed", "columns": columns}
        audience = self.store[id] = Audience(id, name, details=details)
        self.begin(request, audience, lambda: audience.replace(self.members_of(rows)))
        return Answer(200, {"segment": self.show(audience)})

    @route("POST", f"{BASE}/segment/([0-9]+)/modify_data", takes=("fail_processing",), query=("modification_type", "check_size"))
    def modify(self, request: Request, id: str) -> Answer:
        kind = one_of(request.query.get("modification_type"), ("addition", "subtraction", "replace"), "modification_type")
        audience = self.lookup(id)
        if audience.details["status"] in ("is_processed", "is_updated"):
            # Who does not know that it was taken asks so, and not for its state: processing goes on all the same.
            self.work[id].look()
            raise Refused("busy", f"segment {id} is being processed")
        columns, rows = self.rows(request)
        if columns != audience.details["columns"]:
            raise bug(f"columns {columns} in place of {audience.details['columns']}")
        if audience.details["hashed"]:
            self.check_hashes(rows)
        self.check_size(request, len(rows))
        change = {"addition": audience.add, "subtraction": audience.remove, "replace": audience.replace}[kind]
        audience.details["status"] = "is_updated"
        self.begin(request, audience, lambda: change(self.members_of(rows)))
        return Answer(200, {"segment": self.show(audience)})

    def begin(self, request: Request, audience: Audience, change: Any) -> None:
        """Processing, at whose end the members are changed."""

        def finish() -> None:
            change()
            audience.details["status"] = "processed" if len(audience.members) >= self.min_rows else "few_data"

        failed = request.fault == "fail_processing"
        job = self.later(finish, failed)
        if failed:
            audience.details["failing"] = True
        self.work[audience.id] = job

    def settle_due(self, force: bool = False) -> None:
        super().settle_due(force)
        for id, job in self.work.items():
            if job.ended and job.failed and self.store[id].details.pop("failing", False):
                self.store[id].details["status"] = "processing_failed"

    def load(self) -> None:
        super().load()
        for audience in self.store.values():
            audience.details["status"] = "processed" if len(audience.members) >= self.min_rows else "few_data"

    def check_size(self, request: Request, count: int) -> None:
        if flag(request, "check_size", True) and count < self.min_rows:
            raise Refused("invalid", f"{count} rows; at least {self.min_rows} are needed", field="check_size")

    # ---- Segments.

    @route("GET", f"{BASE}/segments", query=("limit", "offset", "pixel"))
    def list_all(self, request: Request) -> Answer:
        for id in self.store:
            if id in self.work:
                self.work[id].look()
        found = [self.show(audience) for audience in self.store.values()]
        found += [{"id": int(id), "type": "uploading", "status": "uploaded"} for id in self.uploads]
        first = number(request, "offset", 0, 0, 10**9 - 1)
        return Answer(200, {"segments": found[first:first + number(request, "limit", 1000, 1, 10000)]})

    def show(self, audience: Audience) -> dict[str, Any]:
        count = len(audience.members)
        return {"id": int(audience.id), "name": audience.name, "type": "uploading", "status": audience.details["status"],
                "content_type": "crm", "hashed": audience.details["hashed"], "hashing_alg": "SHA256", "item_quantity": count,
                "valid_unique_quantity": count, "matched_quantity": count // 2, "has_guests": False}

    @route("PUT", f"{BASE}/segment/([0-9]+)")
    def rename(self, request: Request, id: str) -> Answer:
        audience = self.lookup(id)
        audience.name = typed(keys(request.object(("segment",))["segment"], "segment", ("name",))["name"], str, "name")
        return Answer(200, {"segment": self.show(audience)})

    @route("DELETE", f"{BASE}/segment/([0-9]+)")
    def remove(self, request: Request, id: str) -> Answer:
        if id in self.uploads:
            del self.uploads[id]
        else:
            self.delete(self.lookup(id))
            self.work.pop(id, None)
        return Answer(200, {"success": True})

    # ---- What files carry.

    def rows(self, request: Request) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and the rows of the file that is uploaded."""
        part = request.multipart(("file",))["file"]
        self.check_part(part)
        try:
            columns, *rows = csv.reader(io.StringIO(part.text(), newline=""), strict=True)
        except (csv.Error, ValueError) as error:
            raise bug(f"malformed CSV: {error}") from None
        if len(set(columns)) != len(columns) or not IDENTIFIERS & set(columns):
            raise bug(f"columns {columns}: phone, email or both are needed")
        for row in rows:
            if len(row) != len(columns) or not any(row):
                raise bug(f"a row of {len(row)} values in {len(columns)} columns: {','.join(row):.80}")
        if not rows:
            raise bug("a file without rows")
        return columns, [dict(zip(columns, row, strict=True)) for row in rows]

    def check_part(self, part: Part) -> None:
        if not part.filename:
            raise bug("the part file has no filename")
        one_of(part.content_type, ("application/octet-stream", "text/csv"), "content type of the part file")

    def check_hashes(self, rows: list[dict[str, str]]) -> None:
        for row in rows:
            for kind in IDENTIFIERS & set(row):
                if row[kind] and not SHA256.fullmatch(row[kind]):
                    raise bug(f"{kind} {row[kind]!r:.80} is no SHA-256 in lower-case hex")

    def members_of(self, rows: list[dict[str, str]]) -> list[Member]:
        return [member(row.items()) for row in rows]


if __name__ == "__main__":
    main(Yandex)
