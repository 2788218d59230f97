"""A platform that does not exist, for docs/connectors.md: lists of members, a bearer token, no more.

    POST   /lists                 {"name"} -> 201 {"id"}
    GET    /lists                 -> {"lists": [{"id", "name", "size"}]}
    POST   /lists/{id}/members    {"add": [...]} or {"remove": [...]} -> {"received", "invalid"}
    PUT    /lists/{id}/members    {"members": [...]} replaces them -> {"received", "invalid"}
    DELETE /lists/{id}            -> 204

A member is an object with `email`, `phone` or both: SHA-256 in lower-case hex. Errors are
{"error": {"code", "message"}}; 429 has Retry-After.
"""
from __future__ import annotations

from typing import Any

from .message import SHA256, Answer, Refused, Request, bug, keys, typed
from .server import Audience, Member, Platform, bearer, main, member, route, wait_header

STATUS = {"invalid": 400, "unauthorized": 401, "token_expired": 401, "revoked": 403, "unknown_path": 404, "gone": 404,
          "method": 405, "too_large": 413, "rate_limit": 429, "server_error": 503}


class Example(Platform):
    """The invented platform of docs/connectors.md."""

    name = "example"
    token = "example-token"
    max_rows = 1000
    kinds = Platform.kinds | {"partial"}

    def authorize(self, request: Request) -> None:
        if bearer(request) != self.token:
            raise Refused("unauthorized", "unknown token")

    def error(self, what: str, message: str, **more: Any) -> Answer:
        headers = {}
        if what == "rate_limit":
            self.limited(wait := more.get("wait", 1))
            headers = wait_header(wait)
        return Answer(STATUS[what], {"error": {"code": what, "message": message}}, headers)

    @route("POST", "/lists")
    def create(self, request: Request) -> Answer:
        name = typed(request.object(["name"])["name"], str, "name")
        audience = Audience(self.next_id(), name)
        self.store[audience.id] = audience
        return Answer(201, {"id": audience.id})

    @route("GET", "/lists")
    def lists(self, request: Request) -> Answer:
        found = [{"id": a.id, "name": a.name, "size": len(a.members)} for a in self.store.values()]
        return Answer(200, {"lists": found})

    @route("POST", "/lists/([0-9]+)/members", takes=("partial",))
    def change(self, request: Request, id: str) -> Answer:
        change = request.object([], ["add", "remove"])
        if len(change) != 1:
            raise bug("one of add and remove")
        operation, rows = next(iter(change.items()))
        return self.take(request, rows, getattr(self.lookup(id), operation))

    @route("PUT", "/lists/([0-9]+)/members", takes=("partial",))
    def replace(self, request: Request, id: str) -> Answer:
        return self.take(request, request.object(["members"])["members"], self.lookup(id).replace)

    @route("DELETE", "/lists/([0-9]+)")
    def remove_list(self, request: Request, id: str) -> Answer:
        self.delete(self.lookup(id))
        return Answer(204)

    def take(self, request: Request, rows: Any, into: Any) -> Answer:
        if len(typed(rows, list, "members")) > self.max_rows:
            raise bug(f"{len(rows)} members in a request")
        good = [row for found in rows if (row := self.row(found))]
        if request.fault == "partial":
            del good[-1:]
        into(good)
        return Answer(200, {"received": len(rows), "invalid": len(rows) - len(good)})

    def row(self, found: Any) -> Member:
        values = keys(found, "member", [], ["email", "phone"])
        for kind, value in values.items():
            if not SHA256.fullmatch(typed(value, str, kind)):
                raise bug(f"{kind} {value!r:.80} is no SHA-256 in lower-case hex")
        return member(values.items())


if __name__ == "__main__":
    main(Example)
