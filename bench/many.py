"""Many segments: what a look of the scheduler takes, the status, the mart's lookup of one person."""

import statistics
import time

import psycopg

from measure import Server, processor_time
from report import Table, seconds

LOG = """
insert into segmenter_log (processed, run_id, action, status, segment_id, segment_name,
    num_received, num_invalid, added, removed, changed, coverage, elapsed, params)
select r.at, r.run, 'refresh', e.status, r.id, r.name, 100, 0, 1, 1, 0, 100, '1 s',
    '{{"refresher": "query", "query": null, "forced": false}}'
from (
    select n, s.id, s.name, gen_random_uuid() as run, now() - interval '1 minute' * ({pairs} + 1 - n) as at
    from generate_series(1, {pairs}) n, segmenter_segments s
) r, unnest('{{running,ok}}'::text[]) with ordinality e (status, place)
order by r.n, r.name, e.place;
insert into segmenter_state (segment_id, run_id, started_at, ended_at, coverage, added, removed, changed, members, refreshes)
select s.id, gen_random_uuid(), now() - interval '1 minute', now() - interval '59 seconds', 100, 1, 1, 0, 100, {pairs}
from segmenter_segments s
on conflict (segment_id) do update set started_at = excluded.started_at, ended_at = excluded.ended_at;
"""

SUBSCRIPTIONS = """
insert into segmenter_consumers (name, role) select 'consumer ' || g, 'marketing' from generate_series(0, 9) g;
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 'ads'
from (select *, row_number() over (order by name) as number from segmenter_segments) s
join segmenter_consumers c on c.name = 'consumer ' || s.number % 10
where s.number <= {count};
insert into segmenter_deliveries (subscription_id) select id from segmenter_subscriptions;
insert into segmenter_log (action, status, segment_id, segment_name, subscription_id, target, params)
select 'hand over', 'ok', s.id, s.name, u.id, u.target,
    '{{"operations": ["remove", "add"], "fields": ["id", "hash_email", "hash_phone"]}}'
from segmenter_subscriptions u join segmenter_segments s on s.id = u.segment_id;
insert into segmenter_handovers (subscription_id, has_audience, fields)
select id, true, '["id", "hash_email", "hash_phone"]' from segmenter_subscriptions;
"""

DELIVERED = """
insert into segmenter_log (action, status, segment_id, segment_name, subscription_id, target, params)
select 'deliver', 'ok', s.id, s.name, u.id, u.target, jsonb_build_object('message_id', n, 'receipt', '{{}}'::jsonb)
from generate_series(1, {deliveries}) n, segmenter_subscriptions u join segmenter_segments s on s.id = u.segment_id
order by n;
insert into segmenter_outbox (consumer_id, subscription_id, segment_id, run_id, operation, members, payload)
select u.consumer_id, u.id, u.segment_id, gen_random_uuid(), 'add', 1,
    jsonb_build_object('version', 1, 'members', jsonb_build_array(jsonb_build_object('id', n, 'hash_email', md5(n::text))))
from generate_series(1, {messages}) n, segmenter_subscriptions u
order by n;
"""

PEOPLE = """
create table people (id int primary key, grp int);
insert into people select g, g % {groups} from generate_series(1, {count}) g;
create index on people (grp);
grant select on people to marketing;
"""

SHARED = """
create table members (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create unique index on members (segment_id, id) where actual_end = 'infinity';
create index on members (id);
"""

SCHEDULES = ["@daily", "30 6 * * mon-fri", "0 4 * * *", "15 3 1 * *", "45 5 * * 1"]
ZONES = ["UTC", "Europe/Oslo", "Asia/Kolkata"]


def measure(socket, scale, rounds, say):
    """The tables, and what is wrong."""
    count = max(int(10_000 * min(scale, 1)), 100)
    postgres = Server(socket, "postgres")
    postgres.do("create role marketing login")
    for database in ("many", "own", "shared"):
        postgres.do(f"create database {database}")
        server = Server(socket, database)
        server.do("create extension segmenter; create schema authorization marketing; grant all on schema public to marketing")
    wrong = []
    tables = [
        schedulers(Server(socket, "many"), postgres, count, rounds, say, wrong),
        marts(socket, max(count // 10, 20), rounds, say, wrong),
    ]
    return tables, wrong


def segments(server, count, sql, table=None):
    """Segments of marketing, by a table they share or with one each."""
    server.do("set role marketing")
    if table is None:
        for number in range(1, count + 1):
            server.do(
                "select segmenter_create_segment(%s, %s, %s)",
                f"s{number}", sql.format(number=number), SCHEDULES[number % len(SCHEDULES)],
            )
    else:
        server.do(SHARED)
        text = sql.replace("{number}", "' || g || '")
        server.do(f"""
            insert into segmenter_segments (name, table_name, refresh_auto, refresh_cron, refresh_timezone,
                refresh_params, actual_begin)
            select 's' || g, '{table}', true, (array{SCHEDULES})[g % {len(SCHEDULES)} + 1],
                (array{ZONES})[g % {len(ZONES)} + 1],
                jsonb_build_object('query', jsonb_build_object('sql', '{text}')), now() - interval '60 days'
            from generate_series(1, {count}) g
        """)
    server.do("reset role")


def schedulers(server, postgres, count, rounds, say, wrong):
    say(f"making {count:,} segments with a log of 50 entries each")
    server.do(PEOPLE.format(count=count * 10, groups=count))
    segments(server, count, "select id from public.people where grp = {number}", "members")
    server.do(SUBSCRIPTIONS.format(count=count // 10))
    server.do(LOG.format(pairs=25))
    server.do("vacuum analyze")
    ten = [f"s{number}" for number in range(1, 11)]
    server.do("update segmenter_segments set refresh_cron = '* * * * *' where name = any (%s)", ten)

    none, due, of_ten = [], [], []
    run = "select status, extract(epoch from elapsed)::float8 from segmenter_run()"
    server.do(run)
    for _ in range(rounds):
        server.do(
            "update segmenter_state set started_at = now() - interval '2 minutes' from segmenter_segments s"
            " where s.id = segment_id and s.name = any (%s)",
            ten,
        )
        sample = server.measure(run)
        if [status for status, _ in sample.rows] != ["ok"] * 10:
            wrong.append(f"a run with ten due: {sample.rows}")
        due.append(sample.seconds)
        of_ten.append(sum(elapsed for _, elapsed in sample.rows))
        # Unless a minute has just begun none is due now.
        sample = server.measure(run)
        none += [] if sample.rows else [sample.seconds]
    plan = warm(server, "select count(*) from segmenter_run_plan()", rounds)
    status = warm(server, "select * from segmenter_status", rounds)
    as_owner = warm(server, "select * from segmenter_status", rounds, "marketing")

    table = Table(
        f"{count:,} segments in one table, {count // 10:,} subscriptions, {50 * count:,} entries of the log",
        ["", "time"],
    )
    table.rows += [
        ["one look at what is due (segmenter_run_plan)", seconds(plan)],
        ["segmenter_run(), none due, in a new session", seconds(statistics.median(none)) if none else "–"],
        ["segmenter_run(), ten due, in a new session", seconds(statistics.median(due))],
        ["of it the ten refreshes", seconds(statistics.median(of_ten))],
        ["segmenter_status, all rows", seconds(status)],
        ["the same by an ordinary role, row-level security", seconds(as_owner)],
    ]
    scheduler(server, postgres, ten, table, say, wrong)
    return table


def scheduler(server, postgres, ten, table, say, wrong):
    """The background worker itself: at rest, and with ten segments due every few seconds."""
    say("the scheduler")
    postgres.do("alter system set segmenter.databases = 'many'")
    postgres.do("select pg_reload_conf()")
    try:
        find = "select pid from pg_stat_activity where backend_type = 'segmenter scheduler'"
        found = until(lambda: postgres.do(find), 30)
        if not found:
            wrong.append("the scheduler did not come")
            return
        pid = found[0][0]
        time.sleep(3)
        begun = processor_time(pid)
        time.sleep(5)
        rest = (processor_time(pid) - begun) / 5
        server.do("update segmenter_segments set refresh_cron = '3 seconds' where name = any (%s)", ten)
        time.sleep(10)
        lags = server.do(
            """
            select extract(epoch from processed - previous - interval '3 s')::float8
            from (
                select processed, lag(processed) over (partition by segment_id order by id) as previous
                from segmenter_log
                where segment_name = any (%s) and status = 'running' and processed > now() - interval '11 s'
            ) l
            where previous is not null
            """,
            ten,
        )
        if len(lags) < 10:
            wrong.append(f"the scheduler has begun {len(lags)} refreshes anew, not 10 and more")
            return
        lags = sorted(lag for (lag,) in lags)
        table.rows += [
            ["the scheduler at rest: processor time a second", seconds(rest)],
            [f"the scheduler, ten due every 3 s: from due to begun, median of {len(lags)}", seconds(statistics.median(lags))],
            ["the longest of these", seconds(lags[-1])],
        ]
    finally:
        server.do("update segmenter_segments set refresh_auto = false where name = any (%s)", ten)
        postgres.do("alter system reset segmenter.databases")
        postgres.do("select pg_reload_conf()")


def marts(socket, count, rounds, say, wrong):
    people = 20_000
    sql = f"select id from public.people where (id + 37 * {{number}}) % 100 = 0"
    messages = 100 if count >= 500 else 10
    table = Table(
        f"{count:,} segments: the status ({count:,} subscriptions, {count * 100:,} entries of the log,"
        f" {count * messages:,} messages waiting), and one person looked up in all of them",
        ["", "a table each", "one table for all"],
    )
    # Python knows no infinity: who asks for actual_end as well gets it at the same price.
    person = "select segment_id, id, hash_email, actual_begin, processed from segmenter where id = "
    lookup = f"{person}'63'"
    prepared = ["set plan_cache_mode = force_generic_plan", f"prepare look (text) as {person}$1"]
    columns = []
    for database in ("own", "shared"):
        say(f"making {count:,} segments, {'a table each' if database == 'own' else 'in one table'}")
        server = Server(socket, database)
        server.do(PEOPLE.format(count=people, groups=100))
        segments(server, count, sql, "members" if database == "shared" else None)
        failed = server.value(
            "select count(*) from segmenter_segments s, segmenter_refresh(s.name) r where r.status <> 'ok'"
        )
        if failed:
            wrong.append(f"{failed} of {count} refreshes failed")
        server.do("delete from segmenter_log")
        server.do(SUBSCRIPTIONS.format(count=count))
        server.do(LOG.format(pairs=25))
        server.do(DELIVERED.format(deliveries=49, messages=messages))
        server.do("vacuum analyze")
        expected = sum(1 for number in range(1, count + 1) if (63 + 37 * number) % 100 == 0)
        for role in (None, "marketing"):
            found = len(ask(server, lookup, role))
            if found != expected:
                wrong.append(f"the lookup in {database} found {found} rows, not {expected}")
        columns.append(
            [
                warm(server, "select * from segmenter_status", rounds),
                warm(server, "select * from segmenter_status", rounds, "marketing"),
                warm(server, lookup, rounds),
                warm(server, lookup, rounds, "marketing"),
                warm(server, "execute look ('63')", rounds, "marketing", prepared),
                statistics.median(server.measure(lookup, role="marketing").seconds for _ in range(rounds)),
            ]
        )
    titles = [
        "segmenter_status, all rows, as a superuser",
        "segmenter_status, all rows, as their owner (row-level security)",
        "a person in the mart, as a superuser",
        "a person in the mart, as the segments' owner (row-level security)",
        "the same, prepared",
        "the same, the first time in a session",
    ]
    table.rows += [[title, *map(seconds, times)] for title, *times in zip(titles, *columns)]
    return table


def ask(server, sql, role=None):
    with psycopg.connect(server.target, autocommit=True) as session:
        if role:
            session.execute(f"set role {role}")
        return session.execute(sql).fetchall()


def warm(server, sql, rounds, role=None, settings=()):
    """The median time of a query that its session has run before."""
    with psycopg.connect(server.target, autocommit=True) as session:
        if role:
            session.execute(f"set role {role}")
        for setting in settings:
            session.execute(setting)
        session.execute(sql)
        times = []
        for _ in range(max(rounds, 3)):
            begun = time.monotonic()
            session.execute(sql)
            times.append(time.monotonic() - begun)
        return statistics.median(times)


def until(ask, limit):
    end = time.monotonic() + limit
    while not (found := ask()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
