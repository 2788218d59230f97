"""What has to hold: at every pause, when all has been refreshed and delivered, and some of it at any time."""
from __future__ import annotations

import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection
from itertools import groupby
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from actors import Actor, action, claim
from audiences import Audiences, is_selected, project
from checks import Connection, Row, Wrong, must, one, rows, value, wait_for
from hands import mend_policies, mend_tables
from house import mend_publications, mend_row, mend_sources
from lists import ORDER, is_left_out, lists_of, mend_lists
from lists import faults as list_faults
from times import mend_times
from world import ALERTED, CROSSED, FAMILIES, FETCHED, GROUP, HOSTILE, LISTS, LOOT, PUBLICATION_GONE, PULLING, READ, ROLES, SEGMENTS, SHARED, WATCH, Set, World, refresher

# Why a refresh, a hand-over or a delivery may fail, by the log: others were in the way, a worker was ended, a right
# was missing, a role could not log in, fields or tables were not there for a while, the consumer did not feel like it.
MAY_FAIL = CROSSED | {"57P01", "08006", "42501", "28000", "42703", "42704", "P0001"}
# Only of those whose query or table was broken on purpose, or was dropped.
BROKEN = {"42P01", "22012", "21000", "42P16", "22023"}


def patiently(action: Callable[[], Any], seconds: float = 60) -> Any:
    """Again while others are in the way."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except psycopg.Error as error:
            if error.sqlstate not in CROSSED or time.monotonic() > end:
                raise
            time.sleep(0.2)


# --- At any time ----------------------------------------------------------------------

class Watcher(Actor):
    """Looks at what no moment may show otherwise."""
    rest = 0.5

    def __init__(self, world: World, of: Set, audiences: Audiences) -> None:
        super().__init__(world, of, "watcher")
        self.audiences = audiences
        self.cursors: dict[Any, int] = {}

    @action(1)
    def coverage(self) -> None:
        """Members and log are committed together. (A table that is dropped goes before the snapshot does.)"""
        self.execute("begin isolation level repeatable read")
        check_coverage(self.db, self.of, "^(made|hostile)", self.world.edited)

    @action(1)
    def cursor(self) -> None:
        """Deliveries never go back, and what was acknowledged stays so."""
        acked = self.audiences.known_acked()
        for row in self.rows("select subscription_id as id, delivered_through as through from {deliveries}"):
            must(row["through"] >= acked.get(row["id"], 0), "an acknowledgement was lost", row, acked.get(row["id"]))
            must(row["through"] >= self.cursors.get(row["id"], 0), "deliveries went back", row, self.cursors.get(row["id"]))
            self.cursors[row["id"]] = row["through"]


def one_of(names: set[str], pattern: str) -> str:
    """A pattern of these names, too."""
    return "|".join([pattern, *(f"^{re.escape(name)}$" for name in sorted(names))])


def check_coverage(db: Connection, of: Set, but_for: str = "^hostile", edited: Collection[str] = ()) -> None:
    """As many members as the last refresh has left, in every segment: less those who were erased since the last look at all ids.
    (Where the log was truncated since that, it does not tell of all erasures, and the figure is not judged.)"""
    wrong = rows(db, of("""
        select s.name, l.coverage, c.members, e.erased, l.id
        from {segments} s
        cross join lateral (select id, coverage from {log} where segment_id = s.id and action in ('refresh', 'exclude') and status = 'ok' order by id desc limit 1) l
        cross join lateral (
            select max(id) as id from {log}
            where segment_id = s.id and action = 'refresh' and status = 'ok' and (params #>> '{incremental,pass}') is distinct from 'changes') f
        cross join lateral (select count(*) as erased from {log} where segment_id = s.id and action = 'erase' and subscription_id is null and id > f.id) e
        cross join lateral (select count(*) as members from {mart} m where m.segment_id = s.id and m.tableoid = s.table_name and m.actual_end = 'infinity') c
        where s.name !~ %s and f.id is not null and c.members not between l.coverage - e.erased and l.coverage"""), but_for)
    # Before the question or after it: an edit is announced before it begins.
    wrong = [row for row in wrong if row["name"] not in edited]
    must(not wrong, "the log's coverage is not the number of members", *wrong)


# --- At a pause -----------------------------------------------------------------------

# What the doctor may say at any time: of the hostile role's sets, of rows that died in the last seconds, of zones and owners
# that are meant to be others, of a segment that is retired and watches no more, of sequences that nobody has used since they were set back, of
# phone numbers that nobody hashes.
ALWAYS = {"hashes": "what is no hash", "sequences": "the next (message|entry)", "captured changes": "no segment reads them", "sets": "mallory", "vacuum": "has many dead rows", "time zones": "the database.s TimeZone is", "roles": "belongs to role"}


def judge_findings(faults: list[tuple[str, str]], findings: list[Row]) -> None:
    """Each fault is named, once; nothing else is where there is none."""
    said = [row for row in findings if row["status"] != "ok" and row["check"] != "summary"]
    for check, pattern in faults:
        about = [row for row in said if row["check"] == check and re.search(pattern, row["detail"])]
        must(about, "the doctor does not name a fault", check, pattern, *said)
        must(all(row["hint"] for row in about), "the doctor has no hint", *about)
    twice = [line for line, times in Counter((row["check"], row["detail"]) for row in said).items() if times > 1]
    must(not twice, "the doctor says a thing twice", *twice)
    if not faults:
        odd = [row for row in said if not (row["check"] in ALWAYS and re.search(ALWAYS[row["check"]], row["detail"]))]
        must(not odd, "the doctor names faults where there are none", *odd)
    summary = findings[-1]
    must(summary["check"] == "summary" and (summary["status"] == "ok") == (not said), "the doctor's summary", summary, *said)


# The settings that segments' SQL has whatever is set for its owner, by docs/reference.md.
FIXED = {"search_path": "pg_catalog, public", "timezone": "UTC", "datestyle": "ISO, MDY", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex", "jit": "off"}


# By which of a member's columns it may be left out.
KEYS = ("id", "hash_email", "hash_phone")


def member_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in ("id", "hash_email", "hash_phone", "city", "spent"))


class Pause:
    """Nobody acts. First all that was spoilt is mended, refreshed, and delivered; then it is looked at."""

    def __init__(self, world: World, of: Set, audiences: Audiences) -> None:
        self.world, self.of, self.audiences = world, of, audiences
        self.db = world.connect(of=of)
        self.automatic: list[Any] = []
        # What the segments' queries give, as it was found in the sessions of their owners.
        self.expected: dict[Any, Counter[tuple[Any, ...]]] = {}

    def run(self, query: str, *args: object) -> list[Row]:
        return rows(self.db, self.of(query), *args)

    def settle(self, is_last: bool) -> None:
        self.mend()
        # Those that others wait for come first.
        self.refresh("name in ('" + "', '".join((*LISTS, *GROUP)) + "')")
        self.catch_up()
        if is_last:
            self.fill()
            # The log has to tell of two refreshes of each, so that figures can be spoilt.
            self.refresh()
        # Those that run by themselves would go on handing over.
        self.automatic = [row["id"] for row in self.run("select id from {segments} where refresh_auto")]
        patiently(lambda: self.db.execute(self.of("update {segments} set refresh_auto = false where refresh_auto")))
        self.refresh()
        self.hand_over()
        self.deliver()

    def resume(self) -> None:
        patiently(lambda: self.db.execute(self.of("update {segments} set refresh_auto = true where id = any (%s)"), [self.automatic]))
        self.db.close()

    def mend(self) -> None:
        db, of = self.db, self.of
        for row in self.run("select gid from pg_prepared_xacts where database = current_database()"):
            db.execute(f"{'commit' if len(row['gid']) % 2 else 'rollback'} prepared '{row['gid']}'")  # type: ignore[call-overload]
        for role in ("anna", "boris"):
            name = f'"{self.world.roles[role]}"'
            patiently(lambda: db.execute(of(f"""
                grant usage on schema shop, {{home}} to {name};
                grant select on shop.people, shop.orders to {name}""")))
        for role in ROLES:
            db.execute(f'alter role "{self.world.roles[role]}" login')  # type: ignore[call-overload]
        names = list(self.world.roles.values())
        for row in self.run("""select o.rolname as owner, m.rolname as member from pg_auth_members a join pg_roles o on o.oid = a.roleid join pg_roles m on m.oid = a.member
                where o.rolname = any (%s) and m.rolname = any (%s)""", names, names):
            patiently(lambda: db.execute(f'revoke "{row["owner"]}" from "{row["member"]}"'))  # type: ignore[call-overload]
        for table, keeps in {(table, keeps) for _, table, keeps, _ in SEGMENTS.values()}:
            key = "segment_id, id" if table in SHARED else "id"
            only = " where actual_end = 'infinity'" if keeps else ""
            patiently(lambda: db.execute(of(f"create unique index if not exists {table}_key on {{home}}.{table} ({key}){only}")))
        patiently(lambda: mend_sources(db))
        patiently(lambda: db.execute(WATCH))
        patiently(lambda: mend_publications(db, of, self.world.rests % 2 == 0))
        patiently(lambda: mend_row(db, self.world, of))
        patiently(lambda: mend_policies(db, of))
        patiently(lambda: mend_tables(db, self.world, of))
        patiently(lambda: mend_times(db, of))
        patiently(lambda: mend_lists(db, of))
        for segment in self.run("select * from {segments}"):
            way = SEGMENTS[segment["name"]][3] if segment["name"] in SEGMENTS else "query"
            params = refresher(way, segment["context"], segment["id"], of)
            patiently(lambda: db.execute(of("update {segments} set sources = '[]', refresh_params = %s where id = %s and (refresh_params <> %s or sources <> '[]')"),
                                         [Jsonb(params), segment["id"], Jsonb(params)]))
        patiently(lambda: db.execute(of("update {subscriptions} set params = '{}' where params::text like '%extra%'")))
        patiently(lambda: db.execute(of("update {consumers} set actual_end = 'infinity' where actual_end <> 'infinity'")))

    def catch_up(self) -> None:
        """An incremental pass over a table whose changes are captured leaves nothing for one over all ids to find."""
        for segment in self.run("select id, name from {segments} where refresh_params ? 'incremental' and actual_end = 'infinity'"):
            # What others have missed is found here, so that the doctor has nothing to say of the passes that follow.
            is_exact = segment["name"].startswith("watching") and not self.world.is_unseen and segment["name"] not in self.world.edited
            for full in (False, True):
                row, *members = patiently(lambda: rows(self.db, 'select * from segmenter_refresh(%s, force => true, "full" => %s)', segment["name"], full))
                if full and segment["name"] in FAMILIES and not self.world.is_unseen:
                    missed = [each for each in members if each["segment"] in passed and each["segment"] not in self.world.edited and (each["added"] or each["removed"] or each["changed"])]
                    must(not missed, f"a pass over the changes of {segment['name']} has missed some", *missed)
                passed = {each["segment"] for each in members if each["status"] == "ok"}
                # Others were in the way; what this one has missed is found then.
                if row["status"] != "ok":
                    break
                must(not full or not is_exact or not (row["added"] or row["removed"] or row["changed"]), f"a pass over the changes of {segment['name']} has missed some", row)
                self.world.count(f"passes over {'all' if full else 'the changes of'} watched tables")

    def fill(self) -> None:
        """For what is to be spoilt in the end."""
        query = f"select p.id, md5(p.email) as hash_email, p.phone as hash_phone, p.city, p.spent from shop.people p where p.id > {self.world.restored}"
        self.db.execute(self.of("""update {segments} set exempt = '{}', exclude = '[]', priority_group = null, priority = null, is_suppression = false
            where exempt <> '{}' or exclude <> '[]' or priority_group is not null or is_suppression"""))  # type: ignore[call-overload]
        for name, some in {"latest": query, "history": query, "blocked": f"{query} and p.id % 7 = 3"}.items():
            self.db.execute(self.of("update {segments} set actual_end = 'infinity', context = %s, refresh_params = %s where name = %s"),
                            [some, Jsonb({"query": {"sql": some}}), name])
        self.db.execute(self.of("update {segments} set exclude = '[\"blocked\"]' where name = 'history'"))  # type: ignore[call-overload]
        for name in ("latest", "history"):
            self.db.execute("select segmenter_subscribe('mail', %s, 'the end')", [name])

    def refresh(self, which: str = "true") -> None:
        """All of them, each after those that it goes by, whatever their guards say. (Where rows were changed by hand, the
        refresh notices it, and consumers get all members.)"""
        for segment in self.run(f"select id, name from {{segments}} where actual_end = 'infinity' and ({which}) order by {ORDER}"):
            row: Row = {}
            end = time.monotonic() + 60
            while row.get("status") != "ok":
                must(time.monotonic() < end, f"{segment['name']} cannot be refreshed", row)
                row = rows(self.db, 'select * from segmenter_refresh(%s, force => true, "full" => true)', segment["name"])[0]
                if row["status"] == "waiting":
                    # Meanwhile what it goes by has become due, or a worker's refresh of that was refused.
                    for before in re.findall('segment "([^"]+)"', row["detail"]):
                        self.db.execute("select segmenter_refresh(%s, force => true)", [before])
                elif row["status"] != "ok":
                    state = (re.findall(r"\[(\w{5})\]", row["detail"] or "") or [""])[-1]
                    must(state in CROSSED, f"{segment['name']} cannot be refreshed", row)
                    time.sleep(0.2)

    def hand_over(self) -> None:
        for _ in range(6):
            handed = patiently(lambda: self.run("select * from segmenter_run()"))
            failed = [row for row in handed if row["status"] not in ("ok", "skipped")]
            must(not failed, "could not be handed over", *failed)
            if not sum(row["messages"] or 0 for row in handed) and not any(row["status"] == "skipped" for row in handed):
                return
        raise Wrong(f"a run always finds something to hand over: {handed}")

    def waiting(self) -> list[Row]:
        return self.run("""select u.id, c.name as consumer, u.status, d.*, (select count(*) from {outbox} o where o.subscription_id = u.id and o.id > d.delivered_through) as waiting
            from {subscriptions} u join {consumers} c on c.id = u.consumer_id join {deliveries} d on d.subscription_id = u.id
            where u.segment_id is not null and exists (select from {outbox} o where o.subscription_id = u.id and o.id > d.delivered_through)""")

    def deliver(self) -> None:
        """Those that fetch are fetched for; those that are called are called by the workers."""
        rest, end, last_retry = None, 0.0, 0.0
        while waiting := self.waiting():
            left = sum(row["waiting"] for row in waiting)
            # On a busy machine a long queue takes its time: it must get shorter.
            if rest is None or left < rest:
                rest, end = left, time.monotonic() + 120
            if time.monotonic() > end:
                raise Wrong("messages that nobody gets", *waiting[:3], *self.run("""
                    select pid, datname, usename, backend_type, application_name, state, wait_event_type, wait_event, xact_start::text, query_start::text,
                        pg_blocking_pids(pid) as blocked_by, left(query, 200) as query from pg_stat_activity where backend_type like 'segmenter%%'"""))
            if time.monotonic() > last_retry + 3:
                last_retry = time.monotonic()
                for row in waiting:
                    with self.audiences.ending_leases(row["id"]):
                        patiently(lambda: self.db.execute("select segmenter_retry(%s)", [row["id"]]))
            for consumer in [row["name"] for row in self.run("select name from {consumers} where name = any (%s) order by name", [*PULLING, FETCHED])]:
                while messages := claim(self.db, self.audiences, consumer, 100, 30):
                    for message in messages:
                        self.audiences.apply(message)
                    self.db.execute("select segmenter_ack(%s, %s, %s)", [messages[-1]["lease"], messages[-1]["message_id"], Jsonb({"external_id": str(messages[0]["subscription_id"])})])
                    self.audiences.answering(messages[-1], True)
                    self.audiences.acked(messages[-1])
            time.sleep(0.1)

    # What the doctor has to say of it

    def faults(self) -> list[tuple[str, str]]:
        """What is wrong here now, as the catalogue and the config rows have it: the check that must name it, and a pattern of how."""
        found = [("tables", f'segment "{re.escape(row["name"])}"') for row in self.run("""select s.name from {segments} s where actual_end = 'infinity' and exists (select from pg_class where oid = s.table_name)
            and not exists (select from pg_index i where i.indrelid = s.table_name and i.indisunique and i.indisvalid) and name !~ '^hostile'""")]
        found += [("owners", f'"{re.escape(row["name"])}"') for row in self.run("""select distinct r.rolname as name from {segments} s join pg_roles r on r.oid = s.owner
            where s.actual_end = 'infinity' and s.refresh_auto and not r.rolcanlogin and s.name <> 'odd'""")]
        found += [("refreshes", f'segment "{re.escape(row["name"])}" {row["how"]}') for row in self.run("""select distinct name,
            case last_status when 'failed' then 'has failed' when 'waiting' then 'is waiting' when 'interrupted' then 'was interrupted' else 'was refused' end as how
            from {status} where last_status in ('failed', 'waiting', 'refused', 'interrupted')""")]
        # Those that wait for a list are counted in its line.
        found = [(check, f"{pattern}|waits? for it" if pattern.endswith("is waiting") else pattern) for check, pattern in found]
        found += [("deliveries", f'"{row["consumer"]}" for "{row["target"]}" of segment "{re.escape(row["segment"])}" has failed') for row in self.run("""
            select c.name as consumer, u.target, s.name as segment from {subscriptions} u join {consumers} c on c.id = u.consumer_id join {segments} s on s.id = u.segment_id
            where u.status = 'failed' and u.actual_end = 'infinity'""")]
        found += [("replication", re.escape(row["name"])) for row in self.run("""select distinct t.schemaname || '.' || t.tablename as name from pg_publication_tables t
            join pg_class c on c.oid = format('%%I.%%I', t.schemaname, t.tablename)::regclass join {segments} s on s.table_name = c.oid and s.actual_end = 'infinity'
            where t.pubname in ('everything', 'something') and c.relreplident in ('d', 'n') and not exists (select from pg_constraint p where p.conrelid = c.oid and p.contype = 'p') and %s""", True)]
        found += [("tables", f'segment "{re.escape(row["name"])}": row-level security') for row in self.run("""select s.name from {segments} s join pg_class c on c.oid = s.table_name
            where s.actual_end = 'infinity' and c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role(s.owner, c.relowner, 'usage')) and s.name !~ '^hostile'
              and exists (select from pg_index i where i.indrelid = s.table_name and i.indisunique and i.indisvalid)""")]
        found += [("tables", f'segment "{re.escape(row["name"])}": .* is unlogged') for row in self.run("""select s.name from {segments} s join pg_class c on c.oid = s.table_name
            where s.actual_end = 'infinity' and c.relpersistence = 'u' and s.name !~ '^hostile' and not c.relrowsecurity
              and exists (select from pg_index i where i.indrelid = s.table_name and i.indisunique and i.indisvalid)""")]
        found += [("clock", f'the last refresh of segment "{re.escape(row["name"])}" lies in the future') for row in self.run("""select s.name from {segments} s join {state} t on t.segment_id = s.id
            where s.actual_end = 'infinity' and greatest(t.started_at, t.ended_at) > clock_timestamp() + interval '1 minute'""")]
        found += list_faults(self.db, self.of)
        found += [("schedules", '"odd"') for row in self.run("select from {segments} where name = 'odd' and (refresh_cron = 'soon' or refresh_timezone = 'Mars/Olympus')")]
        return found

    def find_faults(self) -> None:
        """At the beginning of a pause, when nothing is mended yet, and workers still work: the doctor names all that is wrong."""
        def look() -> tuple[list[tuple[str, str]], list[Row]]:
            with self.db.transaction():
                self.db.execute("set transaction isolation level repeatable read")
                return self.faults(), self.run("select * from segmenter_doctor()")
        faults, findings = patiently(look)
        for check, _ in faults:
            self.world.count(f"faults at a pause: {check}")
        judge_findings(faults, findings)

    def find_none(self) -> None:
        """All is settled: the doctor has nothing to say."""
        judge_findings([], self.run("select * from segmenter_doctor()"))

    # What must hold then.

    def check(self, is_real: bool = True) -> None:
        """Not real: what is found now is not to be remembered."""
        self.audiences.push(self.run("""select r.* from shop.received r join {subscriptions} u on u.id = r.subscription_id where r.place > %s order by r.place""", self.audiences.pushed))
        segments = self.run("""select s.*, table_name::text as segment_table, actual_end = 'infinity' as is_actual, r.rolname::text as role
            from {segments} s left join pg_roles r on r.oid = s.owner order by r.rolname, s.name""")
        if is_real:
            self.ask_owners(segments)
        for segment in segments:
            segment["members"] = self.run(f"select to_jsonb(t) as member from only {segment['segment_table']} t where segment_id = %s and actual_end = 'infinity'", segment["id"])
            segment["keys"] = {column: {row["member"][column] for row in segment["members"]} for column in KEYS}
        for segment in segments:
            if segment["is_actual"]:
                self.check_members(segment, lists_of(segment, segments))
        self.check_history(segments, is_real)
        self.check_audiences({segment["id"]: segment for segment in segments})
        self.check_log()
        self.check_definitions()
        self.check_outbox()
        self.check_alerts()
        # One that is retired is refreshed no more.
        check_coverage(self.db, self.of, edited=self.world.ever_edited - {segment["name"] for segment in segments if segment["is_actual"]})
        self.check_figures()
        self.check_erased()
        self.check_upstream()

    def ask_owners(self, segments: list[Row]) -> None:
        """What each query gives in a new connection of its owner, whose settings no other session decides, with those that are
        fixed for all segments."""
        for role, owned in groupby((segment for segment in segments if segment["is_actual"]), lambda segment: segment["role"]):
            with self.world.connect(role, "model", self.of, settings={}) as db:
                for setting, to in FIXED.items():
                    db.execute(f"set {setting} = '{to}'")  # type: ignore[call-overload]
                for segment in owned:
                    # A family has no members of its own.
                    found = [] if segment["name"] in FAMILIES else rows(db, f"select q.id::text, q.hash_email, q.hash_phone, q.city, q.spent from ({segment['context']}) q")
                    self.expected[segment["id"]] = Counter(map(member_of, found))

    def check_members(self, segment: Row, lists: list[tuple[Row, set[str]]]) -> None:
        """A segment is what its query gives, but for members of its lists."""
        given, actual = self.expected[segment["id"]], Counter(member_of(row["member"]) for row in segment["members"])
        expected = Counter({one: times for one, times in given.items() if not is_left_out(dict(zip(KEYS, one)), lists)})
        self.world.count("members of lists that were left out", given.total() - expected.total())
        if expected != actual:
            missing, extra = ([*(a - b)][:5] for a, b in ((expected, actual), (actual, expected)))
            raise Wrong(f"{segment['name']} is not what its query gives: {missing = }, {extra = }, {segment['role']}: {segment['context']}, but for {[(of['name'], by) for of, by in lists]}\n"
                        + "\n".join(map(str, self.known_of(segment, lists, [one[0] for one in missing + extra]))))

    def known_of(self, segment: Row, lists: list[tuple[Row, set[str]]], ids: list[str]) -> list[Row]:
        """What tells how a segment has come to wrong members: these in its table, in its lists and in the source, how far it has
        followed the lists, and what became of it and of them."""
        found = []
        for one in [segment, *(other for other, _ in lists)]:
            found += self.run(f"select %s as segment, to_jsonb(t) as row from {one['segment_table']} t where t.segment_id = %s and t.id = any (%s)", one["name"], one["id"], ids)
            found += self.run("select %s as segment, to_jsonb(t) - '{content,checkpoint}'::text[] as state from {state} t where t.segment_id = %s", one["name"], one["id"])
            found += self.run("select id, processed, action, segment_name, status, added, removed, changed, coverage, reason, message, params -> 'incremental' as i, params -> 'closed' as closed"
                              " from {log} where segment_id = %s order by id desc limit 8", one["id"])
        return found + self.run("select to_jsonb(p) as person from shop.people p where p.id::text = any (%s)", ids)

    def keeps_history(self, segment: Row) -> bool:
        return bool(self.run("select 1 from pg_index where indrelid = %s::regclass and indisunique and indpred is not null", segment["segment_table"]))

    def check_upstream(self) -> None:
        """Who reads what is known; a segment waits while one that it reads is not up to date, and that one is not retired."""
        actual = {row["name"] for row in self.run("select name from {segments} where actual_end = 'infinity'")}
        for read, reader in READ.items():
            if not {read, reader} <= actual:
                continue
            known = self.run("select via from segmenter_lineage where segment = %s and reads = %s and kind = 'segment'", reader, read)
            must(len(known) == 1 and (known[0]["via"] is not None) == (reader == "reading through"), f"{reader} reads {read}, which is not known", *known)
            with self.db.transaction(force_rollback=True):
                self.db.execute(self.of("""update {segments} set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = %s"""), [read])  # type: ignore[call-overload]
                failed, waits = (one(self.db, "select * from segmenter_refresh(%s, force => true)", name) for name in (read, reader))
                must(failed["status"] == "failed" and waits["status"] == "waiting" and f'"{read}"' in waits["detail"], f"{reader} does not wait for {read}, which has failed", failed, waits)
            try:
                with self.db.transaction(force_rollback=True):
                    self.db.execute(self.of("update {segments} set actual_end = now() where name = %s"), [read])  # type: ignore[call-overload]
            except psycopg.errors.DependentObjectsStillExist as error:
                must(reader in str(error), f"who reads {read} is not named", error)
            else:
                raise Wrong(f"{read} was retired, though {reader} reads it")
            self.world.count("readers that waited")
        early = self.run("""select o.id, o.operation, o.subscription_id from {outbox} o join {segments} s on s.id = o.segment_id
            where o.operation <> 'alert' and not exists (select from {state} t where t.segment_id = s.id and t.refreshes > 0) limit 5""")
        must(not early, "something was handed over before a first success", *early)

    def check_definitions(self) -> None:
        """The versions of each definition have no gap, and their changes add up to the last one, which is the row."""
        gaps = self.run("""select segment_id, count(*), min(version), max(version) from {definitions} group by 1
            having (count(*), min(version)) <> (max(version), 1) limit 5""")
        must(not gaps, "versions of definitions are missing", *gaps)
        wrong = self.run("""select s.name, d.version, d.definition, f.folded
            from {segments} s
            left join lateral (select * from {definitions} d where d.segment_id = s.id order by d.version desc limit 1) d on true
            left join lateral (
                select jsonb_object_agg(c.key, c.value -> 'new' order by v.version) as folded
                from {definitions} v cross join jsonb_each(v.changed) c where v.segment_id = s.id
            ) f on true
            -- (What an erasure has taken out of earlier versions, a later one may have again, as the row has it.)
            where d.definition is null or exists (
                select from jsonb_each(d.definition) w full join jsonb_each(f.folded) c using (key)
                where w.value is distinct from c.value and not coalesce('"(erased)"' in (w.value, c.value), false)
            ) or d.definition ->> 'name' not in (s.name, '(erased)')
                or d.definition -> 'refresh_params' not in (s.refresh_params, '"(erased)"') limit 5""")
        must(not wrong, "the history of a definition", *wrong)

    def check_history(self, segments: list[Row], is_real: bool) -> None:
        """Periods do not overlap, and the past is what it was."""
        now = value(self.db, "select timezone('UTC', clock_timestamp())")
        for segment in filter(self.keeps_history, segments):
            wrong = self.run(f"""select * from (
                    select id, actual_begin, actual_end, lead(actual_begin) over (partition by id order by actual_begin, actual_end) as next
                    from only {segment['segment_table']} where segment_id = %s) t
                where actual_end < actual_begin or next < actual_end limit 5""", segment["id"])
            must(not wrong, f"periods of {segment['name']}", *wrong)
            if segment["name"] in self.world.edited:
                self.world.snapshots.pop((self.of.cfg_table, segment["id"]), None)
            kept = self.world.snapshots[self.of.cfg_table, segment["id"]]
            for moment, members in kept:
                then = {row["id"]: row["m"] for row in self.run(f"""
                    select id, jsonb_build_array(hash_email, hash_phone, city, spent) as m from only {segment['segment_table']}
                    where segment_id = %s and actual_begin <= %s and %s < actual_end""", segment["id"], moment, moment)}
                known = {id: member for id, member in members.items() if id not in self.world.erased}
                then = {id: member for id, member in then.items() if id not in self.world.erased}
                different = {id for id in then.keys() | known.keys() if then.get(id) != known.get(id)}
                must(not different, f"the members of {segment['name']} at {moment} are others by now", sorted(different)[:5])
            if not is_real:
                continue
            members = {row["member"]["id"]: [row["member"][column] for column in ("hash_email", "hash_phone", "city", "spent")] for row in segment["members"]}
            self.world.snapshots[self.of.cfg_table, segment["id"]] = [*kept[-20:], (now, members)]

    def check_audiences(self, segments: dict[Any, Row]) -> None:
        """What consumers have made of their messages is what the segments are."""
        # The column status may lag where an acknowledgement met a locked row; the view is exact.
        for row in self.run("""select u.*, c.name as consumer, u.actual_end = 'infinity' and c.actual_end = 'infinity' as is_actual,
                    (select v.update_status from {status} v
                     where v.id = u.segment_id and v.update_consumer = c.name and v.update_target = u.target) as update_status
                from {subscriptions} u join {consumers} c on c.id = u.consumer_id where u.segment_id is not null"""):
            try:
                self.check_audience(row, segments[row["segment_id"]])
            except Wrong:
                self.world.suspects.append(row["id"])
                raise
            self.world.count("audiences compared")

    def check_audience(self, row: Row, segment: Row) -> None:
        audience = self.audiences.of(row["id"])
        what = f"the audience {row['consumer']} of {segment['name']}, {row['id']}"
        must(audience.gathered is None, f"{what}: a replace is not complete")
        if not (row["is_actual"] and segment["is_actual"]):
            must(audience.members is None, f"{what}: it is there, though it has ended", row)
            return
        must(audience.members is not None, f"{what}: it is not there", row)
        expected = {of["member"]["id"]: project(of["member"], row["params"]) for of in segment["members"] if is_selected(of["member"], row["params"])}
        known: Row = audience.people or {}
        different = sorted(id for id in expected.keys() | known.keys() if expected.get(id) != known.get(id))
        must(not different, f"{what} is another, after {list(audience.recent)}",
             {id: (expected.get(id), known.get(id)) for id in different[:5]}, len(different), row)
        must({row["status"], row["update_status"]} & {"uploaded", "not uploaded"}, f"{what}: its status", row)

    def check_log(self) -> None:
        """Every run has one end, failures are those that were meant, and the figures add up."""
        wrong = self.run("""select run_id, segment_id, min(segment_name) as segment, array_agg(status order by id) as story from {log} where action = 'refresh'
            and run_id in (select run_id from {log} where status = 'running')
            group by run_id, segment_id having count(*) filter (where status = 'running') > 1 or count(*) filter (where status <> 'running') <> 1 limit 5""")
        must(not wrong, "runs that have no end, or several", *wrong)
        odd = [row for row in self.run("select id, action, status, segment_name, target, error, message from {log} where error is not null and status not in ('refused', 'waiting') and coalesce(segment_name, '') !~ '^hostile'")
               if row["error"]["sqlstate"] not in MAY_FAIL
               and not ((row["segment_name"] in self.world.broken or (row["segment_name"] or "").startswith("made")) and row["error"]["sqlstate"] in BROKEN)
               and not (row["error"]["sqlstate"] == "42P01" and re.search(r"shop\.(nowhere|vip)", f"{row['message']} {row['error']['message']}"))
               and PUBLICATION_GONE not in f"{row['message']} {row['error']['message']}"
               # A list was retired, since that was meant.
               and not re.search("whose members it leaves out, does not exist", row["error"]["message"])
               # It had an erased person's number in it, or a hash.
               and row["error"]["message"] != "(erased)"
               and not (row["error"]["sqlstate"] == "55000" and re.search("replica identity|are not captured", f"{row['message']} {row['error']['message']}"))]
        must(not odd, "failures that nobody meant", *odd[:5])
        # An erasure takes one member at most, who is missed by the next look at all ids.
        wrong = self.run("""
            with entries as (
                select id, segment_id, segment_name, action, coverage, added, removed, params #>> '{incremental,pass}' as pass,
                    action = 'refresh' and (params #>> '{incremental,pass}') is distinct from 'changes' as is_full,
                    count(*) filter (where action = 'erase') over (partition by segment_id order by id) as erased
                from {log} where (action in ('refresh', 'exclude') and status = 'ok' or action = 'erase' and subscription_id is null) and segment_name !~ %s
            ), steps as (
                select *, lag(coverage) over w as before,
                    -- None: the log was truncated since the last look at all ids, and does not tell of all erasures.
                    erased - max(erased) filter (where is_full) over (w rows between unbounded preceding and 1 preceding) as since
                from entries where action <> 'erase' window w as (partition by segment_id order by id)
            )
            select * from steps where before is not null and (before + added - removed - coverage) not between 0 and since limit 5""", one_of(self.world.ever_edited, "^hostile"))
        must(not wrong, "figures of the log that do not add up", *wrong)
        self.world.count("entries of the log", value(self.db, self.of("select count(*) from {log}")) - self.world.counts["entries of the log"])

    def check_figures(self) -> None:
        """The status tells of as many members as there are, whether or not the log does."""
        wrong = self.run("""select v.name, v.last_status, v.coverage, count(*) from {status} v join {segments} s on s.id = v.id
            left join {mart} m on m.segment_id = s.id and m.tableoid = s.table_name and m.actual_end = 'infinity'
            group by 1, 2, 3, v.update_consumer, v.update_target having v.coverage is distinct from count(m.segment_id) or v.last_status <> 'ok'""")
        must(not wrong, "figures of the status", *wrong)

    def look(self, at: Any) -> list[str]:
        """What decides, and what the status shows, all of which does not depend on the log."""
        return [str(row["line"]) for row in self.run("""
            select 'due: ' || d as line from segmenter_due(%s) d union all select 'status: ' || v from {status} v
            union all select 'delivery: ' || d from {deliveries} d union all select 'subscription: ' || u from {subscriptions} u order by 1""", at)]

    def forget(self) -> None:
        """Nothing changes by a log that is truncated: nothing is due, handed over or looked at again that would not have been."""
        at = value(self.db, "select now()")
        before = self.look(at)
        patiently(lambda: self.db.execute(self.of("truncate {log}")))  # type: ignore[call-overload]
        self.world.forgotten[str(self.of)] = max(self.world.forgotten[str(self.of)], self.run("select coalesce(max(id), 0) as id from {outbox}")[0]["id"])
        after = self.look(at)
        must(before == after, "the log was truncated, and something has changed", *sorted(set(before) ^ set(after))[:6])
        handed = patiently(lambda: self.run("select * from segmenter_run()"))
        must(not sum(row["messages"] or 0 for row in handed), "the log was truncated, and something is handed over", *handed)
        for segment in self.run("""select s.name, (select count(*) from {subscriptions} u where u.segment_id = s.id and u.params ->> 'mode' = 'replace') as replaced
                from {segments} s where actual_end = 'infinity' and refresh_params ? 'incremental'
                and exists (select from {mart} m where m.segment_id = s.id and m.tableoid = s.table_name and m.actual_end = 'infinity') order by name"""):
            row = patiently(lambda: one(self.db, "select * from segmenter_refresh(%s)", segment["name"]))
            passed = self.run("select params -> 'incremental' as i from {log} where segment_name = %s and action = 'refresh' order by id desc limit 1", segment["name"])
            # A guard may refuse whatever it finds.
            if row["status"] == "refused":
                continue
            must(row["status"] == "ok" and passed[0]["i"]["pass"] == "changes", f"the log was truncated, and {segment['name']} is looked at as a whole", row, passed)
            # Some get all members at every refresh.
            is_silent = segment["replaced"] == 0
            must(not (row["added"] or row["removed"] or row["changed"] or is_silent and row["messages"]), f"the log was truncated, and {segment['name']} changes", row)
        self.world.count("logs truncated at a pause")

    def check_alerts(self) -> None:
        """Each state was reported once, from the one before it; and what is reported last is that all is well."""
        odd = self.run("""
            with alerts as (
                select o.id, o.subscription_id, o.payload #>> '{alert,key}' as key, o.payload #>> '{alert,was}' as was, o.payload #>> '{alert,is}' as is_now
                from {outbox} o where o.operation = 'alert' and o.payload -> 'alert' -> 'event' = 'false'
            ), steps as (
                select *, lag(case is_now when 'ended' then 'ok' else is_now end) over (partition by subscription_id, key order by id) as before from alerts
            )
            select * from steps where was = is_now or before <> was limit 5""")
        must(not odd, "alerts that do not follow each other", *odd)
        odd = self.run("select x.* from {alert_states} x where x.subject = 'refresh' and (x.state <> 'ok' or x.reported <> 'ok') limit 5")
        must(not odd, "an alert of a segment that is well", *odd)
        # A set in a database of its own may have none.
        while self.run("select from {alerts} limit 1") and (claimed := self.run("select lease, max(message_id) as last from segmenter_claim(%s, 1000) group by lease", ALERTED)):
            self.run("select segmenter_ack(%s, %s)", claimed[0]["lease"], claimed[0]["last"])
        self.world.count("alerts", value(self.db, self.of("select count(*) from {outbox} where operation = 'alert'")) - self.world.counts["alerts"])

    def check_outbox(self) -> None:
        """What was delivered was received, what is there is delivered, and the log tells where it comes from."""
        for row in self.run("""select u.id, d.*, u.status, coalesce((select max(o.id) from {outbox} o where o.subscription_id = u.id), 0) as newest
                from {subscriptions} u left join {deliveries} d on d.subscription_id = u.id where u.segment_id is not null"""):
            audience = self.audiences.of(row["id"])
            must(row["newest"] <= (row["delivered_through"] or 0), "messages without a delivery", row)
            must(row["lease"] is None or row["leased_until"] is None, "a lease on nothing", row)
            must(row["attempts"] in (None, 0) and row["last_error"] is None, "an attempt at nothing", row)
            must(audience.is_astray or row["newest"] <= audience.last, "a message that was delivered to nobody", row, audience.last)
        orphans = self.run("""select o.id, o.subscription_id, o.run_id, o.operation from {outbox} o
            where o.id > %s and o.operation <> 'alert' and not exists (select from {log} l where l.run_id = o.run_id and (l.subscription_id = o.subscription_id or l.action = 'erase')) limit 5""", self.world.forgotten[str(self.of)])
        must(not orphans, "messages of which the log tells nothing", *orphans)
        orphans = self.run("select subscription_id from {outbox} o where not exists (select from {deliveries} d where d.subscription_id = o.subscription_id) and exists (select from {subscriptions} u where u.id = o.subscription_id)")
        must(not orphans, "messages without a delivery", *orphans)

    def check_erased(self) -> None:
        """Nobody who was erased is left anywhere."""
        erased = sorted(self.world.surely_erased[str(self.of)])
        left = self.run("""select segment_id, id, tableoid::regclass::text as of, actual_begin, actual_end, processed
            from {mart} where id = any (%s) limit 5""", erased)
        must(not left, "somebody who was erased is in a segment table", *left)
        left = self.run("""select o.id, o.subscription_id, o.operation, o.created_at, m.member from {outbox} o, jsonb_array_elements(o.payload -> 'members') m (member)
            where coalesce(m.member ->> 'id', m.member ->> 'key') = any (%s) limit 5""", erased)
        must(not left, "somebody who was erased is in a message", *left)


# --- The server -----------------------------------------------------------------------

LINE = re.compile(r"^(?P<time>[^|]*)\|(?P<pid>\d+)\|(?P<who>[^|]*)\|(?P<state>\w{5})\|(?P<database>[^|]*)\| (?P<level>[A-Z0-9]+):  (?P<text>.*)$")
SIGNAL = re.compile(r"\(PID (\d+)\) was terminated by signal (\d+)")
# Of PostgreSQL itself, where two sessions alter the same at once; see TableChanger.pack for the missing chunk, which
# is no more expected of anybody else.
POSTGRES_ONLY = re.compile(r"tuple concurrently (updated|deleted)|cannot reindex invalid index|missing chunk number|could not open relation with OID|cache lookup failed for (relation|index|publication)")

# Of PostgreSQL itself, too: a process that connects as the role of an OID looks up its name, and then that name. Another
# session can rename the role in between. (The process is in no database yet.)
RENAMED = re.compile(r'\|22023\|\| ERROR:  role "[^"]*" does not exist$')


class ServerLog:
    """The server's log, read as it grows: no panic, no fault of the library's, no process that ended by itself."""

    def __init__(self, world: World) -> None:
        self.world, self.at = world, 0
        # Processes in which SQL of the hostile role has run.
        self.hostile: set[str] = set()

    def check(self) -> None:
        with open(self.world.directory / "log", errors="replace") as log:
            log.seek(self.at)
            text = log.read()
            self.at = log.tell()
        for line in text.splitlines():
            if "panicked at" in line or "TRAP:" in line or "AddressSanitizer" in line:
                raise Wrong(f"the server's log: {line}")
            if not (found := LINE.match(line)):
                continue
            if ended := SIGNAL.search(line):
                must(int(ended[1]) in self.world.killed, "a process ended that nobody has killed", line)
            state, level = found["state"], found["level"]
            is_fault = level == "PANIC" or (state.startswith("XX") and level in ("ERROR", "FATAL", "WARNING") and not POSTGRES_ONLY.search(line))
            must(not is_fault, "the server's log", line)
            if state.startswith("XX") and level != "LOG":
                self.world.count(f"tolerated: {state} {found['text'][:60]}")
            if found["text"].startswith(LOOT):
                # PostgreSQL may say at which character of a query that was.
                seen = json.JSONDecoder().raw_decode(found["text"][len(LOOT):])[0]
                check_loot(seen)
                self.hostile.add(found["pid"])
                self.world.count(f"hostile SQL in a {seen['backend']}" if seen["session"] == HOSTILE else "hostile SQL in others' sessions")
            # What its own SQL raises is the hostile role's choice.
            if found["who"].startswith("segmenter") and level in ("ERROR", "FATAL") and found["pid"] not in self.hostile:
                self.world.count(f"{found['who']} → {state}")
                may_fail = MAY_FAIL | BROKEN | {"57P02", "57P03", "3D000", "42704"}
                must(state in may_fail or RENAMED.search(line), "a background process", line)


def check_loot(seen: Row) -> None:
    """What the hostile role's SQL found when it ran: it was its role, in processes of its own, and got nothing. (Others refresh
    its segments, too: then the session is theirs, and the SQL is restricted.)"""
    must(seen["current"] == HOSTILE and not seen["super"] and not seen["gained"], "the hostile role has more rights than it was given", seen)
    must(seen["session"] == seen["login"] == HOSTILE or seen["backend"].startswith("torture: "), "hostile SQL in another role's process", seen)


def wait_for_workers(world: World, are_there: bool) -> None:
    """The background workers are at work, or gone."""
    world.configure("segmenter.databases", world.databases if are_there else "")
    with world.connect(database="postgres") as db:
        if are_there:
            wait_for("the scheduler", lambda: value(db, "select count(*) = 2 from pg_stat_activity where backend_type = 'segmenter scheduler'"))
        else:
            end = time.monotonic() + 90
            while left := rows(db, """select pid, datname, usename, backend_type, application_name, state, wait_event_type, wait_event, backend_start::text, xact_start::text,
                    pg_blocking_pids(pid) as blocked_by, query from pg_stat_activity where backend_type in ('segmenter scheduler', 'segmenter worker')"""):
                must(time.monotonic() < end, "workers that do not end", *left)
                time.sleep(0.02)


def wait_for_ends(world: World, of: Set) -> None:
    """The scheduler gives every run an end that has lost its own."""
    left = of("""select r.*, (select array_agg(l.status || coalesce(': ' || l.message, '') order by l.id) from {log} l where l.segment_id = r.segment_id and l.id > r.id) as later,
            (select array_agg(l.status || coalesce(': ' || l.message, '') order by l.id) from {log} l where l.run_id = r.run_id and l.id > r.id) as of_the_run
        from {log} r where status = 'running' and not exists (
            select from {log} l where l.run_id = r.run_id and l.segment_id = r.segment_id and l.id > r.id)""")
    with world.connect(of=of) as db:
        end = time.monotonic() + 30
        while found := rows(db, left):
            must(time.monotonic() < end, "a run that gets no end", *found)
            time.sleep(0.1)


def nothing_runs(world: World, seconds: float = 20) -> None:
    """No statement, transaction, lock, worker is left."""
    with world.connect() as db:
        def busy() -> list[Row]:
            return rows(db, """
                select pid, backend_type, application_name, state, query from pg_stat_activity
                where pid <> pg_backend_pid() and (state <> 'idle' or backend_type in ('segmenter scheduler', 'segmenter worker'))
                  and backend_type in ('client backend', 'segmenter scheduler', 'segmenter worker')""")
        end = time.monotonic() + seconds
        while found := busy():
            must(time.monotonic() < end, "something goes on", *found)
            time.sleep(0.2)
        locks = rows(db, """select locktype, relation::regclass::text, objsubid, mode, pid from pg_locks l
            where pid is distinct from pg_backend_pid() and locktype <> 'virtualxid'
              and not exists (select from pg_stat_activity a where a.pid = l.pid and a.backend_type = 'autovacuum worker')
              and (locktype = 'advisory' or database = (select oid from pg_database where datname = current_database()))""")
        must(not locks, "locks that are left", *locks)
        must(not rows(db, "select * from pg_prepared_xacts"), "prepared transactions that are left")
        launchers = value(db, "select count(*) from pg_stat_activity where backend_type = 'segmenter launcher'")
        must(launchers <= 1, "launchers", launchers)


def check_memory(world: World) -> int:
    """A process that has warmed up does not grow with what it has done. Gives how many could be judged."""
    judged = 0
    for what, figures in world.memory.items():
        if len(figures) < 16:
            continue
        judged += 1
        warm = figures[len(figures) // 4:]
        third = len(warm) // 3
        early, late = statistics.median(warm[:third]), statistics.median(warm[-third:])
        print(f"memory of {what}: {early:.0f} → {late:.0f} in {len(figures)} looks", flush=True)
        must(late < early * 1.25 + 6000, f"memory grows: {what}", f"from {early:.0f} to {late:.0f} in {len(figures)} looks", figures[:: max(1, len(figures) // 30)])
    return judged
