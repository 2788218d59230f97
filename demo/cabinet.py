"""An ad cabinet for the demo: takes an audience's messages over HTTP and keeps it in a file.

    cabinet.py DIRECTORY SECRET

Listens on 127.0.0.1, on a port that it writes to DIRECTORY/port; the audience is in
DIRECTORY/audience.json, a list of members.
"""

import base64
import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

directory, secret = sys.argv[1], sys.argv[2].encode()
members: dict[str, dict] = {}
seen: set[str] = set()


def put(name: str, text: str) -> None:
    path = os.path.join(directory, name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


class Cabinet(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        signature = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        if not hmac.compare_digest(signature, self.headers["webhook-signature"]):
            return self.answer(403, {"message": "the signature is wrong"})
        # What was received already is received again after a failure: it must not count twice.
        key = self.headers["Idempotency-Key"]
        if key not in seen:
            seen.add(key)
            self.take(json.loads(body))
        self.answer(200, {"external_id": "audience-1", "coverage": len(members)})

    def take(self, message: dict) -> None:
        if message["operation"] in ("create", "delete") or (
            message["operation"] == "replace" and message["part"] == 1
        ):
            members.clear()
        for member in message["members"]:
            name = json.dumps(member, sort_keys=True)
            if message["operation"] == "remove":
                members.pop(name, None)
            else:
                members[name] = member
        put("audience.json", json.dumps(list(members.values())))

    def answer(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Cabinet)
put("port", str(server.server_port))
server.serve_forever()
