"""That the checks find what is wrong: when all was well in the end, things are spoilt one by one, and each must be found."""
from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

from chaos import answers
from hostile import Clock, check, check_rights
from checks import Wrong, must, one, value, wait_for
from invariants import Pause, ServerLog, judge_findings, nothing_runs
from psycopg.types.json import Jsonb
from world import CALLED, HOSTILE, LOOT, READ, SEGMENTS, VICTIM, World

# What is spoilt, and which check has to find it.
SPOILT = {
    "a member is another": ("update {home}.latest set hash_email = 'spoilt' where ctid = (select min(ctid) from {home}.latest where actual_end = 'infinity')", "is not what its query gives"),
    "a member is missing": ("delete from {home}.history where ctid = (select min(ctid) from {home}.history where actual_end = 'infinity')", "is not what its query gives|at .* are others"),
    "a period overlaps": ("update {home}.history h set actual_begin = '2000-01-01' where actual_end = 'infinity' and id in (select id from {home}.history where actual_end <> 'infinity')", "periods of history|are others by now"),
    "a run has no end": ("""insert into {log} (action, status, run_id, segment_id, segment_name)
        select 'refresh', 'running', gen_random_uuid(), id, name from {segments} limit 1""", "runs that have no end"),
    "a figure is wrong": ("update {log} set added = added + 1000 where id = (select max(id) from {log} where action = 'refresh' and status = 'ok' and segment_name = 'history')", "do not add up"),
    "a coverage is wrong": ("update {log} set coverage = coverage + 1000, added = added + 1000 where id = (select max(id) from {log} where action = 'refresh' and status = 'ok' and segment_name = 'history')", "not the number of members"),
    "an odd failure": ("""insert into {log} (action, status, segment_name, error) values ('refresh', 'failed', 'latest', '{"sqlstate": "XX000", "message": "odd"}')""", "nobody meant"),
    "a reader waits for nobody": ("set local segmenter.upstream = 'ignore'", "does not wait for"),
    "what is read is not known": ("update {attempts} set lineage = '[]', reads = '{}' where segment_id in (select id from {segments} where name ~ '^reading')", "which is not known"),
    # (Segments that leave out one that was never refreshed wait for it, and that is found first.)
    "it was handed over too early": ("""update {state} set refreshes = 0 where segment_id = (
        select max(o.segment_id::text)::uuid from {outbox} o join {segments} s on s.id = o.segment_id
        where o.operation <> 'alert' and s.name not in ('stopped', 'blocked'))""", "before a first success|figures of the status"),
    "members of a list are left out of another segment": ("update {segments} set exclude = '[]' where name = 'history'", "history is not what its query gives"),
    "a filter lets everybody through": ("update {subscriptions} set params = params || '{\"where\": \"false\"}' where target = 'the end'", "is another"),
    "a message waits": ("""insert into {outbox} (consumer_id, subscription_id, segment_id, operation, payload)
        select consumer_id, id, segment_id, 'add', '{}' from {subscriptions} where segment_id is not null limit 1""", "messages without a delivery"),
    "a message comes from nowhere": ("""with o as (insert into {outbox} (consumer_id, subscription_id, segment_id, operation, payload)
            select u.consumer_id, u.id, u.segment_id, 'create', '{"members": []}' from {subscriptions} u join {deliveries} d on d.subscription_id = u.id where u.segment_id is not null limit 1 returning *)
        update {deliveries} d set delivered_through = o.id from o where o.subscription_id = d.subscription_id""", "delivered to nobody|the log tells nothing"),
}


# What shows only where a segment that is read and its reader are there: either may have been retired.
OF_READERS = {"a reader waits for nobody", "what is read is not known"}


def prove(world: World, pause: Pause, log: ServerLog) -> None:
    actual = {row["name"] for row in pause.run("select name from {segments} where actual_end = 'infinity'")}
    left_out = set() if any({read, reader} <= actual for read, reader in READ.items()) else OF_READERS
    for what, (statement, pattern) in SPOILT.items():
        if what in left_out:
            continue
        with pause.db.transaction(force_rollback=True):
            done = pause.db.execute(pause.of(statement))  # type: ignore[call-overload]
            must(done.rowcount, f"nothing to spoil: {what}", statement)
            found(what, pattern, lambda: pause.check(is_real=False))
    ways = len(SPOILT) - len(left_out) + 4 + blind_doctor(pause)
    lost_membership(world, pause)
    lost_message(world, pause)
    with world.connect(name="sabotage") as db:
        db.execute("begin; select pg_advisory_lock(1)")
        found("a lock stays", "something goes on", lambda: nothing_runs(world, 0.5))
    with world.connect(name="sabotage") as db:
        os.kill(db.info.backend_pid, signal.SIGKILL)
    # The server takes note of it a moment later.
    found("a process dies", "that nobody has killed", lambda: wait_for("a line of the log", log.check, 30))
    wait_for("the server", lambda: answers(world))
    print(f"ok whatever is spoilt is found: {ways} ways", flush=True)


def prove_hostile(world: World, pause: Pause, log: ServerLog) -> None:
    """What the hostile role could have got, one by one; and a victim that has to wait."""
    loot = {"place": "nowhere", "current": HOSTILE, "session": HOSTILE, "login": HOSTILE, "backend": "segmenter worker", "super": False, "gained": []}
    looted = (("its SQL is another role", {"current": VICTIM}, "more rights"), ("its SQL is a superuser's", {"super": True}, "more rights"),
              ("its SQL reads", {"gained": ["select"]}, "more rights"), ("its SQL is in a worker of others", {"session": "postgres"}, "another role's process"))
    for what, change, pattern in looted:
        with pause.db.transaction(force_rollback=True):
            pause.db.execute("insert into mallory.loot (seen) values (%s)", [Jsonb(loot | change)])
            found(what, pattern, lambda: check(pause.db))
    pause.db.execute(f"do $$ begin raise log '%', '{LOOT}{json.dumps(loot | {'gained': ['all']})}'; end $$")  # type: ignore[call-overload]
    found("its SQL got what it cannot write down", "more rights", log.check)
    rights = (f"grant {VICTIM} to {HOSTILE}", f"grant {HOSTILE} to {VICTIM}", f"alter role {HOSTILE} createrole", f"grant select on victor.source to {HOSTILE}",
              f"alter table victor.source owner to {HOSTILE}")
    for statement in rights:
        with pause.db.transaction(force_rollback=True):
            pause.db.execute(statement)  # type: ignore[call-overload]
            found(statement, "more rights", lambda: check_rights(pause.db))
    waits = (("segment", "update segmenter_state set started_at = started_at - interval '1 hour' where segment_id = (select id from segmenter_segments where name = 'victim')"),
             ("message", f"""insert into segmenter_outbox (consumer_id, subscription_id, segment_id, operation, payload, available_at)
                select u.consumer_id, u.id, u.segment_id, 'add', '{{}}', now() - interval '1 hour'
                from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id and c.name = '{CALLED}'"""))
    for what, statement in waits:
        with pause.db.transaction(force_rollback=True):
            done = pause.db.execute(statement)  # type: ignore[call-overload]
            must(done.rowcount == 1, f"nothing to be late: a {what}", done.rowcount)
            clock, seen = Clock(world, pause.of), one(pause.db, Clock.LOOK)
            row = dict.fromkeys(clock.waited, 0.0) | {what: seen[what]}
            found(f"a {what} waits", f"the victim's {what} is late", lambda: [clock.count(row, 1.0) for _ in range(60)])
    print(f"ok what a hostile role gets is found: {len(looted) + len(rights) + len(waits) + 1} ways", flush=True)


def blind_doctor(pause: Pause) -> int:
    """A doctor that does not see a fault, says it twice, or sees one where there is none."""
    findings = pause.run("select * from segmenter_doctor()")
    found("a fault is not seen", "does not name a fault", lambda: judge_findings([("tables", "nowhere")], findings))
    with pause.db.transaction(force_rollback=True):
        pause.db.execute(pause.of("drop index {home}.latest_key"))  # type: ignore[call-overload]
        faults, seen = pause.faults(), pause.run("select * from segmenter_doctor()")
        must(any(check == "tables" for check, _ in faults), "a table without its key is no fault", *faults)
        judge_findings(faults, seen)
        found("a fault is seen where there is none", "where there are none", pause.find_none)
        found("a fault is said twice", "a thing twice", lambda: judge_findings(faults, [*seen, *seen]))
    return 3


def lost_membership(world: World, pause: Pause) -> None:
    """One that had ended, of a moment when it was looked at."""
    for segment in ("history", "watching", "kept 1", "kept 2"):
        id = value(pause.db, pause.of("select id from {segments} where name = %s"), segment)
        moments = [moment for moment, _ in world.snapshots[pause.of.cfg_table, id]]
        with pause.db.transaction(force_rollback=True):
            done = pause.db.execute(pause.of(f"""delete from {{home}}.{SEGMENTS[segment][1]} t where segment_id = %s and actual_end <> 'infinity' and id <> all (%s)
                and exists (select from unnest(%s::timestamp[]) m where actual_begin <= m and m < actual_end)"""), [id, list(world.erased), moments])  # type: ignore[call-overload]
            if done.rowcount:
                return found("a membership is lost", "are others by now", lambda: pause.check(is_real=False))
    raise Wrong("nothing to spoil: no membership that was looked at has ended")


def lost_message(world: World, pause: Pause) -> None:
    """A consumer acknowledges what it has not applied."""
    there = [row["id"] for row in pause.run("""select u.id from {subscriptions} u join {segments} s on s.id = u.segment_id
        where u.actual_end = 'infinity' and s.actual_end = 'infinity' order by u.id""")]
    audience = next(audience for id, audience in pause.audiences.all.items() if audience.people and id in there)
    id, member = audience.people.popitem()  # type: ignore[union-attr]
    found("a message is lost", "is another", lambda: pause.check(is_real=False))
    audience.people[id] = member  # type: ignore[index]


def found(what: str, pattern: str, check: Callable[[], object]) -> None:
    try:
        check()
    except Wrong as wrong:
        must(re.search(pattern, str(wrong)), f"{what}: it was found otherwise", wrong)
    else:
        raise Wrong(f"{what}: it was not found")
