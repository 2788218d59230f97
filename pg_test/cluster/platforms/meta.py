"""Meta: Customer File Custom Audiences of the Marketing API (graph.facebook.com).

After the guide "Customer File Custom Audiences" and the reference of custom-audience/users (2026), and
facebook-business 26. Facts that are not from there:

* which HTTP status and subcodes go with code 190 (400 with 463 here), and 80003 with 2446079: from memory;
* a repeated first batch of a session is taken as a repeat; the guide only recommends not to send any;
* batches of a replacement have to come in order here (in_order); the guide lets those after the first come
  in any order;
* `users` does without a session (require_session); the guide's table has it as required, its examples not.

Removal is by the row: who was added as (EMAIL, PHONE) is removed by the same pair. (Meta matches people.)
"""
from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

from .message import SHA256, Answer, Refused, Request, bug, keys, number, one_of, parse_json, typed
from .server import Audience, Member, Platform, main, member, route

SOURCES = ("USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED")
HASHED = {"EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY"}
PLAIN = {"EXTERN_ID", "MADID"}
SINGLE = {"EMAIL_SHA256": "EMAIL", "PHONE_SHA256": "PHONE", "MOBILE_ADVERTISER_ID": "MADID"}
NODE = r"/v[0-9]+\.[0-9]+/([0-9]+)"
ACCOUNT = r"/v[0-9]+\.[0-9]+/act_([0-9]+)"
FIELDS = ("id", "name", "description", "subtype", "customer_file_source", "operation_status", "account_id",
          "approximate_count_lower_bound", "approximate_count_upper_bound", "delivery_status", "time_updated")
# HTTP status, type, code, subcode, message.
ERRORS = {
    "invalid": (400, "OAuthException", 100, None, "Invalid parameter"),
    "unknown_path": (400, "OAuthException", 2500, None, "Unknown path components"),
    "method": (400, "GraphMethodException", 100, 33, "Unsupported request"),
    "gone": (400, "GraphMethodException", 100, 33, "Unsupported request. Object does not exist, cannot be loaded "
             "due to missing permissions, or does not support this operation."),
    "unauthorized": (400, "OAuthException", 190, None, "Invalid OAuth access token - Cannot parse access token"),
    "token_expired": (400, "OAuthException", 190, 463, "Error validating access token: Session has expired"),
    "revoked": (403, "OAuthException", 200, 1870090, "Custom Audience Terms Not Accepted"),
    "rate_limit": (400, "OAuthException", 80003, 2446079, "There have been too many calls to this ad-account. "
                   "Wait a bit and try again."),
    "server_error": (500, "OAuthException", 2, None, "An unexpected error has occurred. Please retry your request later."),
    "too_large": (413, "OAuthException", 1, None, "Please reduce the amount of data"),
    "version": (400, "OAuthException", 2635, None, "You are calling a deprecated version of the Ads API."),
    "flagged": (400, "OAuthException", 100, 1713230, "Audience Upload Blocked"),
    "busy": (400, "OAuthException", 2650, 1870145, "Audience Update In Progress"),
    "first_missing": (400, "OAuthException", 2650, 1870147, "Invalid Upload Batch for Replace"),
    "timed_out": (400, "OAuthException", 2650, 1870158, "Replace Session Timed Out"),
    "finished": (400, "OAuthException", 2650, 1870159, "Replace Session Finished"),
}


@dataclass
class Session:
    """An upload in several batches."""

    id: int
    audience: str
    began: float
    batches: dict[int, str] = field(default_factory=dict)
    rows: list[Member] = field(default_factory=list)
    received: int = 0
    invalid: int = 0
    closed: bool = False
    timed_out: bool = False


class Meta(Platform):
    """Meta's Marketing API, as far as it is about audiences of customers."""

    name = "meta"
    account = "1234567890"
    token = "meta-token"
    # Where the app demands proofs of the secret.
    app_secret: str | None = None
    max_rows = 10000
    system_query = ("access_token", "appsecret_proof")
    oldest_version = 24.0
    session_minutes = 90.0
    in_order = True
    require_session = False
    kinds = Platform.kinds | {"partial"}

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.sessions: dict[int, Session] = {}
        super().__init__(*args, **settings)

    # ---- Rights, errors, headers.

    def authorize(self, request: Request) -> None:
        values = {**request.query, **self.parameters(request)}
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or values.get("access_token")
        if token is None:
            raise Refused("unauthorized", "no access token", bug=True)
        if token != self.token:
            raise Refused("unauthorized", "unknown access token")
        if self.app_secret is not None:
            proof = hmac.digest(self.app_secret.encode(), self.token.encode(), "sha256").hex()
            if values.get("appsecret_proof") != proof:
                raise bug("appsecret_proof is missing or wrong")

    def error(self, what: str, message: str, **more: Any) -> Answer:
        status, kind, code, subcode, text = ERRORS.get(what, ERRORS["invalid"])
        error = {"message": f"(#{code}) {text}", "type": kind, "code": code, "is_transient": what in ("rate_limit", "server_error"),
                 "error_user_title": text, "error_user_msg": message, "fbtrace_id": "AbCdEfGhIjKlMnOpQrStUvW"}
        if subcode is not None:
            error["error_subcode"] = subcode
        answer = Answer(status, {"error": error})
        if what == "rate_limit":
            minutes = math.ceil(more.get("wait", 60) / 60)
            self.limited(more.get("wait", 60))
            answer.headers = self.usage(minutes)
        return answer

    def signed(self, answer: Answer) -> Answer:
        answer.headers = {**self.usage(0), **answer.headers}
        return answer

    def usage(self, minutes: int) -> dict[str, str]:
        limit = self.limit_per_hour or self.limit_per_minute
        used = self.recent["hour" if self.limit_per_hour else "minute"]
        percent = 100 if minutes else min(100, used * 100 // limit) if limit else 1
        usage = {"type": "custom_audience", "call_count": percent, "total_cputime": 1, "total_time": 1,
                 "estimated_time_to_regain_access": minutes, "ads_api_access_tier": "standard_access"}
        return {"X-Business-Use-Case-Usage": json.dumps({self.account: [usage]})}

    def find(self, request: Request) -> Any:
        found = super().find(replace(request, path=request.path.removesuffix("/")))
        version = re.match(r"/v([0-9]+\.[0-9]+)/", request.path)
        return "version" if version and float(version[1]) < self.oldest_version else found

    # ---- What requests carry: JSON, or a form whose values are JSON; both are the Graph API's.

    def parameters(self, request: Request) -> dict[str, Any]:
        if not request.body:
            return {}
        if request.media_type() == "application/json":
            return typed(request.json(), dict, "body")
        return request.form(optional=None)

    def arguments(self, request: Request, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        values = {**request.query, **self.parameters(request)}
        structured = ("payload", "session")
        for name in structured:
            if isinstance(values.get(name), str):
                values[name] = parse_json(values[name], name)
        found = keys(values, "parameters", required, (*optional, "access_token", "appsecret_proof"))
        return {name: value for name, value in found.items() if name not in ("access_token", "appsecret_proof")}

    def lookup_account(self, account: str) -> None:
        if account != self.account:
            raise Refused("gone", f"there is no ad account {account}")

    # ---- Audiences.

    @route("POST", f"{ACCOUNT}/customaudiences", query=("name", "subtype", "customer_file_source", "description"))
    def create(self, request: Request, account: str) -> Answer:
        self.lookup_account(account)
        values = self.arguments(request, ("name", "subtype", "customer_file_source"), ("description",))
        one_of(values["subtype"], ("CUSTOM",), "subtype")
        one_of(values["customer_file_source"], SOURCES, "customer_file_source")
        if not typed(values["name"], str, "name"):
            raise bug("name is empty")
        audience = Audience("2384" + self.next_id(), values["name"], details={
            "description": values.get("description", ""), "subtype": "CUSTOM", "customer_file_source": values["customer_file_source"],
            "operation_status": {"code": 200, "description": "Normal"}})
        self.store[audience.id] = audience
        return Answer(200, {"id": audience.id})

    @route("GET", f"{ACCOUNT}/customaudiences", query=("fields", "limit", "after", "summary"))
    def list_all(self, request: Request, account: str) -> Answer:
        self.lookup_account(account)
        shown = self.fields(request)
        limit = number(request, "limit", 25, 1, 5000)
        first = number(request, "after", 0, 0, 10**9 - 1)
        audiences = list(self.store.values())
        page: dict[str, Any] = {"data": [self.show(a, shown) for a in audiences[first:first + limit]]}
        page["paging"] = {"cursors": {"before": str(first), "after": str(first + limit)}}
        if first + limit < len(audiences):
            fields = ",".join(shown)
            page["paging"]["next"] = f"{self.url}{request.path}?fields={fields}&limit={limit}&after={first + limit}"
        return Answer(200, page)

    def fields(self, request: Request) -> list[str]:
        shown = ["id", *request.query.get("fields", "id").split(",")]
        for name in shown:
            one_of(name, FIELDS, "fields")
        return list(dict.fromkeys(shown))

    def show(self, audience: Audience, shown: list[str]) -> dict[str, Any]:
        size = len(audience.members)
        found = {**audience.details, "id": audience.id, "name": audience.name, "account_id": self.account,
                 # Counts are rounded, and at least 1,000; -1: not ready. (Not verified.)
                 "approximate_count_lower_bound": max(1000, size // 100 * 100) if size else -1,
                 "approximate_count_upper_bound": max(1000, math.ceil(size / 100) * 100) if size else -1,
                 "delivery_status": {"code": 200, "description": "This audience is ready for use."},
                 "time_updated": int(max(audience.members.values(), default=time.time()))}
        return {name: found[name] for name in shown if name in found}

    @route("GET", NODE, query=("fields",))
    def show_one(self, request: Request, id: str) -> Answer:
        return Answer(200, self.show(self.lookup(id), self.fields(request)))

    @route("POST", NODE)
    def update(self, request: Request, id: str) -> Answer:
        audience = self.lookup(id)
        values = self.arguments(request, (), ("name", "description"))
        audience.name = typed(values.pop("name", audience.name), str, "name")
        audience.details.update(values)
        return Answer(200, {"success": True})

    @route("DELETE", NODE, body=True)
    def remove(self, request: Request, id: str) -> Answer:
        self.arguments(request, ())
        self.delete(self.lookup(id))
        return Answer(200, {"success": True})

    @route("GET", f"{NODE}/sessions")
    def list_sessions(self, request: Request, id: str) -> Answer:
        self.lookup(id)
        found = [{"session_id": str(s.id), "stage": "closed" if s.closed else "uploading", "num_received": str(s.received),
                  "num_invalid_entries": str(s.invalid)} for s in self.sessions.values() if s.audience == id]
        return Answer(200, {"data": found})

    def flag_audience(self, id: str) -> None:
        """The audience is held back because of its name, until a person resolves it."""
        self.store[id].details["operation_status"] = {"code": 471, "description": "Flagged"}

    def expire_sessions(self) -> None:
        """As if the time of the open sessions had passed."""
        for session in self.sessions.values():
            session.began -= self.session_minutes * 60 + 1

    # ---- Members.

    @route("POST", f"{NODE}/users", query=("payload", "session"), takes=("partial",))
    def add_users(self, request: Request, id: str) -> Answer:
        return self.change(request, id, "add")

    @route("DELETE", f"{NODE}/users", query=("payload", "session"), body=True, takes=("partial",))
    def remove_users(self, request: Request, id: str) -> Answer:
        return self.change(request, id, "remove")

    def change(self, request: Request, id: str, operation: str) -> Answer:
        required = ("payload", "session") if self.require_session else ("payload",)
        values = self.arguments(request, required, ("session",))
        audience = self.usable(id)
        rows, bad = self.rows(request, values["payload"])
        if self.open_session(id):
            raise bug("users are changed while a replacement is under way")
        answer = {"audience_id": id, "session_id": "0", "num_received": len(rows) + len(bad), "num_invalid_entries": len(bad),
                  "invalid_entry_samples": dict(bad[:100])}
        if "session" in values:
            number = self.session_fields(values["session"], last_required=True)
            answer["session_id"] = str(number["session_id"])
        getattr(audience, operation)(rows)
        return Answer(200, answer)

    @route("POST", f"{NODE}/usersreplace", query=("payload", "session"), takes=("partial",))
    def replace_users(self, request: Request, id: str) -> Answer:
        values = self.arguments(request, ("payload", "session"))
        audience = self.usable(id)
        rows, bad = self.rows(request, values["payload"])
        number = self.session_fields(values["session"], last_required=False)
        session = self.session(id, number)
        sequence, last = number["batch_seq"], bool(number.get("last_batch_flag"))
        content = hashlib.sha256(json.dumps([values["payload"], last], sort_keys=True).encode()).hexdigest()
        if self.is_repeat(session, sequence, content):
            return self.replaced(session, bad)
        session.batches[sequence] = content
        session.rows += rows
        session.received += len(rows) + len(bad)
        session.invalid += len(bad)
        # The text is documented, its number is not.
        audience.details["operation_status"] = {"code": 414, "description": "replace_in_progress"}
        if last:
            self.end_session(session)
        return self.replaced(session, bad)

    def replaced(self, session: Session, bad: list[tuple[str, str]]) -> Answer:
        return Answer(200, {"account_id": self.account, "session_id": str(session.id), "num_received": session.received,
                            "num_invalid_entries": session.invalid, "invalid_entry_samples": dict(bad[:100])})

    def settle_due(self, force: bool = False) -> None:
        super().settle_due(force)
        for session in self.sessions.values():
            if not session.closed and time.monotonic() > session.began + self.session_minutes * 60:
                session.timed_out = True
                self.end_session(session)

    def end_session(self, session: Session) -> None:
        """What has come so far replaces the audience."""
        session.closed = True
        audience = self.store.get(session.audience)
        if audience is None:
            return
        audience.replace(session.rows)
        audience.details["operation_status"] = {"code": 200, "description": "Normal"}

    def session(self, id: str, number: dict[str, Any]) -> Session:
        """The session of a batch; the first batch opens it."""
        known = self.sessions.get(number["session_id"])
        if known is None:
            if number["batch_seq"] != 1:
                raise Refused("first_missing", "The first batch_seq was not detected.", bug=True)
            if self.open_session(id):
                raise Refused("busy", "a replacement is in progress already")
            known = Session(number["session_id"], id, time.monotonic())
            self.sessions[known.id] = known
        if known.audience != id:
            raise bug(f"session {known.id} belongs to another audience")
        return known

    def is_repeat(self, session: Session, sequence: int, content: str) -> bool:
        if sequence in session.batches:
            if session.batches[sequence] != content:
                raise bug(f"batch {sequence} of session {session.id} has come with other content or another last_batch_flag")
            return True
        if session.timed_out:
            raise Refused("timed_out", "the session has reached its limit of time")
        if session.closed:
            raise Refused("finished", "a batch after that with last_batch_flag", bug=True)
        if self.in_order and sequence != len(session.batches) + 1:
            raise Refused("first_missing", f"batch {sequence} after {len(session.batches)}", bug=True)
        return False

    def open_session(self, id: str) -> Session | None:
        return next((s for s in self.sessions.values() if s.audience == id and not s.closed), None)

    def session_fields(self, value: Any, last_required: bool) -> dict[str, Any]:
        optional = {"last_batch_flag", "estimated_num_total"}
        required = {"session_id", "batch_seq", *(["last_batch_flag"] if last_required else [])}
        found = keys(value, "session", required, optional)
        if not 0 < typed(found["session_id"], int, "session_id") < 1 << 63 or typed(found["batch_seq"], int, "batch_seq") < 1:
            raise bug("session_id and batch_seq are positive integers")
        typed(found.get("last_batch_flag", False), bool, "last_batch_flag")
        typed(found.get("estimated_num_total", 0), int, "estimated_num_total")
        return found

    def usable(self, id: str) -> Audience:
        audience = self.lookup(id)
        if audience.details["operation_status"]["code"] == 471:
            raise Refused("flagged", "Before updating user memberships, you must resolve integrity restrictions on this audience.")
        return audience

    def rows(self, request: Request, payload: Any) -> tuple[list[Member], list[tuple[str, str]]]:
        """The rows of a payload, and those that are invalid with the reason."""
        payload = keys(payload, "payload", ("schema", "data"), ("is_raw", "app_ids", "page_ids", "data_source"))
        schema, single = self.schema(payload["schema"])
        data = typed(payload["data"], list, "data")
        if not 0 < len(data) <= self.max_rows:
            raise bug(f"{len(data)} rows in a request; 1 to {self.max_rows} are allowed")
        rows: list[Member] = []
        bad: list[tuple[str, str]] = []
        for entry in data:
            values = [entry] if single and isinstance(entry, str) else typed(entry, list, "row")
            if len(values) != len(schema):
                raise bug(f"a row of {len(values)} values for {len(schema)} keys")
            if wrong := self.wrong_value(schema, values):
                self.faults.append(f"{request.method} {request.path}: {wrong}")
                bad.append((json.dumps(entry), wrong))
            else:
                rows.append(member(zip(schema, values, strict=True)))
        if request.fault == "partial" and rows:
            bad.append((json.dumps(data[-1]), "Invalid: ordered by the test"))
            rows.pop()
        return rows, bad

    def schema(self, schema: Any) -> tuple[list[str], bool]:
        """The keys of the rows, and whether a row may be a text."""
        if isinstance(schema, str):
            return [one_of(SINGLE.get(schema, schema), HASHED | PLAIN, "schema")], True
        for key in typed(schema, list, "schema"):
            one_of(key, HASHED | PLAIN, "schema")
        if not schema or len(set(schema)) != len(schema):
            raise bug(f"schema {schema}")
        return schema, False

    def wrong_value(self, schema: list[str], values: list[Any]) -> str | None:
        for key, value in zip(schema, values, strict=True):
            if value != "" and key in HASHED and not SHA256.fullmatch(typed(value, str, key)):
                return f"{key} {value!r:.80} is no SHA-256 in lower-case hex"
        return None if any(values) else "a row without any value"


if __name__ == "__main__":
    main(Meta)
