"""Requests and answers of the test servers, and the strict parsers of what requests carry."""
from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

MASK = "***"
SECRET_HEADERS = {"authorization", "access-token", "cookie"}
SECRET_FIELDS = {"access_token", "appsecret_proof", "assertion", "client_secret", "refresh_token"}
SHA256 = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """A request that is not served.

    `what` is the kind of error, which each platform has its own form for; `bug` says that a correct client
    never sends such a request.
    """

    def __init__(self, what: str, message: str, *, bug: bool = False, **more: Any) -> None:
        super().__init__(message)
        self.what, self.message, self.bug, self.more = what, message, bug, more


def bug(message: str, **more: Any) -> Refused:
    """The error for a request that only a faulty client sends."""
    return Refused("invalid", message, bug=True, **more)


@dataclass
class Answer:
    """What a request is answered with; a body that is no text is sent as JSON."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()

    def content_type(self) -> str:
        return "text/html; charset=utf-8" if isinstance(self.body, str) else "application/json; charset=utf-8"


@dataclass
class Part:
    """A part of a multipart body."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes

    def text(self) -> str:
        return decoded(self.content, f"part {self.name!r}")


@dataclass
class Request:
    """A request as it came; the names of its headers are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    fault: str | None = None

    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def must_be(self, media_type: str) -> None:
        if self.media_type() != media_type:
            raise bug(f"content type {self.headers.get('content-type')!r} in place of {media_type}")

    def json(self) -> Any:
        self.must_be("application/json")
        return parse_json(decoded(self.body, "body"), "body")

    def object(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
        """A JSON object with these keys, and no others."""
        return keys(self.json(), "body", required, optional)

    def form(self, required: Iterable[str] = (), optional: Iterable[str] | None = ()) -> dict[str, str]:
        self.must_be("application/x-www-form-urlencoded")
        fields = pairs(decoded(self.body, "body"), "form")
        return fields if optional is None else keys(fields, "form", required, optional)

    def multipart(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Part]:
        self.must_be("multipart/form-data")
        return keys(parse_multipart(self.headers["content-type"], self.body), "multipart body", required, optional)

    def record(self) -> dict[str, Any]:
        """The request without its secrets, with its body as the values that it stands for."""
        return {
            "method": self.method,
            "path": self.path,
            "query": masked(self.query, SECRET_FIELDS),
            "headers": masked(self.headers, SECRET_HEADERS),
            "body": self.readable_body(),
            "fault": self.fault,
        }

    def readable_body(self) -> Any:
        if not self.body:
            return None
        try:
            match self.media_type():
                case "application/json":
                    return json.loads(self.body)
                case "application/x-www-form-urlencoded":
                    return masked(self.form(optional=None), SECRET_FIELDS)
                case "multipart/form-data":
                    return list(parse_multipart(self.headers["content-type"], self.body).values())
        except (Refused, ValueError):
            pass
        return self.body


def masked(values: Mapping[str, str], secret: set[str]) -> dict[str, str]:
    """The values, of the secret ones only the scheme ("Bearer ***")."""
    return {name: hidden(value) if name in secret else value for name, value in values.items()}


def hidden(value: str) -> str:
    scheme, blank, _ = value.partition(" ")
    return f"{scheme} {MASK}" if blank else MASK


def decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise bug(f"{where}: not UTF-8: {error}") from None


def once(found: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys must differ."""
    values = dict(found)
    if len(values) != len(found):
        raise bug(f"a key is there twice: {[name for name, _ in found]}")
    return values


def no_constant(name: str) -> None:
    raise bug(f"{name} is no JSON")


def parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise bug(f"{where}: malformed JSON: {error}", kind="json") from None


def pairs(text: str, where: str) -> dict[str, str]:
    """The fields of a query or of a form."""
    try:
        return once(parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else [])
    except ValueError as error:
        raise bug(f"malformed {where}: {error}") from None


def keys(value: Any, where: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """The value, if it is an object that has the required keys and none besides the optional ones."""
    if not isinstance(value, dict):
        raise bug(f"{where}: no object")
    required = set(required)
    if missing := required - set(value):
        raise bug(f"{where}: missing {', '.join(sorted(missing))}", kind="missing", field=min(missing))
    if unknown := set(value) - required - set(optional):
        raise bug(f"{where}: unknown {', '.join(sorted(unknown))}", kind="unknown", field=min(unknown))
    return value


def typed(value: Any, kind: type, where: str) -> Any:
    """The value, if it is of the type; true is no number here."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise bug(f"{where}: {value!r:.80} is no {kind.__name__}", field=where)
    return value


def one_of(value: Any, choices: Iterable[str], where: str) -> Any:
    if value not in list(choices):
        raise bug(f"{where}: {value!r:.80} is none of {', '.join(choices)}", field=where)
    return value


def flag(request: Request, name: str, default: bool) -> bool:
    """A boolean of the query."""
    return one_of(request.query.get(name, str(default).lower()), ("true", "false"), name) == "true"


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """An integer of the query."""
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise bug(f"{name}: {text!r:.80} is not between {least} and {most}", field=name)
    return int(text)


def parse_multipart(content_type: str, body: bytes) -> dict[str, Part]:
    """The parts of a body of multipart/form-data (RFC 7578) by their names."""
    boundary = content_parameters(content_type, "content-type").get("boundary", "")
    if not re.fullmatch(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", boundary):
        raise bug(f"multipart: the boundary {boundary!r} is none")
    first, *sections = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if first or len(sections) < 2 or sections.pop() not in (b"--", b"--\r\n"):
        raise bug("multipart: the body does not begin and end with its boundary")
    parts = [parse_part(section) for section in sections]
    return once([(part.name, part) for part in parts])


def parse_part(section: bytes) -> Part:
    head, blank, content = section.partition(b"\r\n\r\n")
    if not head.startswith(b"\r\n") or not blank:
        raise bug("multipart: a part without headers")
    lines = [line.partition(":") for line in decoded(head[2:], "headers of a part").split("\r\n")]
    headers = once([(name.strip().lower(), value.strip()) for name, _, value in lines])
    disposition = headers.pop("content-disposition", "")
    parameters = content_parameters(disposition, "content-disposition")
    if disposition.partition(";")[0].strip() != "form-data" or "name" not in parameters:
        raise bug(f"multipart: content-disposition {disposition!r}")
    content_type = headers.pop("content-type", None)
    if headers:
        raise bug(f"multipart: unknown header {', '.join(headers)}")
    return Part(parameters["name"], parameters.get("filename"), content_type, content)


def content_parameters(value: str, header: str) -> dict[str, str]:
    message = Message()
    message[header] = value
    return once([(name, text) for name, text in message.get_params([], header)[1:]])
