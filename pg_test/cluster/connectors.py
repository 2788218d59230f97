"""The checks of the cluster test connectors, which see.

    connectors.py ROUNDS SEED [PLATFORM …]

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import json
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from checks import Connection, Wrong, kill_server, must, must_equal, one, rows, value, wait_for
from example import documented_spec
from platforms.example import Example
from platforms.google import Google
from platforms.meta import Meta
from platforms.server import Audience, Platform
from platforms.tiktok import TikTok
from platforms.vk import Vk
from platforms.yandex import Yandex
from psycopg.rows import dict_row

FAILED = False
# What a message must not be repeated after: no answer came although it was done.
HARMLESS = ["server_error", "drop_before", "slow", "redirect", "garbage"]


@dataclass
class Case:
    """A platform: its server, what a DBA says of it, and how its audiences are read."""

    name: str
    server: Platform
    options: dict[str, str]
    secrets: dict[str, str]
    # Fields that are handed over, in the order of the kinds.
    fields: list[str]
    kinds: tuple[str, ...]
    hosts: dict[str, str] = field(default_factory=dict)
    # How many members a part of a replacement has.
    batch: int = 60
    # Where faults may happen: after an audience was made without an answer, one of that name is there.
    path: str = ""
    kinds_of_faults: list[str] = field(default_factory=lambda: [*HARMLESS, "rate_limit", "drop_after", "truncated", "huge"])

    # The platform says how many members an audience has, to the last one.
    counts: bool = False
    # It is asked whether it has processed what it got, which it may not be able to.
    polls: bool = False

    def over_there(self, external_id: str) -> set[Any]:
        return self.server.members(external_id, *self.kinds)

    def vanish(self, external_id: str) -> None:
        """Somebody deletes the audience on the platform."""
        self.server.delete(self.server.lookup(external_id))

    def foreign(self) -> None:
        """An audience of somebody else."""
        audience = Audience("999999", "somebody else's")
        audience.details = dict(next(iter(self.server.store.values())).details)
        self.server.store["999999"] = audience


class VkCase(Case):
    def foreign(self) -> None:
        servers: Any = self.server
        servers.segments["999999"] = {"name": "somebody else's", "pass_condition": 1, "relations": {}}

    def vanish(self, external_id: str) -> None:
        del self.server.segments[external_id]  # type: ignore[attr-defined]

    def over_there(self, external_id: str) -> set[Any]:
        segment = self.server.segments[external_id]  # type: ignore[attr-defined]
        (relation,) = segment["relations"].values()
        return self.server.members(str(relation["params"]["source_id"]), *self.kinds)


def cases() -> list[Case]:
    authority = os.environ["AUTHORITY"]
    meta, google, yandex = Meta(session_minutes=90), Google(limit_per_minute=None), Yandex(
        min_rows=1, limit_per_minute=None, limit_per_hour=None, limit_per_day=None)
    vk, tiktok, example = Vk(min_rows=1, min_delta_rows=1), TikTok(min_rows=0, tls=(f"{authority}/cert.pem", f"{authority}/key.pem")), Example()
    key = google.service_account_key()
    return [
        Case("meta", meta, {"ad_account": f"act_{meta.account}", "version": "v26.0"}, {"access_token": meta.token},
             ["hash_email", "hash_phone"], ("EMAIL", "PHONE"),
             kinds_of_faults=[*HARMLESS, "rate_limit", "drop_after", "truncated", "huge"]),
        Case("google", google, {"account": google.account, "ad_user_data": "CONSENT_GRANTED",
                                "ad_personalization": "CONSENT_GRANTED", "terms": "ACCEPTED"},
             {"client_email": key["client_email"], "private_key": key["private_key"]},
             ["hash_email", "hash_phone"], ("emailAddress", "phoneNumber"), {"token_url": ""}, path="audienceMembers|requestStatus|token",
             kinds_of_faults=[*HARMLESS, "rate_limit", "token_expired", "drop_after", "truncated", "huge"], polls=True),
        Case("yandex", yandex, {}, {"access_token": yandex.token}, ["hash_email", "hash_phone"], ("email", "phone"), {"token_url": ""},
             kinds_of_faults=[*HARMLESS, "rate_limit", "drop_after", "truncated", "huge"], polls=True),
        VkCase("vk", vk, {}, {"client_id": vk.client_id, "client_secret": vk.client_secret}, ["hash_md5"], ("emails",),
               kinds_of_faults=[*HARMLESS, "rate_limit", "token_expired", "drop_after"]),
        Case("tiktok", tiktok, {"advertiser_id": tiktok.advertiser}, {"access_token": tiktok.token}, ["hash_email"], ("EMAIL_SHA256",),
             kinds_of_faults=[*HARMLESS, "rate_limit", "not_success_200", "drop_after", "truncated"]),
        Case("example", example, {}, {"access_token": example.token}, ["hash_email", "hash_phone"], ("email", "phone"), counts=True),
    ]


def connect() -> Connection:
    return psycopg.connect(dbname="shop", user="postgres", autocommit=True, row_factory=dict_row)


@contextmanager
def check(what: str) -> Iterator[None]:
    global FAILED
    try:
        yield
        print(f"ok {what}", flush=True)
    except Exception as error:
        FAILED = True
        text = str(error) if isinstance(error, Wrong) else traceback.format_exc()
        print(f"not ok {what}: {text[:600]}", flush=True)


SCHEMA = """
create extension segmenter;
create table people (part text, id int, email text not null, phone text, round int not null default 0, primary key (part, id));
-- Waits are short here: a connector is a row, which is copied and changed. Limits have a check of their own.
insert into segmenter_connectors (name, description, spec)
select name || '_soon', description,
    regexp_replace(regexp_replace(spec::text, '"every": [0-9]+', '"every": 1', 'g'), '"time": [0-9]+', '"time": 1', 'g')::jsonb #- '{limits,least}' #- '{limits,per_minute}' #- '{limits,per_hour}'
from segmenter_connectors where is_builtin;
"""


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def set_up(db: Connection, case: Case) -> None:
    """A segment, and two consumers that keep it on the platform."""
    name, connector = case.name, f"{case.name}_soon"
    if name == "example":
        db.execute("insert into segmenter_connectors (name, spec) values (%s, %s)", (connector, json.dumps(documented_spec())))
    options = {"connector": connector, "url": case.server.url, "timeout": "5 s", **case.options}
    options |= {option: case.server.url for option in case.hosts}
    listed = ", ".join(f"{option} {literal(text)}" for option, text in options.items())
    db.execute(f"create server {name} foreign data wrapper segmenter_http options ({listed})")  # type: ignore[arg-type]
    listed = ", ".join(f"{option} {literal(text)}" for option, text in case.secrets.items())
    db.execute("set log_statement = none")
    db.execute(f"create user mapping for postgres server {name} options ({listed})")  # type: ignore[arg-type]
    db.execute("reset log_statement")
    db.execute("insert into people select %s, g, %s || g || '@example.org', '+4930' || (1000000 + g) from generate_series(1, 150) g",
               (name, name))
    db.execute("select segmenter_put_segment(%s, %s)", (name, f"""
        select id, segmenter_hash(segmenter_email(email)) as hash_email, segmenter_hash(segmenter_email(email), 'md5') as hash_md5,
            case when id %% 3 > 0 then segmenter_hash(phone) end as hash_phone
        from public.people where part = {literal(name)}""".replace("%%", "%")))
    fields = {column: "hash_email" if column == "hash_md5" else column for column in case.fields}
    for mode in ("delta", "replace"):
        consumer = f"{name}_{mode}"
        params = {"updater": {"server": name}, "max_attempts": 1000}
        db.execute("insert into segmenter_consumers (name, params) values (%s, %s)", (consumer, json.dumps(params)))
        batch = {"batch_size": case.batch}
        db.execute("select segmenter_subscribe(%s, %s, 'ads', %s)", (consumer, name, json.dumps({"mode": mode, "fields": fields} | batch)))
    # Names are unique on some platforms.
    db.execute("update segmenter_subscriptions u set name = '{{consumer}}' from segmenter_consumers c where c.id = u.consumer_id")
    refresh(db, name)


def refresh(db: Connection, name: str) -> None:
    said = one(db, "select status, detail from segmenter_refresh(%s)", name)
    must_equal(said["status"], "ok", f"refresh of {name}", said["detail"])


def change(db: Connection, name: str, rng: random.Random) -> None:
    db.execute("delete from people where part = %s and id %% 7 = %s", (name, rng.randrange(7)))
    r = rng.randrange(1_000_000)
    db.execute("update people set email = %s || email, round = %s where part = %s and id %% 5 = %s", (f"r{r}.", r, name, rng.randrange(5)))
    db.execute("""insert into people (part, id, email, phone)
        select %s, last + g, %s || last + g || '@example.net', '+4930' || (2000000 + last + g)
        from (select coalesce(max(id), 0) as last from people where part = %s) l, generate_series(1, %s) g""",
               (name, f"n{r}.", name, rng.randrange(5, 40)))
    refresh(db, name)


def expected(db: Connection, case: Case) -> set[Any]:
    members = rows(db, f"select {', '.join(case.fields)} from {case.name} where actual_end = 'infinity'")
    found = [tuple(row[column] or "" for column in case.fields) for row in members]
    return {row[0] if len(row) == 1 else row for row in found}


STATE = """
select u.status, u.external_id, d.attempts, d.last_error, d.progress,
    (select count(*) from segmenter_outbox o where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)) as waiting
from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id
left join segmenter_deliveries d on d.subscription_id = u.id where c.name = %s
"""


def settle(db: Connection, consumer: str) -> dict[str, Any]:
    """Waits until everything is delivered; fails where it stops."""
    last: dict[str, Any] = {}

    def is_settled() -> bool:
        nonlocal last
        last = one(db, STATE, consumer)
        must(last["status"] != "failed", f"{consumer} is stuck", last["last_error"], last)
        return last["waiting"] == 0

    try:
        wait_for(f"everything of {consumer}", is_settled, 300, 0.1)
    except Wrong as error:
        raise Wrong(f"{error}: {last}") from None
    return last


def agree(db: Connection, case: Case, what: str) -> None:
    for mode in ("delta", "replace"):
        state = settle(db, f"{case.name}_{mode}")
        case.server.settle()
        must_equal(case.over_there(state["external_id"]), expected(db, case), f"{what}, {mode}: the audience is the segment")
    must_equal(case.server.faults, [], f"{what}: what the client did wrong")


def known_over_there(db: Connection, case: Case) -> None:
    """The platform is asked; an audience of somebody else is there, too."""
    like = f"{case.name}\\_%"
    case.foreign()
    db.execute("""update segmenter_consumers set params = params || '{"list_every": "1 second"}' where name like %s""", (like,))
    found: list[Any] = []

    def is_known() -> bool:
        nonlocal found
        found = rows(db, "select consumer, state, members, size, drift from segmenter_audiences where consumer like %s", like)
        return sorted(row["state"] for row in found) == ["foreign"] * 4 + ["known"] * 2

    try:
        wait_for("the audiences", is_known, 60, 0.1)
    except Wrong as error:
        raise Wrong(f"{error}: {found}") from None
    for row in found:
        if row["state"] == "known" and case.counts:
            must_equal(row["drift"], 0, "drift", row)
    db.execute("update segmenter_consumers set params = params - 'list_every' where name like %s", (like,))


def failed(db: Connection, consumer: str) -> dict[str, Any]:
    """Waits until a message has stopped."""
    wait_for(f"a failure of {consumer}", lambda: one(db, STATE, consumer)["status"] == "failed", 60, 0.1)
    return one(db, STATE, consumer)


def vanished(db: Connection, case: Case, rng: random.Random) -> None:
    """The audience was deleted over there: what is sent stops, and a resync creates another one."""
    for mode in ("delta", "replace"):
        before = settle(db, f"{case.name}_{mode}")
        case.vanish(before["external_id"])
        change(db, case.name, rng)
        state = failed(db, f"{case.name}_{mode}")
        must("segmenter_resync()" in state["last_error"], "what to do is said", state)
        must_equal(state["progress"]["gone"], True, "it is kept that the audience is gone", state)
        resync = "select segmenter_resync(%s, %s, 'ads')"
        must(value(db, resync, f"{case.name}_{mode}", case.name) > 0, "messages of the resync")
        must(settle(db, f"{case.name}_{mode}")["external_id"] != before["external_id"], "the audience is another one")
    agree(db, case, "created again")


def unprocessed(db: Connection, case: Case, rng: random.Random) -> None:
    """The platform could not process what it got: it is sent again on demand."""
    case.server.fail_next("fail_processing")
    change(db, case.name, rng)
    found: list[Any] = []

    def has_failed() -> bool:
        nonlocal found
        found = [mode for mode in ("delta", "replace") if one(db, STATE, f"{case.name}_{mode}")["status"] == "failed"]
        return bool(found)

    wait_for("a failure", has_failed, 60, 0.1)
    consumer = f"{case.name}_{found[0]}"
    sent = len(case.server.requests)
    db.execute("select segmenter_retry(%s, %s, 'ads')", (consumer, case.name))
    agree(db, case, "sent again")
    must(any(request["method"] == "POST" for request in case.server.requests[sent:]), "a request that sends it again")


def play(case: Case, rounds: int, seed: int) -> None:
    """Random rounds of one platform."""
    rng = random.Random(f"{case.name} {seed}")
    server = case.server
    with connect() as db:
        with check(f"{case.name}: the first load"):
            agree(db, case, "first load")
        with check(f"{case.name}: what is over there is known"):
            known_over_there(db, case)
        with check(f"{case.name}: an audience that is gone is created again"):
            vanished(db, case, rng)
        if case.polls:
            with check(f"{case.name}: what could not be processed is sent again"):
                unprocessed(db, case, rng)
        with check(f"{case.name}: {rounds} rounds of changes, with faults"):
            for number in range(rounds):
                if number % 3:
                    kinds = [kind for kind in case.kinds_of_faults if kind in server.kinds]
                    # An answer that was lost after an audience was made leaves another one behind, which is harmless.
                    server.fail_randomly(0.25, rng.randrange(1 << 30), kinds=kinds, path=case.path, seconds=0.3, wait=0, size=3 << 20)
                    if hasattr(server, "expire_tokens") and rng.random() < 0.5:
                        server.expire_tokens()
                else:
                    server.stop_failing()
                change(db, case.name, rng)
                if rng.random() < 0.2:
                    # The platform is gone for a moment; what it was told stays.
                    server.stop()
                    server.start()
                if rng.random() < 0.3:
                    db.execute("""select pg_terminate_backend(pid) from pg_stat_activity
                        where backend_type = 'segmenter worker' and application_name = %s""",
                               (f"segmenter: {case.name}_{rng.choice(['delta', 'replace'])}",))
                if number % 4 == 3:
                    server.stop_failing()
                    agree(db, case, f"round {number}")
            server.stop_failing()
            agree(db, case, "the end")
            # What is under way when the server is killed.
            server.fail_randomly(0.3, rng.randrange(1 << 30), kinds=["slow"], seconds=0.5)
            for _ in range(2):
                change(db, case.name, rng)


def play_on(case: Case) -> None:
    """After the server was killed amid deliveries."""
    server = case.server
    server.stop_failing()
    with connect() as db:
        with check(f"{case.name}: the server was killed"):
            agree(db, case, "after the kill")
        with check(f"{case.name}: the end of the subscriptions deletes the audiences"):
            db.execute("""update segmenter_subscriptions u set actual_end = now() from segmenter_consumers c
                where c.id = u.consumer_id and c.name like %s""", (f"{case.name}\\_%",))
            db.execute("select from segmenter_run()")
            for mode in ("delta", "replace"):
                settle(db, f"{case.name}_{mode}")
        with check(f"{case.name}: no limit was exceeded"):
            must_equal(server.exceeded, 0, "requests over the limit")


def together(chosen: list[Case], work: Callable[[Case], None]) -> None:
    threads = [threading.Thread(target=work, args=(case,)) for case in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    rounds, seed, wanted = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    chosen = [case for case in cases() if not wanted or case.name in wanted]
    with connect() as db:
        db.execute(SCHEMA)
        allowed = ", ".join(case.server.start().url for case in chosen)
        db.execute(f"alter system set segmenter.http_allow = {literal(allowed)}")  # type: ignore[arg-type]
        db.execute("select pg_reload_conf()")
        for case in chosen:
            with check(f"{case.name}: set up"):
                set_up(db, case)
    with connect() as db, check("several consumers keep one limit and renew one token at a time"):
        share(db)
    together(chosen, lambda case: play(case, rounds, seed))
    # What was set by ALTER SYSTEM is not kept by the new start.
    kill_server([*os.environ["SETTINGS"].splitlines(), f"segmenter.http_allow = {literal(allowed)}"])
    together(chosen, play_on)
    with connect() as db, check("secrets are in user mappings alone"):
        no_secrets(db, chosen)
    return 1 if FAILED else 0


def share(db: Connection) -> None:
    """Eight consumers of one server: what one worker has counted or renewed, the others see."""
    vk = Vk(min_rows=1, min_delta_rows=1, limit_per_second=3)
    urls = value(db, "show segmenter.http_allow")
    db.execute(f"alter system set segmenter.http_allow = {literal(f'{urls}, {vk.start().url}')}")  # type: ignore[arg-type]
    db.execute("select pg_reload_conf()")
    db.execute("""insert into segmenter_connectors (name, spec)
        select 'shared', jsonb_set(spec, '{limits}', '{"per_second": 3}') from segmenter_connectors where name = 'vk'""")
    db.execute(f"create server shared foreign data wrapper segmenter_http options (connector 'shared', url {literal(vk.url)})")  # type: ignore[arg-type]
    db.execute("set log_statement = none")
    db.execute(f"""create user mapping for postgres server shared
        options (client_id {literal(vk.client_id)}, client_secret {literal(vk.client_secret)})""")  # type: ignore[arg-type]
    db.execute("reset log_statement")
    db.execute("select segmenter_put_segment('shared', $$select g as id, md5(g::text) as hash_email from generate_series(1, 50) g$$)")
    for number in range(8):
        db.execute("insert into segmenter_consumers (name, params) values (%s, %s)", (f"shared_{number}", '{"updater": {"server": "shared"}}'))
        db.execute("select segmenter_subscribe(%s, 'shared', 'ads', %s)", (f"shared_{number}", '{"fields": ["hash_email"]}'))
    db.execute("update segmenter_subscriptions u set name = '{{consumer}}' from segmenter_consumers c where c.id = u.consumer_id and c.name like 'shared%'")
    refresh(db, "shared")
    for number in range(8):
        settle(db, f"shared_{number}")
    must_equal(vk.exceeded, 0, "requests over the limit")
    must_equal(vk.grants, {"client_credentials": 1}, "requests for an access token")


def no_secrets(db: Connection, chosen: list[Case]) -> None:
    db.execute("set log_statement = none")
    known = {text for case in chosen for name, text in case.secrets.items() if name not in ("client_id", "client_email")}
    known |= {row["option_value"] for row in rows(
        db, "select o.option_value from pg_user_mappings m, pg_options_to_table(m.umoptions) o where o.option_name like '%token'")}
    for table in ("segmenter_log", "segmenter_outbox", "segmenter_deliveries", "segmenter_subscriptions", "segmenter_consumers",
                  "segmenter_status", "pg_foreign_server", "pg_stat_activity"):
        for text in known:
            found = value(db, f"select count(*) from {table} t where pid is distinct from pg_backend_pid() and t::text like %s"
                          if table == "pg_stat_activity" else f"select count(*) from {table} t where t::text like %s", f"%{text}%")
            must_equal(found, 0, f"rows of {table} with a secret", text[:12])


if __name__ == "__main__":
    sys.exit(main())
