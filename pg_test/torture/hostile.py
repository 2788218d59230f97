"""A role that does its worst with what every owner of segments may do, and another role that must not notice.

The hostile role has segments and consumers in the extension's own set, and sets of its own whose rows it forges and
whose relations it breaks. Its SQL catches every cancellation, locks, sleeps and raises, and each time it runs it tries
to be another role and to read what is not its own: what it found, its loot, goes to a table and to the server's log.
The victim has a segment with `5 seconds` in the same and in another database of the server.

What PostgreSQL lets any role do to the whole server is not tried: to fill its memory, its lock table, its connections
or its disk. Nor is code in checks and indexes of segment tables, which superusers who read the mart evaluate: see
"Where it ends" in docs/security.md.
"""
from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from actors import CUT_OFF, Actor, Claimer, Steady, action
from audiences import Audiences
from checks import Connection, Row, Wrong, must, one, rows, value
from invariants import Pause, check_loot, patiently
from world import CALLED, CROSSED, FETCHED, HOSTILE, SOURCES, VICTIM, Set, World

# How much later than its schedule the victim's segment, or a message of it, may be: beside the hostile role alone, and
# where many others act as well, on a machine that may have other work.
LATEST, LATEST_AMONG_OTHERS = 10.0, 30.0
EVERY = 5.0
TABLES = 6  # of the hostile role's segments
# Who attempts it is told: no right, no such thing, no lease, no consent, or not a value.
REFUSALS = ("42501", "42704", "55000", "23505", "22023", "42P01", "42P17", "25006")
SHARED = ("segments", "consumers", "subscriptions", "log", "outbox", "deliveries", "handovers", "state", "mart")

# --- The victim -----------------------------------------------------------------------

VICTIM_SOURCES = """
create schema if not exists victor authorization victor;
grant usage on schema shop to victor;
grant insert on shop.received to victor;
set session authorization victor;
create table victor.source (id text primary key, hash_email text, hash_phone text, city int, spent numeric(10, 2));
insert into victor.source select 'v' || g, md5(g::text), (g % 3)::text, g % 9, g from generate_series(1, 60) g;
create table victor.victim (
    segment_id uuid not null, id varchar unique, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), city int, spent numeric(10, 2)
);
-- Others publish all tables; see house.py.
alter table victor.victim replica identity full;
create function victor.push(message jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.received (subscription_id, message_id, message)
    values ((message #>> '{audience,subscription_id}')::uuid, (message ->> 'message_id')::bigint, message);
    return jsonb_build_object('external_id', message #>> '{audience,subscription_id}');
end
$$;
reset session authorization;
"""
VICTIM_QUERY = "select s.id, s.hash_email, s.hash_phone, s.city, s.spent from victor.source s where s.city < 7"


def set_up_victim(world: World, of: Set) -> None:
    """In the extension's own set of a database."""
    with world.connect(of=of) as db:
        db.execute(VICTIM_SOURCES)
    with world.connect(VICTIM, of=of) as db:
        db.execute("""insert into segmenter_segments (name, table_name, context, refresh_auto, refresh_cron, refresh_params)
            values ('victim', 'victor.victim', %s, true, '5 seconds', %s)""", [VICTIM_QUERY, Jsonb({"query": {"sql": VICTIM_QUERY}})])
        for name, params in ((CALLED, {"updater": {"function": {"name": "victor.push(jsonb)"}}, "max_attempts": 1000}), (FETCHED, {"max_attempts": 1000})):
            db.execute("insert into segmenter_consumers (name, role, params) values (%s, %s, %s)", [name, VICTIM, Jsonb(params)])
            db.execute("select segmenter_subscribe(%s, 'victim', 'first')", [name])


class VictimChanger(Actor):
    """The victim's source changes, so that there is something to deliver."""
    user = VICTIM
    rest = 2.0

    @action(1)
    def change(self) -> None:
        begin = self.dice.randint(1, 80)
        self.execute(self.dice.choice([
            f"update victor.source set city = (city + 1) % 9 where substr(id, 2)::int between {begin} and {begin + 5}",
            f"update victor.source set hash_email = md5(hash_email) where substr(id, 2)::int between {begin} and {begin + 5}",
            f"delete from victor.source where id = 'v{begin}'",
            f"insert into victor.source values ('v{begin}', 'new', null, 1, 1) on conflict do nothing"]))


class VictimClaimer(Claimer):
    user = VICTIM
    is_odd = False

    def __init__(self, world: World, of: Set, audiences: Audiences) -> None:
        super().__init__(world, of, FETCHED, 1, audiences)


class Clock(Actor):
    """Looks several times a second how long ago the victim's segment was refreshed, and how long its messages wait.

    Time counts while nothing else could be the reason: not at a pause and shortly after it, nor while others than the
    hostile role are known to hold up the scheduler or the victim; and of a look that comes late, as on a machine
    that stands still, a second at most.
    """
    rest = 0.4
    LOOK = """
        select extract(epoch from clock_timestamp() - t.started_at)::float as segment,
            (select extract(epoch from clock_timestamp() - min(o.available_at))::float from segmenter_outbox o
             join segmenter_deliveries d on d.subscription_id = o.subscription_id and o.id > d.delivered_through
             join segmenter_consumers c on c.id = o.consumer_id and c.name = '{called}') as message,
            (select min(backend_start)::text from pg_stat_activity where backend_type = 'segmenter scheduler' and datname = current_database()) as scheduler,
            exists (select from pg_stat_activity w, unnest(pg_blocking_pids(w.pid)) b (pid) join pg_stat_activity h on h.pid = b.pid
                where w.datname = current_database() and (w.backend_type = 'segmenter scheduler' or w.backend_type = 'segmenter worker' and w.usename = '{victim}') and h.usename is distinct from '{hostile}' and h.backend_type <> 'segmenter worker')
            or exists (select from pg_locks l join pg_stat_activity h on h.pid = l.pid
                where l.locktype = 'advisory' and l.objsubid > 2 and l.database = (select oid from pg_database where datname = current_database())
                  and (l.classid::bigint << 32 | l.objid::bigint) = uuid_hash_extended(s.id, 'segmenter_segments'::regclass::oid::bigint) and h.usename is distinct from '{hostile}' and h.backend_type = 'client backend') as is_held_up
        from segmenter_segments s join segmenter_state t on t.segment_id = s.id where s.name = 'victim'
        """.format(called=CALLED, hostile=HOSTILE, victim=VICTIM)

    def __init__(self, world: World, of: Set) -> None:
        # (Whose name has "steady" is not ended by chaos.)
        super().__init__(world, of, "steady clock")
        self.waited = {"segment": 0.0, "message": 0.0}
        self.worst = {"segment": 0.0, "message": 0.0}
        self.looked_at = self.counts_from = 0.0
        self.phase: tuple[object, ...] = ()
        self.counted = 0.0

    @action(1)
    def look(self) -> None:
        now = time.monotonic()
        passed, self.looked_at = min(now - self.looked_at, 1.0), now
        seen = self.rows(self.LOOK)
        if not seen:
            # Not refreshed yet.
            return
        world, row = self.world, seen[0]
        phase = world.rests, row["scheduler"]
        if phase != self.phase or now < world.disturbed_at + 1:
            self.phase, self.counts_from = phase, now + (6.0 if now < world.disturbed_at + 1 else 3.0)
            self.waited = dict.fromkeys(self.waited, 0.0)
        if row["is_held_up"] and not world.is_only_hostile:
            # What has gathered meanwhile comes first.
            self.counts_from = max(self.counts_from, now + 3.0)
            self.waited = dict.fromkeys(self.waited, 0.0)
        is_calm = world.is_only_hostile or not world.is_hard
        passed = passed if is_calm and row["scheduler"] and now > self.counts_from else 0.0
        self.counted += passed
        self.count(row, passed)

    def count(self, row: Row, passed: float) -> None:
        for what in self.waited:
            self.waited[what] = min(self.waited[what] + passed, row[what] or 0.0)
            self.worst[what] = max(self.worst[what], self.waited[what])
            if self.waited[what] > EVERY + (LATEST if self.world.is_only_hostile else LATEST_AMONG_OTHERS):
                raise Wrong("\n".join([f"the victim's {what} is late: {self.waited[what]:.1f} s, in {self.of}", *(str({name: one for name, one in row.items() if one}) for row in self.reasons())]))

    def reasons(self) -> list[Row]:
        return self.rows("""select pid, datname, usename, application_name, backend_type, state, wait_event, xact_start::text, pg_blocking_pids(pid) as blocked_by, left(query, 120) as query
            from pg_stat_activity where pid <> pg_backend_pid() and (backend_type like 'segmenter%' or usename = 'mallory' or cardinality(pg_blocking_pids(pid)) > 0)""") \
            + self.rows("select status, message, error ->> 'sqlstate' as state, processed::text, elapsed::text from segmenter_log where segment_name = 'victim' order by id desc limit 8")

    def tell(self) -> str:
        return f"{self.of}: the segment {max(0.0, self.worst['segment'] - EVERY):.1f} s late at most, a message {self.worst['message']:.1f} s, in {self.counted:.0f} s that count"


class AsidePause(Pause):
    """In the database where the victim is alone."""

    def mend(self) -> None:
        pass

    def fill(self) -> None:
        pass


class QuietSteady(Steady):
    """Refreshes no segments of others that are due: they are to be refreshed by the workers."""

    def __init__(self, world: World, of: Set) -> None:
        super().__init__(world, of)
        self.actions = [method for method in self.actions if method.__name__ not in ("run_all", "run_each", "erase", "prune")]


# --- The hostile role -----------------------------------------------------------------

# Everything that is the hostile role's, made by itself. act() is what all its code calls.
ARSENAL = """
create table mallory.loot (at timestamptz not null default clock_timestamp(), seen jsonb not null);
create function mallory.grab(place text) returns void language plpgsql as $$
declare
    gained text[] := '{}';
    attempt text;
    found bigint;
    seen jsonb;
begin
    foreach attempt in array array[
        'select count(*) from pg_authid', 'select count(*) from victor.source', 'select count(*) from victor.victim', 'select count(*) from one.latest',
        'select count(*) from shop.received', 'select count(*) from segmenter_log where segment_name = ''victim''', 'select count(*) from segmenter_changes',
        'select count(*) from segmenter_outbox where payload #>> ''{segment,name}'' = ''victim'''] loop
        begin
            execute attempt into found;
            if found > 0 then gained := gained || attempt; end if;
        exception when query_canceled or others then null;
        end;
    end loop;
    foreach attempt in array array[
        'set role postgres', 'set local role victor', 'set session authorization postgres', 'alter role mallory superuser', 'alter role mallory createrole',
        'grant victor to mallory', 'create role mallory_too', 'alter table victor.victim owner to mallory', 'truncate one.latest', 'copy (select 1) to program ''true''',
        'select pg_read_file(''PG_VERSION'')', 'update pg_authid set rolsuper = true', 'set session_replication_role = replica', 'set segmenter.refresh_timeout = 0'] loop
        begin
            execute attempt;
            gained := gained || attempt;
        exception when query_canceled or others then null;
        end;
    end loop;
    foreach attempt in array array['reset role', 'set role none', 'reset session authorization'] loop
        begin
            execute attempt;
        exception when query_canceled or others then null;
        end;
        if current_user <> 'mallory' then gained := gained || format('%s: %s', attempt, current_user); end if;
    end loop;
    select jsonb_build_object('place', place, 'current', current_user, 'session', session_user, 'login', a.usename,
        -- Of a session of another role's, the backend's type is not told.
        'backend', coalesce(a.backend_type, current_setting('application_name')), 'super', r.rolsuper, 'gained', gained) into seen
    from pg_stat_activity a, pg_roles r where a.pid = pg_backend_pid() and r.rolname = current_user;
    raise log 'loot: %', seen;
    -- Where it is not read-only.
    insert into mallory.loot (seen) values (seen);
exception when query_canceled or others then null;
end
$$;
create function mallory.act(place text, how text default null) returns boolean language plpgsql as $$
declare
    is_worker boolean := (select backend_type like 'segmenter%' from pg_stat_activity where pid = pg_backend_pid());
    -- Whose sessions are not its own shall not wait for long: that is for their own statement_timeout to limit.
    ends timestamptz := clock_timestamp() + case when is_worker then '1 hour' when session_user = 'mallory' then '1 s' else '30 ms' end::interval;
begin
    perform mallory.grab(place);
    how := coalesce(how, (array['hold', 'hold', 'spin', 'lock', 'fail', 'nothing', 'nothing'])[1 + floor(random() * 7)]);
    if how = 'hold' then
        while clock_timestamp() < ends loop
            begin
                perform pg_sleep(extract(epoch from ends - clock_timestamp()));
            exception when query_canceled or others then null;
            end;
        end loop;
    elsif how = 'spin' then
        while clock_timestamp() < least(ends, statement_timestamp() + '3 s') loop
            begin
                perform count(*) from generate_series(1, 10000);
            exception when query_canceled or others then null;
            end;
        end loop;
    elsif how = 'lock' and session_user = 'mallory' then
        begin
            perform pg_advisory_xact_lock(1871, g), pg_advisory_xact_lock(1872, g) from generate_series(1, 10) g;
            execute 'lock table mallory.t1, mallory.t2 in access exclusive mode';
            perform pg_sleep(extract(epoch from least(ends - clock_timestamp(), '5 s'::interval)));
        exception when query_canceled or others then null;
        end;
    elsif how = 'fail' then
        raise exception '%', repeat('no ', (random() * 30000)::int)
            using errcode = (array['57014', '40001', '40P01', '55P03', '57P01', '08006', '42501', 'P0001', '42P01', '25006'])[1 + floor(random() * 10)];
    end if;
    return true;
end
$$;
create domain mallory.d as int check (mallory.act('domain'));
create table mallory.few (id text);
insert into mallory.few values ('1');
alter table mallory.few enable row level security, force row level security;
create policy act on mallory.few using (mallory.act('policy'));
create procedure mallory.load(segment_table text, segment text) language plpgsql as $$
begin
    perform mallory.act('procedure');
    execute format('insert into %s (segment_id, id) select id, random()::text from public.segmenter_segments where name = $1 and isfinite(actual_end) is false', segment_table) using segment;
end
$$;
create function mallory.on_row() returns trigger language plpgsql as $$
begin
    if tg_when = 'BEFORE' and tg_level = 'ROW' and random() < 0.1 then return null; end if;
    if tg_level = 'STATEMENT' or random() < 0.2 then perform mallory.act('trigger of ' || tg_table_name); end if;
    if tg_op = 'DELETE' then return old; end if;
    return new;
end
$$;
create function mallory.push(message jsonb) returns jsonb language plpgsql as $$
begin
    perform mallory.act('consumer''s function');
    if random() < 0.2 then return to_jsonb(repeat('receipt', 20000)); end if;
    return '{"external_id": "8812"}';
end
$$;
create function mallory.make_tables(name text) returns void language plpgsql as $$
begin
    execute format('create table mallory.%1$I (like segmenter including defaults, unique (segment_id, id));
        create trigger act before insert or update or delete on mallory.%1$I for each row execute function mallory.on_row();
        create trigger acts after insert on mallory.%1$I for each statement execute function mallory.on_row()', name);
end
$$;
select mallory.make_tables(kind || g) from generate_series(1, 6) g, unnest(array['t', 'u']) kind;
"""


def set_up_hostile(world: World) -> None:
    with world.connect() as db:
        db.execute("create schema mallory authorization mallory; grant usage on schema shop to mallory; grant select on shop.people to mallory")
    with world.connect(HOSTILE) as db:
        db.execute(ARSENAL)
        # One is broken from the beginning, so that it is there when a dump is made.
        db.execute("select segmenter_init('mallory.z0'), segmenter_init('mallory.broken')")
        db.execute("drop table mallory.broken_state cascade; create view mallory.broken_state as select null::uuid as segment_id, mallory.act('view') as run_id")


def set_up(world: World) -> None:
    """Both roles, in both databases."""
    with world.connect(database="postgres") as db:
        for role in (VICTIM, HOSTILE):
            db.execute(f"create role {role} login")  # type: ignore[call-overload]
        db.execute(f"create database {world.aside.database}")  # type: ignore[call-overload]
    with world.connect(of=world.aside) as db:
        db.execute(SOURCES)
    for of in (world.sets[0], world.aside):
        set_up_victim(world, of)
    set_up_hostile(world)
    arm(world)


def stop_sessions(world: World) -> None:
    """A session that catches every cancellation ends by itself at no pause. (The server may be going down, and take it along.)"""
    with suppress(psycopg.OperationalError), world.connect(database="postgres") as db:
        db.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{HOSTILE}'")


def arm(world: World) -> None:
    """It may log in; its refreshes have a limit of time, or none, and it has set nothing for itself."""
    with world.connect(database="postgres") as db:
        db.execute(f"alter role {HOSTILE} login; alter role {HOSTILE} reset all")
        if world.rests % 2:
            db.execute(f"alter role {HOSTILE} set segmenter.refresh_timeout = '2 s'")


def disarm(world: World) -> None:
    """At a pause: it does nothing, and has no segments in the shared set; its own sets stay as they are."""
    with world.connect() as db:
        db.execute(f"alter role {HOSTILE} nologin")
        end = time.monotonic() + 30
        while True:
            stop_sessions(world)
            left = rows(db, "select pid, backend_type, query from pg_stat_activity where usename = 'mallory'")
            if not left:
                break
            must(time.monotonic() < end, "processes of the hostile role that do not end", *left)
            time.sleep(0.05)
        for row in rows(db, "select gid from pg_prepared_xacts where database = current_database() and owner = 'mallory'"):
            db.execute(f"rollback prepared '{row['gid']}'")  # type: ignore[call-overload]
        for statement in ("delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where owner = 'mallory'::regrole)",
                          "delete from segmenter_segments where owner = 'mallory'::regrole", "delete from segmenter_consumers where role = 'mallory'::regrole"):
            patiently(lambda: db.execute(statement))  # type: ignore[call-overload]


def check(db: Connection) -> int:
    """It got nothing. Gives how often its SQL ran where it could write that down."""
    loot = rows(db, "select seen from mallory.loot")
    for row in loot:
        check_loot(row["seen"])
    # What was looked at need not be looked at again.
    db.execute("truncate mallory.loot")
    check_rights(db)
    return len(loot)


def check_rights(db: Connection) -> None:
    """It has the attributes and memberships that it was given, and no object outside of its schema."""
    role = one(db, "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as is_more from pg_roles where rolname = 'mallory'")
    must(not role["is_more"], "the hostile role has more rights than it was given: attributes", role)
    memberships = rows(db, "select roleid::regrole::text, member::regrole::text from pg_auth_members where 'mallory'::regrole in (roleid, member)")
    must(not memberships, "the hostile role has more rights than it was given: memberships", *memberships)
    owned = rows(db, """select c.oid::regclass::text as relation from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relowner = 'mallory'::regrole and n.nspname <> 'mallory' and n.nspname !~ '^pg_(toast|temp)'""")
    must(not owned, "the hostile role has more rights than it was given: relations", *owned)
    others = rows(db, """select r::text as relation, p.privilege from unnest(array['victor.source', 'victor.victim', 'one.latest', 'shop.received', 'pg_authid']::regclass[]) r,
        unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'trigger']) p (privilege) where has_table_privilege('mallory', r, p.privilege)""")
    must(not others, "the hostile role has more rights than it was given: privileges", *others)


class Hostile(Actor):
    """One of several sessions of the hostile role."""
    user = HOSTILE
    rest = 0.3

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, Set(), f"hostile {number}")
        self.made = 0

    def judge(self, error: psycopg.Error, chosen: Any) -> None:
        """It may fail with anything, but with no fault of the server's."""
        state = error.sqlstate or ""
        if state and state not in CUT_OFF and not state.startswith(("XX", "58", "53")):
            self.note(f"{state} {str(error).splitlines()[0][:200]}")
            self.world.count(f"{type(self).__name__}.{chosen.__name__} → {state}")
        else:
            super().judge(error, chosen)

    def refused(self, statement: str, *args: object, states: tuple[str, ...] = REFUSALS) -> None:
        """What must not succeed, and be said so."""
        try:
            self.execute(statement, *args)
        except psycopg.Error as error:
            if (error.sqlstate or "08000") in CUT_OFF | CROSSED:
                raise
            must(error.sqlstate in states, "it was refused otherwise", statement, error.sqlstate, error)
        else:
            raise Wrong(f"the hostile role was let: {statement} {args}")

    def execute(self, query: str, *args: object) -> Any:
        """Several statements at once, too, which cannot be prepared."""
        query = self.of(query)
        self.note(f"{query.strip()[:150]} {args if args else ''}"[:300])
        return self.db.execute(query, args or None, prepare=False)  # type: ignore[call-overload]

    def hold(self) -> None:
        self.sleep(self.dice.random() * (5 if self.world.is_only_hostile else 1.5))

    def set_of_its_own(self) -> str:
        return self.dice.choice(self.own_sets())

    def own_sets(self) -> list[str]:
        found = self.rows("select distinct regexp_replace(c.relname, '_segments.*', '') as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
                          "where n.nspname = 'mallory' and c.relkind = 'r' and c.relname ~ '^z\\d+_segments' order by 1")
        return [f"mallory.{row['name']}" for row in found] or ["mallory.z0"]

    # In the shared set

    def way(self, number: int) -> Row:
        table = f"mallory.t{number}"
        sql = self.dice.choice([
            "select random()::text as id where mallory.act('query')", "select random()::text as id where mallory.act('query', 'hold')",
            "select id from mallory.few", "select id from mallory.few, generate_series(1, 3)",
            "select '1' as id where '{1}'::mallory.d[] is not null", "select value::mallory.d::text as id from generate_series(1, 2) value",
            f"select t.id from mallory.t{1 + number % TABLES} t where mallory.act('cycle')", "select p.id from shop.people p where p.id < 100",
            "select g as id from generate_series(1, 5) g where mallory.act('query', 'spin')", "select id from segmenter where mallory.act('mart')",
            f"select g as id, repeat('x', {self.dice.randint(1, 10000)}) as hash_email from generate_series(1, {self.dice.randint(1, 300)}) g"])
        if self.dice.random() < 0.2:
            return {"procedure": {"sql": f"call mallory.load('{table}', 'hostile {number}')"}}
        return {"query": {"sql": sql}}

    @action(6)
    def segment_of_its_own(self) -> None:
        number = self.dice.randint(1, TABLES)
        self.execute(f"set search_path = {self.dice.choice(['mallory, public', 'public', 'mallory, pg_temp, public'])}")
        params, guards = Jsonb(self.way(number)), Jsonb({"allow_empty": True})
        changed = self.execute("update {segments} set refresh_params = %s, refresh_auto = true, refresh_cron = '1 second' where name = %s and actual_end = 'infinity'", params, f"hostile {number}")
        if not changed.rowcount:
            self.execute(f"truncate mallory.t{number}")
            self.execute(f"insert into {{segments}} (name, table_name, refresh_auto, refresh_cron, refresh_params, guards) values (%s, 'mallory.t{number}', true, '1 second', %s, %s)",
                         f"hostile {number}", params, guards)

    @action(1)
    def many_segments(self) -> None:
        """In one table, all due, with queries that nobody can parse."""
        many = self.dice.randint(1, 100 if self.world.is_only_hostile else 20)
        self.execute("truncate mallory.t6")
        self.execute("""insert into {segments} (name, table_name, refresh_auto, refresh_cron, refresh_params)
            select format('hostile of many %%s %%s', %s::text, g), 'mallory.t6', true, '1 second', '{"query": {"sql": "select from where"}}' from generate_series(1, %s::int) g""",
                     str(self.dice.getrandbits(30)), many)
        self.sleep(2)
        self.execute("update {segments} set actual_end = now() where name like 'hostile of many%%' and actual_end = 'infinity' and %s", True)

    @action(3)
    def consumer_of_its_own(self) -> None:
        name = f"hostile {self.dice.randint(1, 4)}"
        updater = self.dice.choice([{"function": {"name": "mallory.push(jsonb)", "timeout": self.dice.choice(["1 s", "10 s", "300 s"])}}, {"function": {"name": "victor.push(jsonb)"}}, "pull"])
        self.execute("insert into {consumers} (name, role, subscribers) values (%s, 'mallory', '{mallory}') on conflict do nothing", name)
        self.execute("update {consumers} set params = %s where name = %s and actual_end = 'infinity'", Jsonb({"updater": updater, "max_attempts": 1000}), name)
        for segment in self.rows("select name from {segments} where name like 'hostile _' and actual_end = 'infinity'"):
            self.execute("select segmenter_subscribe(%s, %s, %s)", name, segment["name"], self.dice.choice(["x", "y"]))

    @action(3)
    def one_off(self) -> None:
        number = self.dice.randint(1, TABLES)
        query = self.way(number).get("query", {}).get("sql", "select 1 as id")
        self.execute(f"select * from segmenter_refresh(%s, %s, dry_run => {self.dice.choice(['true', 'false'])})", f"hostile {number}", query)

    @action(3)
    def calls(self) -> None:
        self.execute(f"set segmenter.cfg_table = '{self.dice.choice(['', '', *self.own_sets()])}'")
        try:
            self.execute(self.dice.choice(["select * from segmenter_run()", "call segmenter_run_each()", "select * from segmenter_doctor()", "select * from segmenter_prune()",
                                           "select * from segmenter_due()", "select * from segmenter_sets()", "select * from segmenter_erase('v1')", "select * from {status}"]))
        finally:
            if self.connection is not None and not self.connection.closed:
                self.execute("set segmenter.cfg_table = ''")

    @action(3)
    def open_transaction(self) -> None:
        """Config that is neither there nor not there, and locks for as long; some of it prepared."""
        self.execute("begin isolation level " + self.dice.choice(["read committed", "serializable"]))
        number = self.dice.randint(1, TABLES)
        self.execute("update {segments} set refresh_cron = '2 seconds', table_name = table_name where name = %s", f"hostile {number}")
        self.execute(f"insert into {{segments}} (name, table_name) values (%s, 'mallory.t{number}')", f"hostile {self.dice.getrandbits(30)}")
        self.execute("insert into {consumers} (name, role) values (%s, 'mallory')", f"hostile {self.dice.getrandbits(30)}")
        gid = f"hostile {self.dice.getrandbits(60)}"
        if is_prepared := self.dice.random() < 0.2:
            self.execute(f"prepare transaction '{gid}'")
        self.hold()
        end = self.dice.choice(["commit", "rollback"])
        self.execute(f"{end} prepared '{gid}'" if is_prepared else end)

    @action(3)
    def lock_of_others(self) -> None:
        relation = self.of("{" + self.dice.choice(SHARED) + "}")
        mode = self.dice.choice(["access exclusive", "exclusive", "share row exclusive", "share", "share update exclusive", "row exclusive"])
        self.refused(f"begin; lock table {self.dice.choice([relation, 'segmenter_registry', 'segmenter_changes', 'segmenter_attempts', 'victor.victim'])} in {mode} mode", states=("42501",))
        self.execute("rollback")
        self.execute("begin")
        self.execute(f"lock table {relation} in access share mode")
        self.hold()

    @action(2)
    def lock_of_its_own(self) -> None:
        self.execute("begin")
        own = self.dice.choice(["mallory.t1, mallory.t2, mallory.t3, mallory.t4, mallory.t5, mallory.t6", f"{self.set_of_its_own()}_segments", f"{self.set_of_its_own()}_log", self.set_of_its_own()])
        self.execute(f"lock table {own} in access exclusive mode")
        self.hold()

    @action(2)
    def advisory_locks(self) -> None:
        """With the extension's classes for keys, and the keys of the victim's segment for whoever can tell its id."""
        self.execute("select pg_advisory_lock(c, g) from generate_series(1871, 1872) c, generate_series(1, 10) g")
        self.execute("select pg_advisory_lock(uuid_hash_extended(md5('victim')::uuid, 'segmenter_segments'::regclass::oid::bigint))")
        self.hold()
        self.execute("select pg_advisory_unlock_all()")

    # Others' things

    @action(2)
    def leases(self) -> None:
        """Messages of others are neither claimed, acknowledged, given back nor skipped."""
        lease, message = uuid.UUID(int=self.dice.getrandbits(128)), self.dice.randint(1, 500)
        self.refused("select segmenter_ack(%s, %s)", lease, message)
        self.refused("select segmenter_nack(%s, %s, 'no')", lease, message)
        for consumer in (FETCHED, CALLED, "mail"):
            self.refused("select * from segmenter_claim(%s, 5)", consumer)
        for function in ("segmenter_retry", "segmenter_skip", "segmenter_resync"):
            self.refused(f"select {function}(%s)", self.of_the_victim("subscription"))

    def of_the_victim(self, what: str) -> uuid.UUID:
        """An id that should be a secret, and is not."""
        name = {"subscription": "{subscriptions} u join {segments} s on s.id = u.segment_id and s.name = 'victim'",
                "consumer": "{consumers} u where u.name = 'fetching victim'", "segment": "{segments} u where u.name = 'victim'"}[what]
        try:
            with self.world.connect() as db:
                return value(db, self.of(f"select u.id from {name} limit 1"))  # type: ignore[no-any-return]
        except psycopg.OperationalError as error:
            raise error if error.sqlstate else psycopg.errors.ConnectionException(str(error)) from error

    @action(2)
    def subscribe_others(self) -> None:
        if segment := self.some("select id, name from {segments} where name like 'hostile _' and actual_end = 'infinity' order by 1"):
            self.refused("select segmenter_subscribe(%s, %s, 'first')", self.dice.choice([FETCHED, CALLED]), segment["name"])
            self.refused("select segmenter_subscribe(%s, %s, 'first', consumer_role => 'victor')", FETCHED, segment["name"])
            self.refused("insert into {subscriptions} (consumer_id, segment_id, target) values (%s, %s, 'first')", self.of_the_victim("consumer"), segment["id"])
            self.refused("insert into {subscriptions} (consumer_id, segment_id, target) values (%s, %s, 'first')", self.of_the_victim("consumer"), self.of_the_victim("segment"))

    @action(2)
    def config_of_others(self) -> None:
        self.refused("insert into {segments} (name, table_name, owner) values (%s, 'mallory.t1', 'victor')", f"hostile {self.dice.getrandbits(30)}")
        table = self.value("select oid from pg_class where relname = %s order by 1", self.dice.choice(["victim", "source", "people", "latest", "pg_authid"]))
        self.refused("insert into {segments} (name, table_name, actual_end) values (%s, %s, %s)", f"hostile {self.dice.getrandbits(30)}", table, self.dice.choice(["infinity", "now"]),
                     states=(*REFUSALS, "42P16", "42809"))
        self.refused("insert into {consumers} (name, role) values (%s, %s)", f"hostile {self.dice.getrandbits(30)}", self.dice.choice(["victor", "postgres", "crm"]))
        for relation in ("segments", "consumers", "subscriptions"):
            done = self.execute(f"update {{{relation}}} set actual_end = now() where id = %s", self.of_the_victim(relation[:-1]))
            must(not done.rowcount, "the hostile role has ended the victim's", relation)

    @action(1)
    def look_at_others(self) -> None:
        for query in ("select * from {segments} where owner <> 'mallory'::regrole", "select * from {log} where segment_name = 'victim'", "select * from {mart} where id like 'v%%' and hash_email <> ''",
                      "select * from {outbox} where payload #>> '{segment,name}' = 'victim'", "select * from {status} where name = 'victim'", "select * from {consumers} where role <> 'mallory'::regrole"):
            found = self.rows(query + " and %s limit 1", True)
            must(not found, "the hostile role sees what is not its own", query, *found)
        must(not self.rows("select * from segmenter_refresh('victim') where status = 'ok'"), "the hostile role has refreshed the victim's segment")

    @action(1)
    def settings(self) -> None:
        """What it may set for itself, and what it may not."""
        setting = self.dice.choice(["statement_timeout = '1 h'", "lock_timeout = '1 h'", "role = 'mallory'", "search_path = mallory, public", "work_mem = '64 kB'", "default_transaction_isolation = serializable",
                                    "datestyle = 'postgres, dmy'", "segmenter.cfg_table = 'mallory.z0'", "idle_in_transaction_session_timeout = 0", "client_min_messages = debug5",
                                    "default_transaction_read_only = on", "bytea_output = escape", "timezone = 'Mars/Olympus'", "standard_conforming_strings = off"])
        self.execute(f"alter role mallory set {setting}")
        self.refused("alter role mallory set segmenter.refresh_timeout = 0")
        self.refused("alter role mallory reset segmenter.refresh_timeout")
        self.refused(f"alter database {self.world.database} set segmenter.refresh_timeout = '1 h'")
        self.refused(f"alter database {self.world.database} connection limit 0")
        self.refused("alter system set segmenter.databases = ''")
        self.refused("alter role victor set statement_timeout = 1")
        self.refused("select pg_reload_conf()")

    @action(1)
    def end_others(self) -> None:
        for row in self.rows("select pid, backend_type from pg_stat_activity where usename is distinct from 'mallory' and backend_type ~ '^(segmenter|client)'"):
            for function in ("pg_cancel_backend", "pg_terminate_backend"):
                try:
                    # One that has ended meanwhile is no error: there is nothing to end.
                    must(not self.value(f"select {function}(%s)", row["pid"]), "the hostile role has ended another role's process", row)
                except psycopg.errors.InsufficientPrivilege:
                    pass

    # In its own sets

    @action(3)
    def forge(self) -> None:
        """Rows past all checks: of other roles and of none, of tables that are not its, thousands, what no parser takes."""
        own = self.set_of_its_own()
        many = self.dice.choice([1, 5, 50, 3000 if self.world.is_only_hostile else 200])
        self.execute(f"alter table {own}_segments disable trigger user; alter table {own}_consumers disable trigger user; alter table {own}_subscriptions disable trigger user")
        self.execute(f"delete from {own}_subscriptions; delete from {own}_segments; delete from {own}_consumers")
        tables = "(array(select oid from pg_class where relname in ('victim', 'source', 'latest', 'people', 'pg_authid', 'segmenter_segments', 'u1', 'u2')) || 4294967295::oid)"
        owners = "(array(select oid from pg_roles where rolname in ('mallory', 'postgres', 'victor', 'anna')) || 12345::oid)"
        params = [Jsonb(params) for params in (self.way(1), {"query": {"sql": "select 1 as id where mallory.act('forged query')"}}, {"procedure": {"sql": "call mallory.load('mallory.u1', null)"}},
                                               {"query": {"sql": "select from"}}, {"incremental": {"watch": ["victor.source"], "sql": "select 1"}}, {"nested": 1})]
        self.execute(f"""insert into {own}_segments (name, table_name, owner, refresh_auto, refresh_cron, refresh_params, actual_end)
            select 'hostile ' || g, (t.a)[1 + g %% cardinality(t.a)]::regclass, (o.a)[1 + (g / 3) %% cardinality(o.a)]::regrole, true, (array['1 second', null, 'never', '* * * * *'])[1 + g %% 4],
                (array[%s, %s, %s, %s, %s, %s]::jsonb[])[1 + g %% 6], case when g %% 7 = 0 then now() else 'infinity' end
            from generate_series(1, %s::int) g, (select {tables}) t (a), (select {owners}) o (a)""", *params, many)
        if self.dice.random() < 0.3:
            self.execute(f"update {own}_segments set guards = (repeat('[', 300) || repeat(']', 300))::jsonb, sources = '{{\"a\": 1e400}}' where name like '%%1' and %s", True)
        self.execute(f"""insert into {own}_consumers (name, role, params)
            select 'hostile ' || g, (o.a)[1 + g %% cardinality(o.a)]::regrole, '{{"updater": {{"function": {{"name": "mallory.push(jsonb)"}}}}}}' from generate_series(1, 8) g, (select {owners}) o (a) where %s""", True)
        self.execute(f"""insert into {own}_subscriptions (consumer_id, segment_id, target)
            select c.id, s.id, 'x' from (select id from {own}_consumers limit 8) c, (select id from {own}_segments limit 4) s on conflict do nothing""")
        self.execute(f"delete from {own}_outbox; delete from {own}_deliveries; delete from {own}_log")
        self.execute(f"""insert into {own}_outbox (consumer_id, subscription_id, segment_id, operation, payload)
            select consumer_id, id, segment_id, 'add', '{{"members": [{{"id": "1"}}], "segment": {{"name": "victim"}}}}' from {own}_subscriptions""")
        self.execute(f"insert into {own}_deliveries (subscription_id) select id from {own}_subscriptions on conflict do nothing")

    @action(3)
    def code_on_a_set(self) -> None:
        own = self.set_of_its_own()
        word = self.dice.choice(["segments", "consumers", "subscriptions", "log", "outbox", "deliveries", "handovers", "state", "attempts", "definitions"])
        how = self.dice.choice(["null", "'hold'", "'spin'", "'fail'"])
        self.execute(self.dice.choice([
            f"drop policy if exists act on {own}_{word}; create policy act on {own}_{word} as {self.dice.choice(['restrictive', 'permissive'])} using (mallory.act('policy of a set', {how})); "
            f"alter table {own}_{word} enable row level security, force row level security",
            f"create or replace trigger act before insert or update or delete on {own}_{word} for each row execute function mallory.on_row()",
            f"create or replace trigger acts after insert or update on {own}_{word} for each statement execute function mallory.on_row(); alter table {own}_{word} enable always trigger acts",
            f"create or replace rule act as on insert to {own}_{word} do also select mallory.act('rule', {how})",
            f"alter table {own}_{word} no force row level security"]))

    @action(2)
    def break_a_set(self) -> None:
        """Relations that are gone, renamed, or others."""
        own = self.set_of_its_own()
        word = self.dice.choice(["segments", "consumers", "subscriptions", "log", "outbox", "deliveries", "handovers", "state", "attempts", "definitions"])
        name = own.split(".")[1]
        self.execute(self.dice.choice([
            f"alter table {own}_{word} rename to {name}_{word}_renamed",
            f"alter table {own} rename to {name}_renamed",
            f"drop table {own}_{word} cascade; create view {own}_{word} as select null::uuid as id, mallory.act('view') as name",
            f"drop table {own}_{word} cascade; create table {own}_{word} (id uuid, name text)",
            f"drop table {own}_{word} cascade",
            f"alter table {own}_{word} add column odd text default 'odd'",
            f"alter table {own}_segments drop column if exists guards cascade",
            f"alter table {own}_log alter message type varchar"]))

    @action(2)
    def set_of_ones_own(self) -> None:
        """A whole one again, beside those that are broken, a few of which stay."""
        there = self.own_sets()
        if len(there) >= 3:
            old = self.dice.choice(there)
            self.attempt(lambda: self.execute("select segmenter_drop_set(%s, true)", old))
            for row in self.rows("""select c.oid::regclass::text as name, c.relkind::text as kind from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where n.nspname = 'mallory' and c.relkind in ('r', 'v') and (c.relname = %s or c.relname ~ %s)""", old.split(".")[1], f"^{old.split('.')[1]}_"):
                self.attempt(lambda: self.execute(f"drop {'view' if row['kind'] == 'v' else 'table'} if exists {row['name']} cascade"))
        self.made += 1
        own = f"mallory.z{self.made}{self.dice.randrange(1000)}"
        self.execute("select segmenter_init(%s)", own)
        self.execute(f"set segmenter.cfg_table = '{own}'")
        self.attempt(lambda: self.execute(f"""insert into {own}_segments (name, table_name, refresh_auto, refresh_cron, refresh_params)
            values ('hostile', 'mallory.u{self.dice.randint(1, TABLES)}', true, '1 second', '{{"query": {{"sql": "select id from mallory.few"}}}}')"""))
        self.execute("set segmenter.cfg_table = ''")

    def attempt(self, what: Callable[[], object]) -> None:
        try:
            what()
        except psycopg.Error as error:
            if not error.sqlstate or error.sqlstate in CUT_OFF or error.sqlstate.startswith("XX"):
                raise
            self.note(f"{error.sqlstate} {str(error).splitlines()[0][:200]}")
