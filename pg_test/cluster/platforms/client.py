"""A plain HTTP client for the tests of the servers."""
from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

BOUNDARY = "----segmenter-boundary"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hashes(count: int, first: int = 0) -> list[str]:
    return [sha256(f"person{n}@example.com") for n in range(first, first + count)]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def multipart(parts: list[tuple[str, str | None, str | None, str]]) -> bytes:
    """A body of parts: name, filename, type, content."""
    lines = []
    for name, filename, kind, content in parts:
        lines.append(f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"")
        lines.append(f"; filename=\"{filename}\"" if filename else "")
        lines.append(f"\r\nContent-Type: {kind}" if kind else "")
        lines.append(f"\r\n\r\n{content}\r\n")
    return ("".join(lines) + f"--{BOUNDARY}--\r\n").encode()


class Client:
    """Requests to one server, each on a connection of its own, with the same headers."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, ca: str | None = None) -> None:
        self.url, self.headers = urlsplit(url), headers or {}
        self.context = ssl.create_default_context(cafile=ca) if ca else None

    def connect(self) -> http.client.HTTPConnection:
        if self.context:
            return http.client.HTTPSConnection(self.url.netloc, timeout=10, context=self.context)
        return http.client.HTTPConnection(self.url.netloc, timeout=10)

    def call(self, method: str, path: str, body: Any = None, *, kind: str = "json", query: dict[str, Any] | None = None,
             headers: dict[str, str] | None = None, over: http.client.HTTPConnection | None = None) -> Reply:
        """kind: how the body is sent: json, form, multipart, or as it is with this content type."""
        data, content_type = self.encode(body, kind)
        sent = {**self.headers, **({"Content-Type": content_type} if data is not None else {}), **(headers or {})}
        connection = over or self.connect()
        try:
            connection.request(method, path + ("?" + urlencode(query) if query else ""), data, sent)
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            if not over:
                connection.close()

    def encode(self, body: Any, kind: str) -> tuple[bytes | None, str]:
        if body is None:
            return None, ""
        if kind == "json":
            return json.dumps(body).encode(), "application/json"
        if kind == "form":
            return urlencode(body).encode(), "application/x-www-form-urlencoded"
        if kind == "multipart":
            return multipart(body), f"multipart/form-data; boundary={BOUNDARY}"
        return body if isinstance(body, bytes) else body.encode(), kind
