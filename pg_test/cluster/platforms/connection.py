"""HTTP of the test servers: connections that are kept alive, strict reading, and the faults of the connection."""
from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .faults import ANSWERED, BROKEN, SERVED, Fault
from .message import Answer, Refused, Request, bug, pairs

if TYPE_CHECKING:
    from .server import Platform

LOG_LIMIT = 20000


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def serve(self) -> None:
        platform = self.server.platform
        request, refused = self.read()
        if request.path.startswith("/-/"):
            self.answer(platform.control(request))
            return
        with platform.lock:
            fault = None if refused else platform.pick(request)
            request.fault = fault.kind if fault else None
            record = request.record()
            platform.requests.append(record)
            del platform.requests[:-LOG_LIMIT]
        if refused:
            with platform.lock:
                self.finish_with(record, platform.refuse(request, refused))
            self.close_connection = True
        elif fault is None or fault.kind in SERVED:
            self.finish_with(record, platform.process(request))
        else:
            self.fail(fault, request, record)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve

    def read(self) -> tuple[Request, Refused | None]:
        """The request, and why it cannot be served."""
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, {}, headers, b"")
        try:
            if len(headers) != len(self.headers):
                raise bug(f"a header is there twice: {self.headers.keys()}")
            request.query = pairs(query, "query")
            request.body = self.read_body(headers)
        except Refused as refused:
            return request, refused
        return request, None

    def read_body(self, headers: dict[str, str]) -> bytes:
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise bug(f"transfer-encoding {coding} with content-length {length}")
            return self.read_chunks()
        if length is None:
            return b""
        if not re.fullmatch("[0-9]+", length):
            raise bug(f"content-length {length!r}")
        if int(length) > self.server.platform.max_body:
            raise Refused("too_large", f"a body of {length} bytes")
        return self.rfile.read(int(length))

    def read_chunks(self) -> bytes:
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return b"".join(chunks)

    def fail(self, fault: Fault, request: Request, record: dict[str, Any]) -> None:
        """Answers in the way that the fault asks for."""
        platform, how = self.server.platform, fault.how
        if fault.kind in ANSWERED:
            more = {name: value for name, value in how.items() if name != "apply"}
            if how.get("apply"):
                platform.process(request)
            with platform.lock:
                answer = platform.signed(platform.error(fault.kind, f"{fault.kind} was ordered", **more))
            self.finish_with(record, answer)
            return
        if fault.kind == "slow":
            platform._stopped.wait(how.get("seconds", 1))
        applied = platform.process(request) if how.get("apply", BROKEN[fault.kind]) else None
        match fault.kind:
            case "slow":
                self.finish_with(record, applied or Answer(200))
            case "redirect":
                self.finish_with(record, Answer(302, None, {"Location": how.get("location", f"{platform.url}/elsewhere")}))
            case "garbage":
                self.finish_with(record, Answer(200, "<html><body>Please sign in</body></html>"))
            case "huge":
                record["answer"] = "huge"
                self.answer_without_end(how.get("size", 64 << 20))
            case "truncated" if applied and applied.data():
                record["answer"] = "truncated"
                self.answer(applied, part=len(applied.data()) // 2)
                self.drop()
            case _:
                record["answer"] = "dropped"
                self.drop()

    def finish_with(self, record: dict[str, Any], answer: Answer) -> None:
        record["answer"] = answer.status
        self.answer(answer)

    def answer(self, answer: Answer, part: int | None = None) -> None:
        data = answer.data()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            if data:
                self.send_header("Content-Type", answer.content_type())
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:part])

    def answer_without_end(self, size: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.write_chunk(b'{"data": "')
        sent = 0
        while (size is None or sent < size) and not self.server.platform._stopped.is_set():
            self.write_chunk(b"x" * 65536)
            sent += 65536
        self.write_chunk(b'"}')
        self.write_chunk(b"")

    def write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no HTTP, or has a method that no platform has."""
        with self.server.platform.lock:
            self.server.platform.faults.append(f"malformed request {self.requestline!r:.200}: {code} {message}")
        super().send_error(code, message, explain)

    def log_message(self, *args: Any) -> None:
        pass


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, platform: Platform, port: int, tls: tuple[str, str] | None) -> None:
        self.platform, self.context = platform, None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.context:
            # The handshake is made by the connection's own thread, when it reads.
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stops, and closes the connections that are kept alive."""
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error here."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
