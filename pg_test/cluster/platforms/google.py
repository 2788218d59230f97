"""Google: Customer Match through the Data Manager API, v1 (datamanager.googleapis.com), and the token endpoint.

After google-ads-datamanager 0.9.4 and the pages on errors and limits of the Data Manager API. Where that package
can be imported, each request body is parsed by its protobuf classes too. Facts that are not from there:

* an unknown list in productDestinationId is answered by 400 INVALID_DESTINATION, an unknown account by 403;
* re-ingestion counts as "last added" (re_ingestion_counts turns that off);
* members are changed when the request is accepted; the state of the request only says so later;
* the reasons of 401 (ACCESS_TOKEN_EXPIRED, CREDENTIALS_MISSING): from other APIs of Google.

A member is kept as its identifiers; a hash in Base64 is kept as hex.
"""
from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import jwt
from .message import SHA256, Answer, Refused, Request, bug, flag, keys, number, one_of, typed
from .server import Audience, Job, Member, Platform, Tokens, bearer, main, member, route

try:
    from google.ads import datamanager_v1
    from google.protobuf import json_format
except ImportError:
    datamanager_v1 = None

SCOPE = "https://www.googleapis.com/auth/datamanager"
TOKEN_URL = "https://oauth2.googleapis.com/token"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LISTS = "/v1/accountTypes/([A-Z_]+)/accounts/([0-9]+)/userLists"
CONSENT = ("CONSENT_GRANTED", "CONSENT_DENIED", "CONSENT_STATUS_UNSPECIFIED")
# HTTP status, status, reason.
ERRORS = {
    "invalid": (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    "unknown_path": (404, "NOT_FOUND", "NOT_FOUND"),
    "method": (404, "NOT_FOUND", "NOT_FOUND"),
    "gone": (404, "NOT_FOUND", "NOT_FOUND"),
    "unauthorized": (401, "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
    "token_expired": (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"),
    "revoked": (403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
    "server_error": (503, "UNAVAILABLE", "INTERNAL_ERROR"),
    "too_large": (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
}
# Of the token endpoint (RFC 6749).
GRANT_ERRORS = {"invalid_grant": 400, "invalid_client": 401, "unsupported_grant_type": 400, "invalid_request": 400, "invalid_scope": 400}


@dataclass
class Accepted:
    """A request that was accepted, and what became of it."""

    job: Job
    destinations: list[Any]
    kind: str
    rows: int
    identifiers: int
    partial: bool


class Google(Platform):
    """Google's Data Manager API, as far as it is about user lists of an account of Google Ads."""

    name = "google"
    account = "7693729833"
    client_id = "client.apps.googleusercontent.com"
    client_secret = "client-secret"
    refresh_token = "1//refresh-token"
    service_account = "segmenter@project.iam.gserviceaccount.com"
    token_lifetime = 3600.0
    limit_per_minute = 300
    limit_per_day = 100000
    max_rows = 10000
    max_destinations = 10
    max_identifiers = 10
    system_query = ("$alt",)
    re_ingestion_counts = True
    terms_required = True
    kinds = Platform.kinds | {"partial", "fail_processing"}

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.tokens = Tokens()
        self.accepted: dict[str, Accepted] = {}
        self._keys: tuple[str, str] | None = None
        self._is_revoked = False
        super().__init__(*args, **settings)

    # ---- Tokens.

    @property
    def grants(self) -> dict[str, int]:
        """How many tokens were granted, by the kind of grant."""
        return dict(self.tokens.grants)

    def expire_tokens(self) -> None:
        """The access tokens expire now."""
        self.tokens.expire()

    def revoke(self) -> None:
        """From now on there are no tokens: a person has to sign in again."""
        self._is_revoked = True
        self.tokens.ends.clear()

    def service_account_key(self) -> dict[str, str]:
        """The key of the service account, in the form of the file that Google gives."""
        with self.lock:
            self._keys = self._keys or jwt.make_key()
        return {"type": "service_account", "project_id": "project", "private_key_id": "key-1", "private_key": self._keys[0],
                "client_email": self.service_account, "token_uri": f"{self.url}/token"}

    @route("POST", "/token", auth=False)
    def token(self, request: Request) -> Answer:
        try:
            return self.grant(request)
        except Refused as refused:
            if refused.what == "invalid":
                refused.what = "invalid_request"
            self.tokens.refused[refused.what] += 1
            raise

    def grant(self, request: Request) -> Answer:
        form = request.form(optional=None)
        kind = form.get("grant_type", "")
        if kind == "refresh_token":
            self.check_client(keys(form, "form", ("grant_type", "client_id", "client_secret", "refresh_token"), ("scope",)))
        elif kind == JWT_BEARER:
            self.check_assertion(keys(form, "form", ("grant_type", "assertion"), ("scope",))["assertion"])
        else:
            raise Refused("unsupported_grant_type", f"Invalid grant_type: {kind}", bug=True)
        token = "ya29." + secrets.token_urlsafe(30)
        self.tokens.issue(token, self.token_lifetime)
        self.tokens.grants["jwt_bearer" if kind == JWT_BEARER else kind] += 1
        return Answer(200, {"access_token": token, "expires_in": int(self.token_lifetime), "scope": SCOPE, "token_type": "Bearer"})

    def check_client(self, form: dict[str, str]) -> None:
        if (form["client_id"], form["client_secret"]) != (self.client_id, self.client_secret):
            raise Refused("invalid_client", "The OAuth client was not found.")
        if self._is_revoked or form["refresh_token"] != self.refresh_token:
            raise Refused("invalid_grant", "Token has been expired or revoked.")

    def check_assertion(self, assertion: str) -> None:
        header, claims, signed, signature = jwt.parse(assertion)
        keys(header, "JWT header", ("alg",), ("typ", "kid"))
        keys(claims, "JWT claims", ("iss", "scope", "aud", "iat", "exp"), ("sub",))
        one_of(header["alg"], ("RS256",), "alg")
        if claims["iss"] != self.service_account or self._keys is None or self._is_revoked:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        if not jwt.is_signed(self._keys[1], signed, signature):
            raise Refused("invalid_grant", "Invalid JWT Signature.", bug=True)
        one_of(claims["aud"], (TOKEN_URL, f"{self.url}/token"), "aud")
        if claims["scope"] != SCOPE:
            raise Refused("invalid_scope", f"scope {claims['scope']!r}", bug=True)
        issued, ends, now = typed(claims["iat"], int, "iat"), typed(claims["exp"], int, "exp"), time.time()
        if not (now - 3600 < issued < now + 60 and max(now, issued) < ends <= issued + 3600):
            raise Refused("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)", bug=True)

    def authorize(self, request: Request) -> None:
        match self.tokens.state(bearer(request)):
            case "expired":
                raise Refused("token_expired", "Request had invalid authentication credentials.")
            case "unknown":
                raise Refused("token_expired", "Request had invalid authentication credentials.", reason="ACCESS_TOKEN_TYPE_UNSUPPORTED")

    # ---- Errors, limits.

    def counts(self, request: Request) -> bool:
        return request.path != "/token"

    def error(self, what: str, message: str, **more: Any) -> Answer:
        if what in GRANT_ERRORS:
            return Answer(GRANT_ERRORS[what], {"error": what, "error_description": message})
        status, name, reason = ERRORS[what]
        info: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": more.get("reason", reason),
                                "domain": "datamanager.googleapis.com"}
        details = [info, {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": secrets.token_urlsafe(12)}]
        if what == "rate_limit":
            window = more.get("window", "minute")
            info["metadata"] = {"service": "datamanager.googleapis.com", "quota_limit": f"IngestionRequestsPer{window.title()}PerProject",
                                "quota_limit_value": str(more.get("limit", self.limit_per_minute)), "consumer": "projects/1"}
            self.limited(more.get("wait", 0))
        if what == "invalid":
            violation = {"field": more.get("field", ""), "description": message, "reason": more.get("reason", reason)}
            details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
        return Answer(status, {"error": {"code": status, "message": message, "status": name, "details": details}})

    # ---- User lists.

    def lookup_account(self, kind: str, account: str) -> None:
        if (kind, account) != ("GOOGLE_ADS", self.account):
            raise Refused("revoked", "The user does not have permission or the resource is not found.")

    @route("POST", LISTS, query=("validateOnly",))
    def create(self, request: Request, kind: str, account: str) -> Answer:
        self.lookup_account(kind, account)
        optional = ("description", "membershipDuration", "membershipStatus", "integrationCode")
        body = keys(self.parse("UserList", request), "body", ("displayName", "ingestedUserListInfo"), optional)
        if not typed(body["displayName"], str, "displayName"):
            raise bug("displayName is empty", field="user_list.display_name", reason="REQUIRED_FIELD_MISSING")
        self.check_info(body["ingestedUserListInfo"])
        duration = body.get("membershipDuration", "46656000s")
        if not re.fullmatch("[0-9]{1,9}s", duration) or int(duration[:-1]) % 86400:
            raise bug(f"membershipDuration {duration!r} is no number of whole days", field="user_list.membership_duration")
        if any(a.name == body["displayName"] for a in self.store.values()):
            raise Refused("invalid", "A user list of this name exists.", reason="ALREADY_EXISTS", field="user_list.display_name")
        audience = Audience("9" + self.next_id(), body.pop("displayName"), details=body)
        if not flag(request, "validateOnly", False):
            self.store[audience.id] = audience
        return Answer(200, self.show(audience))

    def check_info(self, info: Any) -> None:
        info = keys(info, "ingestedUserListInfo", ("uploadKeyTypes",), ("contactIdInfo",))
        if info["uploadKeyTypes"] != ["CONTACT_ID"]:
            raise bug(f"uploadKeyTypes {info['uploadKeyTypes']}: this server knows CONTACT_ID only")
        contact = keys(info.get("contactIdInfo", {}), "contactIdInfo", (), ("dataSourceType",))
        one_of(contact.get("dataSourceType", "DATA_SOURCE_TYPE_FIRST_PARTY"), ("DATA_SOURCE_TYPE_FIRST_PARTY",), "dataSourceType")

    def show(self, audience: Audience) -> dict[str, Any]:
        size = str(len(audience.members))
        return {"name": f"accountTypes/GOOGLE_ADS/accounts/{self.account}/userLists/{audience.id}", "id": audience.id,
                "displayName": audience.name, "membershipStatus": "OPEN", **audience.details, "accessReason": "OWNED",
                "sizeInfo": {"displayNetworkMembersCount": size, "searchNetworkMembersCount": size}}

    @route("GET", LISTS, query=("pageSize", "pageToken", "filter"))
    def list_all(self, request: Request, kind: str, account: str) -> Answer:
        self.lookup_account(kind, account)
        size, first = number(request, "pageSize", 50, 1, 1000), number(request, "pageToken", 0, 0, 10**9 - 1)
        audiences = list(self.store.values())
        page: dict[str, Any] = {"userLists": [self.show(a) for a in audiences[first:first + size]]}
        if first + size < len(audiences):
            page["nextPageToken"] = str(first + size)
        return Answer(200, page)

    @route("GET", LISTS + "/([0-9]+)")
    def show_one(self, request: Request, kind: str, account: str, id: str) -> Answer:
        self.lookup_account(kind, account)
        return Answer(200, self.show(self.lookup(id)))

    @route("DELETE", LISTS + "/([0-9]+)", query=("validateOnly",))
    def remove(self, request: Request, kind: str, account: str, id: str) -> Answer:
        self.lookup_account(kind, account)
        audience = self.lookup(id)
        if not flag(request, "validateOnly", False):
            self.delete(audience)
        return Answer(200, {})

    # ---- Members.

    @route("POST", "/v1/audienceMembers:ingest", takes=("partial", "fail_processing"))
    def ingest(self, request: Request) -> Answer:
        optional = ("consent", "validateOnly", "encoding", "termsOfService")
        body = keys(self.parse("IngestAudienceMembersRequest", request), "body", ("destinations", "audienceMembers"), optional)
        self.check_statements(body)
        rows = self.rows(body)

        def change(audience: Audience) -> None:
            audience.add(row for row in rows if self.re_ingestion_counts or row not in audience.members)

        return self.accept(request, body, "audienceMembersIngestionStatus", rows, change)

    @route("POST", "/v1/audienceMembers:remove", takes=("partial", "fail_processing"))
    def remove_members(self, request: Request) -> Answer:
        optional = ("validateOnly", "encoding")
        body = keys(self.parse("RemoveAudienceMembersRequest", request), "body", ("destinations", "audienceMembers"), optional)
        rows = self.rows(body)
        return self.accept(request, body, "audienceMembersRemovalStatus", rows, lambda audience: audience.remove(rows))

    @route("POST", "/v1/audienceMembers:removeAll", takes=("fail_processing",))
    def remove_all(self, request: Request) -> Answer:
        optional = ("removeAsOfTime", "validateOnly")
        body = keys(self.parse("RemoveAllAudienceMembersRequest", request), "body", ("destinations",), optional)
        until = self.instant(body["removeAsOfTime"]) if "removeAsOfTime" in body else time.time()

        def change(audience: Audience) -> None:
            audience.remove([row for row, added in audience.members.items() if added < until])

        return self.accept(request, body, "removeAllAudienceMembersStatus", [], change)

    @route("GET", "/v1/requestStatus:retrieve", query=("requestId",))
    def status(self, request: Request) -> Answer:
        if request.query.get("requestId") not in self.accepted:
            raise bug("the request id is unknown", field="request_id", reason="INVALID_REQUEST_ID")
        accepted = self.accepted[request.query["requestId"]]
        ended = accepted.job.look()
        return Answer(200, {"requestStatusPerDestination": [self.outcome(accepted, d, ended) for d in accepted.destinations]})

    def accept(self, request: Request, body: dict[str, Any], kind: str, rows: list[Member], change: Callable[[Audience], None]) -> Answer:
        audiences = self.destinations(body)
        failed = request.fault == "fail_processing"
        id = secrets.token_urlsafe(12)
        if typed(body.get("validateOnly", False), bool, "validateOnly"):
            return Answer(200, {"requestId": id})
        if request.fault == "partial":
            del rows[-1:]
        for audience in audiences:
            if not failed:
                change(audience)
        job = self.later(lambda: None, failed)
        count = len(body.get("audienceMembers", []))
        self.accepted[id] = Accepted(job, body["destinations"], kind, count, sum(map(len, rows)), request.fault == "partial")
        return Answer(200, {"requestId": id})

    def outcome(self, accepted: Accepted, destination: Any, ended: bool) -> dict[str, Any]:
        status: dict[str, Any] = {"destination": destination, "requestStatus": "PROCESSING"}
        if not ended:
            return status
        counts = {"recordCount": str(accepted.rows), "userIdentifierCount": str(accepted.identifiers)}
        which = {"audienceMembersIngestionStatus": "userDataIngestionStatus", "audienceMembersRemovalStatus": "userDataRemovalStatus"}
        status[accepted.kind] = {which[accepted.kind]: counts} if accepted.kind in which else {}
        bad = accepted.rows if accepted.job.failed else 1 if accepted.partial else 0
        status["requestStatus"] = "FAILED" if accepted.job.failed else "PARTIAL_SUCCESS" if accepted.partial else "SUCCESS"
        if status["requestStatus"] != "SUCCESS":
            reason = "PROCESSING_ERROR_REASON_INTERNAL_ERROR" if accepted.job.failed else "PROCESSING_ERROR_REASON_INVALID_FORMAT"
            status["errorInfo"] = {"errorCounts": [{"recordCount": str(bad), "reason": reason}]}
        return status

    # ---- What bodies carry.

    def parse(self, kind: str, request: Request) -> Any:
        """The body; Google's own classes take it, where they are installed."""
        body = request.json()
        if datamanager_v1 is None:
            return body
        try:
            found = json_format.Parse(request.body, getattr(datamanager_v1, kind).pb()())
        except json_format.ParseError as error:
            raise bug(f"{kind}: {error}", reason="INVALID_FORMAT") from None
        # Google's own clients say so that they write enumerations as numbers.
        return json_format.MessageToDict(found) if "$alt" in request.query else body

    def check_statements(self, body: dict[str, Any]) -> None:
        """What the advertiser declares: consent and terms."""
        consent = keys(body.get("consent", {}), "consent", (), ("adUserData", "adPersonalization"))
        for name, value in consent.items():
            one_of(value, CONSENT, name)
        terms = keys(body.get("termsOfService", {}), "termsOfService", (), ("customerMatchTermsOfServiceStatus",))
        if self.terms_required and terms.get("customerMatchTermsOfServiceStatus") != "ACCEPTED":
            raise Refused("invalid", "Required terms and conditions are not accepted.", field="terms_of_service",
                          reason="TERMS_AND_CONDITIONS_NOT_SIGNED")

    def destinations(self, body: dict[str, Any]) -> list[Audience]:
        found = typed(body["destinations"], list, "destinations")
        if not 0 < len(found) <= self.max_destinations:
            raise bug(f"{len(found)} destinations", field="destinations", reason="TOO_MANY_DESTINATIONS")
        return [self.destination(n, value) for n, value in enumerate(found)]

    def destination(self, n: int, value: Any) -> Audience:
        where = f"destinations[{n}]"
        value = keys(value, where, ("operatingAccount", "productDestinationId"), ("loginAccount", "linkedAccount", "reference"))
        for name in ("operatingAccount", "loginAccount"):
            if name in value:
                account = keys(value[name], name, ("accountType", "accountId"))
                typed(account["accountId"], str, "accountId")
        self.lookup_account(*(value["operatingAccount"][name] for name in ("accountType", "accountId")))
        id = typed(value["productDestinationId"], str, "productDestinationId")
        if id not in self.store:
            field = f"{where}.product_destination_id"
            raise Refused("invalid", "This Destination is not valid.", field=field, reason="INVALID_DESTINATION")
        return self.store[id]

    def rows(self, body: dict[str, Any]) -> list[Member]:
        encoding = one_of(body.get("encoding"), ("HEX", "BASE64"), "encoding")
        found = typed(body["audienceMembers"], list, "audienceMembers")
        if not 0 < len(found) <= self.max_rows:
            raise bug(f"{len(found)} members in a request", field="audience_members", reason="TOO_MANY_AUDIENCE_MEMBERS")
        return [self.row(n, value, encoding) for n, value in enumerate(found)]

    def row(self, n: int, value: Any, encoding: str) -> Member:
        where = f"audience_members.audience_members[{n}]"
        data = keys(value, where, ("userData",), ("consent", "destinationReferences"))["userData"]
        identifiers = typed(keys(data, where, ("userIdentifiers",))["userIdentifiers"], list, where)
        if not identifiers:
            raise bug("a member without identifiers", field=where, reason="REQUIRED_FIELD_MISSING")
        if len(identifiers) > self.max_identifiers:
            raise bug(f"{len(identifiers)} identifiers of a member", field=where, reason="TOO_MANY_USER_IDENTIFIERS")
        return member(pair for found in identifiers for pair in self.identifier(where, found, encoding))

    def identifier(self, where: str, value: Any, encoding: str) -> list[tuple[str, str]]:
        value = keys(value, where, (), ("emailAddress", "phoneNumber", "address"))
        if len(value) != 1:
            raise bug(f"{len(value)} kinds in one identifier", field=where, reason="INVALID_AUDIENCE_MEMBER")
        kind, found = next(iter(value.items()))
        if kind != "address":
            return [(kind, self.hashed(f"{where}.{kind}", found, encoding))]
        address = keys(found, where, ("givenName", "familyName", "regionCode", "postalCode"))
        if not re.fullmatch("[A-Z]{2}", address["regionCode"]):
            raise bug(f"regionCode {address['regionCode']!r}", field=where, reason="INVALID_COUNTRY_CODE")
        for name in ("givenName", "familyName"):
            address[name] = self.hashed(f"{where}.address.{name}", address[name], encoding)
        return list(address.items())

    def hashed(self, where: str, value: Any, encoding: str) -> str:
        typed(value, str, where)
        if encoding == "BASE64":
            try:
                value = base64.b64decode(value, validate=True).hex()
            except ValueError:
                raise bug(f"{value!r:.80} is no Base64", field=where, reason="INVALID_BASE64_ENCODING") from None
        if not SHA256.fullmatch(value):
            raise bug(f"{value!r:.80} is no SHA-256 in lower-case hex", field=where, reason="INVALID_SHA256_FORMAT")
        return value

    def instant(self, value: Any) -> float:
        try:
            until = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", typed(value, str, "removeAsOfTime")))
        except ValueError:
            until = None
        if until is None or until.tzinfo is None or until.timestamp() > time.time():
            raise bug(f"removeAsOfTime {value!r} is no time in the past", field="remove_as_of_time", reason="INVALID_FORMAT")
        return until.timestamp()


if __name__ == "__main__":
    main(Google)
