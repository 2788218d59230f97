"""VK Ads: lists of users for remarketing, segments, and the token endpoint (ads.vk.com/api/v2).

After ads.vk.com/doc/api (RemarketingUsersLists, Segment, SegmentRelations, Authorization; April 2026). Facts that
are not from there:

* the form of the errors 403 (too many tokens), 404, 409, 413, 429 and of refused grants; that there is no
  header with a wait at 429;
* which hashes are taken: MD5 and SHA-256 here (hashes);
* the numbers of the limits: none here but what a test sets;
* a refresh token changes with each refresh (rotate_refresh_token): the page has that for clients that ask for it;
* what POST segments.json answers (201), since the page about it is not in the copy that was read;
* a list whose processing fails becomes "deleted_to_notify".

`expires_in` is a text in the answer to client_credentials and refresh_token, as in the page's examples.
Members are changed when the list is accepted; its status only says so later. A differential list is a list of its
own, in `deltas`.
"""
from __future__ import annotations

import csv
import io
import re
import secrets
import time
from typing import Any

from .message import Answer, Part, Refused, Request, bug, keys, number, one_of, parse_json, typed
from .server import Audience, Job, Member, Platform, Tokens, bearer, main, member, route

TYPES = ("ok", "mm", "phones", "emails", "device_id", "android_id", "advertising_id", "idfa", "dmp_id", "dmp_top", "vk", "mac",
         "mparticle", "human")
HASHED = ("phones", "emails")
LENGTHS = {"md5": 32, "sha256": 64}
STAGES = ("receiving", "received", "mapping", "mapped", "writing", "ready")
LISTS, SEGMENTS = "/api/v2/remarketing/users_lists", "/api/v2/remarketing/segments"
ERRORS = {"invalid": (400, "validation_failed"), "json": (400, "invalid_json"), "file": (400, "required"),
          "unknown_path": (404, "not_found"), "method": (405, "method_not_allowed"), "gone": (404, "not_found"),
          "conflict": (409, "conflict"), "rate_limit": (429, "rate_limit_exceeded"), "server_error": (500, "internal_error"),
          "too_large": (413, "too_large"), "token_limit": (403, "token_limit_exceeded"), "bad_grant": (401, "invalid_token"),
          "bad_client": (401, "invalid_client"), "bad_request": (400, "invalid_request"), "relation_exists": (400, "relation_exists")}
TOKEN_ERRORS = {"unauthorized": ("invalid_token", "Unknown access token"), "token_expired": ("expired_token", "Access token is expired"),
                "revoked": ("revoked_token", "Access token has been revoked")}


class Vk(Platform):
    """VK Ads, as far as it is about lists of users."""

    name = "vk"
    client_id = "vk-client"
    client_secret = "vk-secret"
    token_lifetime = 86400.0
    max_tokens = 5
    rotate_refresh_token = True
    min_rows = 2000
    min_delta_rows = 25
    max_rows = 5000000
    max_body = 128 << 20
    hashes = ("md5", "sha256")
    kept = ("segments",)
    kinds = Platform.kinds | {"fail_processing"}

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.tokens = Tokens()
        # Access tokens by refresh token.
        self.pairs: dict[str, str] = {}
        self.deltas: dict[str, Audience] = {}
        self.work: dict[str, Job] = {}
        self.segments: dict[str, dict[str, Any]] = {}
        self._is_revoked = False
        super().__init__(*args, **settings)

    # ---- Tokens.

    @property
    def grants(self) -> dict[str, int]:
        """How many tokens were granted, by the kind of grant."""
        return dict(self.tokens.grants)

    def expire_tokens(self) -> None:
        """The access tokens expire now; they can be refreshed."""
        self.tokens.expire()

    def forget_tokens(self) -> None:
        """The tokens are deleted, as after a month without use."""
        self.tokens.ends.clear()
        self.pairs.clear()

    def revoke(self) -> None:
        """The user has taken back the access."""
        self._is_revoked = True

    @route("POST", "/api/v2/oauth2/token.json", auth=False)
    def token(self, request: Request) -> Answer:
        form = request.form(optional=None)
        kind = one_of(form.get("grant_type"), ("client_credentials", "refresh_token", "agency_client_credentials"), "grant_type")
        more = {"client_credentials": (), "refresh_token": ("refresh_token",), "agency_client_credentials": ()}[kind]
        agency = ("agency_client_name", "agency_client_id", "access_token") if kind == "agency_client_credentials" else ()
        keys(form, "form", ("grant_type", "client_id", "client_secret", *more), agency)
        if (form["client_id"], form["client_secret"]) != (self.client_id, self.client_secret):
            self.tokens.refused[kind] += 1
            raise Refused("bad_client", "Invalid client id or secret provided")
        if self._is_revoked:
            self.tokens.refused[kind] += 1
            raise Refused("revoked", "Access token has been revoked")
        refresh = self.renewed(form["refresh_token"]) if kind == "refresh_token" else self.new_pair()
        access = self.pairs[refresh] = "vk2." + secrets.token_urlsafe(30)
        self.tokens.issue(access, self.token_lifetime)
        self.tokens.grants[kind] += 1
        return Answer(200, {"access_token": access, "token_type": "bearer", "scope": "read_ads create_ads",
                            "expires_in": str(int(self.token_lifetime)), "refresh_token": refresh})

    def new_pair(self) -> str:
        """Another token for the client: there are few of them."""
        if len(self.pairs) >= self.max_tokens:
            self.tokens.refused["client_credentials"] += 1
            raise Refused("token_limit", f"at most {self.max_tokens} tokens")
        return "refresh." + secrets.token_urlsafe(30)

    def renewed(self, refresh: str) -> str:
        """The refresh token from now on; the old access token is dead at once."""
        if refresh not in self.pairs:
            self.tokens.refused["refresh_token"] += 1
            raise Refused("bad_grant", "Unknown refresh token")
        self.tokens.ends.pop(self.pairs.pop(refresh), None)
        return "refresh." + secrets.token_urlsafe(30) if self.rotate_refresh_token else refresh

    @route("POST", "/api/v2/oauth2/token/delete.json", auth=False)
    def delete_tokens(self, request: Request) -> Answer:
        form = request.form(("client_id", "client_secret"), ("username", "user_id"))
        if (form["client_id"], form["client_secret"]) != (self.client_id, self.client_secret):
            raise Refused("bad_client", "Invalid client id or secret provided")
        self.forget_tokens()
        return Answer(204)

    def authorize(self, request: Request) -> None:
        state = self.tokens.state(bearer(request))
        if self._is_revoked:
            raise Refused("revoked", "")
        if state != "valid":
            raise Refused("token_expired" if state == "expired" else "unauthorized", "")

    # ---- Errors, limits.

    def counts(self, request: Request) -> bool:
        return "/oauth2/" not in request.path

    def error(self, what: str, message: str, **more: Any) -> Answer:
        if what in TOKEN_ERRORS:
            code, text = TOKEN_ERRORS[what]
            challenge = f'Bearer realm="api", error="{code}", error_description="{text}"'
            return Answer(401, {"code": code, "message": text}, {"WWW-Authenticate": challenge})
        if what == "invalid" and more.get("kind") == "json":
            what = "json"
        status, code = ERRORS[what]
        if what in ("bad_grant", "bad_client"):
            return Answer(status, {"code": code, "message": message})
        error: dict[str, Any] = {"code": code, "message": message}
        headers = {}
        if what == "rate_limit":
            self.limited(more.get("wait", 0))
            name = {"hour": "Hourly", "day": "Daily"}.get(more.get("window", ""), "RPS")
            headers = {f"X-RateLimit-{name}-Limit": str(more.get("limit", 1)), f"X-RateLimit-{name}-Remaining": "0"}
        if what == "invalid":
            error["fields"] = {more["field"]: {"code": "invalid", "message": message}} if more.get("field") else {}
        return Answer(status, {"error": error}, headers)

    def signed(self, answer: Answer) -> Answer:
        recent = self.recent
        for name, window in (("RPS", "second"), ("Hourly", "hour"), ("Daily", "day")):
            limit = getattr(self, f"limit_per_{window}")
            if limit is not None:
                answer.headers[f"X-RateLimit-{name}-Limit"] = str(limit)
                answer.headers[f"X-RateLimit-{name}-Remaining"] = str(max(0, limit - recent[window]))
        return answer

    # ---- Lists.

    @route("POST", f"{LISTS}.json", takes=("fail_processing",))
    def upload(self, request: Request) -> Answer:
        parts = request.multipart((), ("file", "data"))
        if "file" not in parts or "data" not in parts:
            raise Refused("file" if "data" in parts else "json", "File content is required", bug=True)
        data = keys(parse_json(parts["data"].text(), "data"), "data", ("name", "type"), ("base",))
        typed(data["name"], str, "name")
        one_of(data["type"], TYPES, "type")
        base = typed(data.get("base", 0), int, "base")
        lines = self.lines(parts["file"])
        least = self.min_delta_rows if base else self.min_rows
        if not least <= len(lines) <= self.max_rows:
            raise Refused("invalid", f"{len(lines)} rows; at least {least} are needed", field="file")
        rows = [self.row(data["type"], line) for line in lines]
        failed = request.fault == "fail_processing"
        audience = self.add_list(data, base, rows, failed)
        self.work[audience.id] = self.later(lambda: None, failed)
        return Answer(201, {**self.show(audience), "status": "loading", "history": []})

    def add_list(self, data: dict[str, Any], base: int, rows: list[Member], failed: bool) -> Audience:
        """A list: a new one, or one whose rows are added to another or removed from it."""
        id = self.next_id()
        details = {"type": data["type"], "base": base, "entries_count": len(rows), "created": time.strftime("%Y-%m-%d %H:%M:%S")}
        audience = Audience(id, data["name"], details=details)
        if base == 0:
            self.store[id] = audience
            target, change = audience, "add"
        else:
            target, change = self.base(base, data["type"]), "add" if base > 0 else "remove"
            self.deltas[id] = audience
        if not failed:
            getattr(target, change)(rows)
        return audience

    def base(self, base: int, kind: str) -> Audience:
        id = str(abs(base))
        if id not in self.store:
            raise Refused("invalid", f"there is no list {id}", field="base")
        if self.store[id].details["type"] != kind:
            raise bug(f"a list of {kind} for one of {self.store[id].details['type']}", field="type")
        return self.store[id]

    def show(self, audience: Audience) -> dict[str, Any]:
        job = self.work.get(audience.id)
        return {"id": int(audience.id), "name": audience.name, **audience.details, "status": self.status(job),
                "ids_count": len(audience.members), "matched_ids_count": len(audience.members) // 2}

    def status(self, job: Job | None) -> str:
        if job is None or job.ended:
            return "deleted_to_notify" if job and job.failed else "ready"
        return STAGES[max(0, min(4, 5 - max(1, job.looks)))]

    @route("GET", f"{LISTS}.json", query=("limit", "offset", "fields"))
    def lists(self, request: Request) -> Answer:
        found = [self.show(audience) for audience in [*self.store.values(), *self.deltas.values()]]
        first, limit = number(request, "offset", 0, 0, 10**9 - 1), number(request, "limit", 20, 1, 250)
        return Answer(200, {"count": len(found), "offset": first, "items": found[first:first + limit]})

    @route("GET", rf"{LISTS}/([0-9]+)\.json", query=("fields",))
    def show_one(self, request: Request, id: str) -> Answer:
        audience = self.deltas.get(id) or self.lookup(id)
        if id in self.work:
            self.work[id].look()
        return Answer(200, self.show(audience))

    @route("POST", rf"{LISTS}/([0-9]+)\.json")
    def rename(self, request: Request, id: str) -> Answer:
        self.lookup(id).name = typed(request.object(("name",))["name"], str, "name")
        return Answer(204)

    @route("DELETE", rf"{LISTS}/([0-9]+)\.json")
    def remove(self, request: Request, id: str) -> Answer:
        audience = self.lookup(id)
        if any(str(r["params"]["source_id"]) == id for s in self.segments.values() for r in s["relations"].values()):
            raise Refused("conflict", f"list {id} is used by a segment")
        self.delete(audience)
        self.deltas = {d: delta for d, delta in self.deltas.items() if str(abs(delta.details["base"])) != id}
        return Answer(204)

    # ---- Segments, by which lists can be targeted.

    @route("POST", f"{SEGMENTS}.json")
    def create_segment(self, request: Request) -> Answer:
        body = request.object(("name", "pass_condition", "relations"))
        typed(body["name"], str, "name")
        relations = typed(body["relations"], list, "relations")
        if not 1 <= typed(body["pass_condition"], int, "pass_condition") <= len(relations):
            raise bug("Segment pass condition cannot be greater that number of segment relations", field="pass_condition")
        segment = {"name": body["name"], "pass_condition": body["pass_condition"], "relations": {}}
        for relation in relations:
            self.relate(segment, relation)
        id = self.next_id()
        self.segments[id] = segment
        return Answer(201, self.show_segment(id))

    def relate(self, segment: dict[str, Any], relation: Any) -> dict[str, Any]:
        relation = keys(relation, "relation", ("object_type", "params"))
        one_of(relation["object_type"], ("remarketing_users_list",), "object_type")
        params = keys(relation["params"], "params", ("source_id", "type"))
        one_of(params["type"], ("positive", "negative"), "type")
        source = str(typed(params["source_id"], int, "source_id"))
        if source not in self.store:
            raise Refused("invalid", f"Unknown remarketing_users_list {source}", field="source_id")
        if any(r["params"]["source_id"] == params["source_id"] for r in segment["relations"].values()):
            raise Refused("relation_exists", "Relation already exists")
        id = self.next_id()
        segment["relations"][id] = {"id": int(id), "object_type": relation["object_type"], "object_id": int(source), "params": params}
        return segment["relations"][id]

    def segment(self, id: str) -> dict[str, Any]:
        if id not in self.segments:
            raise Refused("gone", f"there is no segment {id}")
        return self.segments[id]

    def show_segment(self, id: str) -> dict[str, Any]:
        segment = self.segment(id)
        return {"id": int(id), "name": segment["name"], "pass_condition": segment["pass_condition"],
                "relations_count": len(segment["relations"])}

    @route("GET", f"{SEGMENTS}.json", query=("limit", "offset", "fields"))
    def list_segments(self, request: Request) -> Answer:
        limit, offset = number(request, "limit", 20, 1, 250), number(request, "offset", 0, 0, 10**9 - 1)
        shown = [self.show_segment(id) for id in list(self.segments)[offset:offset + limit]]
        return Answer(200, {"count": len(self.segments), "offset": offset, "items": shown})

    @route("GET", rf"{SEGMENTS}/([0-9]+)\.json")
    def get_segment(self, request: Request, id: str) -> Answer:
        return Answer(200, self.show_segment(id))

    @route("POST", rf"{SEGMENTS}/([0-9]+)\.json")
    def change_segment(self, request: Request, id: str) -> Answer:
        body = request.object((), ("name", "pass_condition"))
        segment = self.segment(id)
        if not 1 <= typed(body.get("pass_condition", 1), int, "pass_condition") <= len(segment["relations"]):
            raise bug("Segment pass condition cannot be greater that number of segment relations", field="pass_condition")
        segment.update(body)
        return Answer(200, self.show_segment(id))

    @route("DELETE", rf"{SEGMENTS}/([0-9]+)\.json")
    def delete_segment(self, request: Request, id: str) -> Answer:
        self.segment(id)
        del self.segments[id]
        return Answer(204)

    @route("GET", rf"{SEGMENTS}/([0-9]+)/relations\.json", query=("fields", "limit", "offset"))
    def list_relations(self, request: Request, id: str) -> Answer:
        return Answer(200, {"items": list(self.segment(id)["relations"].values())})

    @route("POST", rf"{SEGMENTS}/([0-9]+)/relations\.json")
    def add_relations(self, request: Request, id: str) -> Answer:
        items = typed(request.object(("items",))["items"], list, "items")
        added = [self.relate(self.segment(id), item) for item in items]
        return Answer(200, {"items": [{name: r[name] for name in ("object_type", "id", "object_id")} for r in added]})

    @route("DELETE", rf"{SEGMENTS}/([0-9]+)/relations/([0-9]+)\.json")
    def remove_relation(self, request: Request, id: str, relation: str) -> Answer:
        segment = self.segment(id)
        if relation not in segment["relations"]:
            raise Refused("gone", f"there is no relation {relation}")
        if len(segment["relations"]) - 1 < segment["pass_condition"]:
            raise Refused("invalid", "Segment pass condition cannot be greater that number of segment relations", field="pass_condition")
        del segment["relations"][relation]
        return Answer(204)

    # ---- What files carry.

    def lines(self, part: Part) -> list[str]:
        """The identifiers: one a line, or the column id of a CSV file."""
        if not part.filename:
            raise bug("the part file has no filename")
        lines = part.text().splitlines()
        if lines and lines[0].split(",")[0] == "id":
            rows = csv.DictReader(io.StringIO(part.text(), newline=""), strict=True)
            if not set(rows.fieldnames or ()) <= {"id", "client_user_id"}:
                raise bug(f"columns {rows.fieldnames}")
            return [row["id"] for row in rows]
        return lines

    def row(self, kind: str, line: str) -> Member:
        if kind in HASHED:
            if not re.fullmatch("[0-9a-f]+", line) or len(line) not in [LENGTHS[name] for name in self.hashes]:
                raise bug(f"{line!r:.80} is no hash ({', '.join(self.hashes)}) in lower-case hex", field="file")
        elif not line or line != line.strip():
            raise bug(f"the line {line!r:.80} is no identifier", field="file")
        return member([(kind, line)])


if __name__ == "__main__":
    main(Vk)
