"""Messages to a local server: as they are, and through the connector of an ad platform."""

import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Queue
from pathlib import Path

from measure import Server, anonymous, median
from report import Table, megabytes, ratio, seconds

PLATFORMS = Path(__file__).resolve().parents[1] / "pg_test" / "cluster"
PEOPLE = """
create extension segmenter;
create table people (id int primary key, hash_email text not null, hash_phone text not null);
insert into people
select g, encode(sha256(('e' || g)::bytea), 'hex'), encode(sha256(('p' || g)::bytea), 'hex') from generate_series(1, {members}) g;
"""
STATE = """
select (select count(*) from segmenter_outbox o where o.subscription_id = u.id and o.id > d.delivered_through),
    (select pid from pg_stat_activity where application_name = 'segmenter: ' || c.name limit 1), d.last_error
from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id
left join segmenter_deliveries d on d.subscription_id = u.id where c.name = '{name}'
"""


class Sink(BaseHTTPRequestHandler):
    """Takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def sink(queue):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    queue.put(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def measure(socket, scale, rounds, say):
    """The tables, and what is wrong."""
    members = int(1_000_000 * scale)
    queue = Queue()
    plain = Process(target=sink, args=(queue,), daemon=True)
    plain.start()
    environment = {**os.environ, "PYTHONPATH": str(PLATFORMS)}
    meta = subprocess.Popen([sys.executable, "-m", "platforms.meta"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        urls = {"http": queue.get(), "meta": meta.stdout.readline().strip()}
        return deliver(socket, members, rounds, urls, say)
    finally:
        plain.terminate()
        meta.terminate()


def deliver(socket, members, rounds, urls, say):
    postgres = Server(socket, "postgres")
    postgres.do("create database connectors")
    server = Server(socket, "connectors")
    server.do(PEOPLE.format(members=members))
    postgres.do(f"alter system set segmenter.http_allow = '{urls['http']}, {urls['meta']}'")
    postgres.do("select pg_reload_conf()")
    server.do("select segmenter_create_segment('all', 'select id, hash_email, hash_phone from people')")
    server.do(f"create server meta foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1234567890', url '{urls['meta']}')")
    server.do("create user mapping for postgres server meta options (access_token 'meta-token')")
    updaters = {"http": f'{{"http": {{"url": "{urls["http"]}"}}}}', "meta": '{"server": "meta"}'}
    wrong, times, memory = [], {name: [] for name in updaters}, {name: [] for name in updaters}
    for name, updater in updaters.items():
        server.do(f"insert into segmenter_consumers (name, params) values ('{name}', '{{\"updater\": {updater}}}')")
        server.do("select segmenter_subscribe(%s, 'all', 'bench')", name)
    say(f"{members:,} members to local servers")
    server.do("select * from segmenter_refresh('all')")
    for number in range(rounds):
        for name in updaters:
            if number:
                server.do("select segmenter_resync(%s, 'all', 'bench')", name)
            # The others wait.
            server.do("update segmenter_consumers set home = case when name = %s then null else 'elsewhere' end", name)
            server.do("vacuum analyze segmenter_outbox")
            postgres.do("alter system set segmenter.databases = 'connectors'")
            began, peak = time.monotonic(), 0
            postgres.do("select pg_reload_conf()")
            while True:
                waiting, pid, error = server.do(STATE.format(name=name))[0]
                if error or time.monotonic() - began > 600:
                    wrong.append(f"{name} was not delivered: {error}")
                if not waiting or wrong:
                    break
                peak = max(peak, anonymous(pid) if pid else 0)
                time.sleep(0.02)
            times[name].append(time.monotonic() - began)
            memory[name].append(peak)
            postgres.do("alter system set segmenter.databases = ''")
            postgres.do("select pg_reload_conf()")
    postgres.do("alter system reset segmenter.databases")
    postgres.do("alter system reset segmenter.http_allow")
    postgres.do("select pg_reload_conf()")
    postgres.do("drop database connectors with (force)")
    table = Table(
        f"Delivery of {members:,} members in messages of 10,000 to a local server",
        ["", "time", "× http", "memory of the worker, MB"],
    )
    base = median(times["http"])
    for name, title in (("http", "as they are, by http"), ("meta", "as Meta takes them, by its connector")):
        table.rows.append([title, seconds(median(times[name])), ratio(median(times[name]) / base), megabytes(median(memory[name]))])
    return [table], wrong
