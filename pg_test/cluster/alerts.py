"""What consumers of alerts receive, compared with what the log says has happened."""
from __future__ import annotations

import json
import os
import random
import sys
import threading
from contextlib import contextmanager
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
from checks import Connection, Wrong, kill_server, must, must_equal, one, rows, value, wait_for
from psycopg.rows import dict_row

FAILED = False
# Names as people would not give them, and as attackers would.
NAMES = ["vip", 'two "words"\n{alert.key} <b>&amp; \\', "'; drop table people; --"]


def connect() -> Connection:
    return psycopg.connect(dbname="shop", user="postgres", autocommit=True, row_factory=dict_row)


@contextmanager
def check(what: str) -> Iterator[None]:
    global FAILED
    try:
        yield
        print(f"ok {what}", flush=True)
    except Wrong as error:
        FAILED = True
        print(f"not ok {what}: {str(error)[:800]}", flush=True)


class Receiver:
    """A server that takes what is posted to it, or is down."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.headers: list[Any] = []
        self.is_down = False
        self.refused = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if receiver.is_down:
                    receiver.refused += 1
                    self.send_response(503)
                    self.end_headers()
                    return
                receiver.bodies.append(body)
                receiver.paths.add(self.path)
                receiver.headers.append(self.headers)
                text = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'" if "\\" not in text else "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


SCHEMA = """
create table people (id int primary key);
insert into people select g from generate_series(1, 40) g;
create table loaded (at timestamptz);
insert into loaded values (now());
"""


def set_up(db: Connection, receivers: dict[str, Receiver]) -> None:
    db.execute(SCHEMA)
    urls = ", ".join(receiver.url for receiver in receivers.values())
    db.execute(f"alter system set segmenter.http_allow = {literal(urls)}")  # type: ignore[arg-type]
    db.execute("select pg_reload_conf()")
    secrets = {"slack": "access_token 'xoxb-secret'", "pagerduty": "routing_key 'R0UTING'"}
    options = {"slack": "channel '#data'", "pagerduty": "source 'shop'"}
    for name, receiver in receivers.items():
        spec = (Path(os.environ["EXAMPLES"]) / f"{name}.json").read_text()
        db.execute("insert into segmenter_connectors (name, spec) values (%s, %s)", (name, spec))
        db.execute(f"""create server {name} foreign data wrapper segmenter_http
            options (connector '{name}', url {literal(receiver.url)}, {options[name]})""")  # type: ignore[arg-type]
        db.execute(f"create user mapping for postgres server {name} options ({secrets[name]})")  # type: ignore[arg-type]
        params = {"updater": {"server": name}, "max_attempts": 1000}
        db.execute("insert into segmenter_consumers (name, params) values (%s, %s)", (name, json.dumps(params)))
    for number, name in enumerate(NAMES):
        db.execute("select segmenter_create_segment(%s, 'select id from public.people', table_name => %s)", (name, f"public.s{number}"))
        db.execute("update segmenter_segments set sources = %s where name = %s",
                   ('[{"table": "public.loaded", "loaded_at": "at", "error_after": "1 day"}]', name))
        must_equal(value(db, "select status from segmenter_refresh(%s)", name), "ok", name)
    for name in receivers:
        db.execute("select segmenter_alert(%s, %s)", (name, '{"on": ["failed", "refused", "waiting"], "flapping": false}'))


def transitions(db: Connection, segment: str) -> list[tuple[str, str]]:
    """The changes of how refreshes ended, by the log."""
    return [(row["was"], row["is"]) for row in rows(db, """
        select was, "is" from (
            select id, lag(status, 1, 'ok') over (order by id) as was, status as "is"
            from (
                select id, case status when 'interrupted' then 'failed' else status end as status
                from segmenter_log where segment_name = %s and action = 'refresh' and status not in ('running', 'skipped')
            ) l
        ) l where was <> "is" order by id""", segment)]


def is_delivered(db: Connection) -> bool:
    return value(db, """
        select count(*) from segmenter_outbox o join segmenter_deliveries d on d.subscription_id = o.subscription_id
        where o.operation = 'alert' and o.id > d.delivered_through""") == 0


def once(bodies: list[Any]) -> list[Any]:
    """What may come twice, at most in a row."""
    return [body for number, body in enumerate(bodies) if number == 0 or body != bodies[number - 1]]


def of_pagerduty(receiver: Receiver, segment: str) -> list[tuple[str, str]]:
    bodies = [body for body in receiver.bodies if body["payload"]["component"] == segment]
    return [(body["payload"]["custom_details"]["was"], body["payload"]["custom_details"]["is"]) for body in once(bodies)]


def refresh_randomly(db: Connection, name: str, rng: random.Random) -> None:
    kind = rng.choice(["ok", "ok", "failed", "refused", "waiting"])
    if kind == "waiting":
        db.execute("truncate loaded")
    query = {"failed": "select 1 / 0 as id", "refused": "select id from public.people where false"}.get(kind)
    found = value(db, "select status from segmenter_refresh(%s, query => %s)", name, query)
    must_equal(found, kind, "how it ended")
    if kind == "waiting":
        db.execute("insert into loaded values (now())")


def main() -> int:
    count, rng = int(sys.argv[1]), random.Random(sys.argv[2])
    print(f"seed {sys.argv[2]}", flush=True)
    receivers = {"slack": Receiver({"ok": True}), "pagerduty": Receiver({"status": "success"})}
    slack, pagerduty = receivers["slack"], receivers["pagerduty"]
    notified: list[dict[str, Any]] = []
    with connect() as db:
        set_up(db, receivers)
        listener = connect()
        listener.execute("listen segmenter_alert")
        with check("what is reported is what the log says, in its order, also where a receiver was down"):
            for number in range(count):
                if number == count // 3:
                    slack.is_down = True
                refresh_randomly(db, rng.choice(NAMES), rng)
            wait_for("a request while it is down", lambda: slack.refused > 0, 60, 0.1)
            slack.is_down = False
            wait_for("the deliveries", lambda: is_delivered(db), 120, 0.1)
            for name in NAMES:
                must_equal(of_pagerduty(pagerduty, name), transitions(db, name), f"alerts of {name!r}")
        with check("both receivers are reported the same"):
            reported = [body["payload"]["summary"] for body in once(pagerduty.bodies)]
            must_equal([body["text"] for body in once(slack.bodies)], reported, "summaries")
            must(len(reported) > 10, "alerts", len(reported))
        with check("a begin and its end have one key, and what they are is said"):
            for body in pagerduty.bodies:
                details = body["payload"]["custom_details"]
                must_equal(body["event_action"], "resolve" if details["is"] == "ok" else "trigger", "action", body)
                must_equal(body["routing_key"], "R0UTING", "routing key")
            must_equal(len({body["dedup_key"] for body in pagerduty.bodies}), len(NAMES), "keys")
            must_equal(slack.headers[0]["authorization"], "Bearer xoxb-secret", "token")
            must_equal((slack.paths, pagerduty.paths), ({"/api/chat.postMessage"}, {"/v2/enqueue"}), "paths")
        with check("who listens is notified of the same, without what went wrong"):
            notified += [json.loads(note.payload) for note in listener.notifies(timeout=1, stop_after=None)]
            for name in NAMES:
                # Both rules have reported it in one transaction.
                seen = once([(note["was"], note["is"]) for note in notified if note["segment"] == name])
                must_equal(seen, transitions(db, name), f"notifications of {name!r}")
            must("division" not in json.dumps(notified), "no error in a notification")
        with check("names are text and nothing else"):
            texts = {body["text"] for body in slack.bodies}
            must(any(text.startswith(f'segment "{NAMES[1]}"') for text in texts), "the odd name", texts)
        with check("a segment that workers refresh is reported once, however often it fails, and once that it is mended"):
            name = NAMES[0]
            must_equal(value(db, "select status from segmenter_refresh(%s)", name), "ok", "before")
            wait_for("the deliveries", lambda: is_delivered(db), 60, 0.1)
            before = len(of_pagerduty(pagerduty, name))
            db.execute("update segmenter_segments set refresh_auto = true, refresh_cron = '* * * * *', refresh_params = %s where name = %s",
                       ('{"query": {"sql": "select 1 / 0 as id"}}', name))
            wait_for("three failures", lambda: one(db, """
                select failures from segmenter_attempts a join segmenter_segments s on s.id = a.segment_id where s.name = %s""", name)["failures"] >= 3, 90, 0.2)
            db.execute("update segmenter_segments set refresh_params = %s where name = %s",
                       ('{"query": {"sql": "select id from public.people"}}', name))
            wait_for("the recovery", lambda: of_pagerduty(pagerduty, name)[before:][-1:] == [("failed", "ok")], 90, 0.2)
            must_equal(of_pagerduty(pagerduty, name)[before:], [("ok", "failed"), ("failed", "ok")], "alerts")
        with check("a message that is stuck is reported, and that it is delivered again"):
            db.execute("insert into segmenter_consumers (name, params) values ('crm', %s)", ('{"updater": {"http": {"url": "http://127.0.0.1:1"}}, "max_attempts": 1}',))
            db.execute("select segmenter_alert('pagerduty', %s)", ('{"on": ["delivery"]}',))
            db.execute("select segmenter_subscribe('crm', %s, 'mail')", (NAMES[0],))
            stuck = lambda: [body for body in once(pagerduty.bodies) if body["payload"]["class"] == "delivery"]
            wait_for("the alert", lambda: len(stuck()) == 1, 90, 0.2)
            db.execute("update segmenter_subscriptions set actual_end = now() where target = 'mail'")
            wait_for("its end", lambda: len(stuck()) == 2, 90, 0.2)
            must_equal([body["event_action"] for body in stuck()], ["trigger", "resolve"], "actions")
        with check("nothing is lost where the server is killed while a receiver is down"):
            pagerduty.is_down = True
            for _ in range(count // 3):
                refresh_randomly(db, rng.choice(NAMES[1:]), rng)
            listener.close()
    kill_server([*os.environ["SETTINGS"].splitlines(), f"segmenter.http_allow = {literal(', '.join(r.url for r in receivers.values()))}"])
    pagerduty.is_down = False
    with connect() as db, check("it is reported when both are there again"):
        wait_for("the deliveries", lambda: is_delivered(db), 120, 0.1)
        for name in NAMES[1:]:
            must_equal(of_pagerduty(pagerduty, name), transitions(db, name), f"alerts of {name!r}")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
