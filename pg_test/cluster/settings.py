"""The checks of the cluster test settings, which see.

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import sys
from collections.abc import Callable

import psycopg
from checks import Connection, Row, Wrong, must, must_equal, one, rows, value, wait_for
from psycopg import sql
from psycopg.rows import dict_row
from unusual import LEFT_OUT, can_be_set, settings, values_of

SCHEMA = r"""
create extension segmenter;
create extension pg_trgm;
create role marketing login;
create role reader login;
grant marketing to reader;
create schema shop authorization marketing;
set role marketing;
create table shop.people (id int primary key, email text, body text, spent numeric, tags text[], doc jsonb, at timestamptz, day date, wait interval);
insert into shop.people values
    (1, 'e1', 'running shoes', 1234.5, '{a,null}', '{"a": 1.50, "b": null}', '2024-03-31 01:30+00', '2024-02-03', '-1 day +02:03'),
    (2, 'e\d', 'run', 0.1, '{}', '{"a": "x"}', '2024-12-31 23:30+00', '2024-03-02', '1 mon'),
    (3, null, '', -1, null, 'null', 'infinity', null, null);
create index on shop.people using gin (to_tsvector('simple', body));
create table shop.hidden (id int, tenant text);
insert into shop.hidden values (1, 'a'), (2, 'b');
create function shop.tricky() returns table (label text, shown text) language sql as $$
    select 'in function', (select count(*)::text from shop.people where email = null)
$$;
create table shop.watched (id int primary key, vip boolean);
insert into shop.watched values (1, true), (2, false);
"""

# One row each: what SQL makes of a text or a value that some setting gives another meaning.
TRICKY = r"""
select p.label as id, coalesce(p.shown, 'null') as hash_email from (values
    ('regular expression', (select string_agg(id::text, ',' order by id) from shop.people where email ~ '^e\d$')),
    ('backslash', 'a\\b' || length('\n')::text),
    ('escape', E'a\\b\'c'),
    ('equals null', (select count(*)::text from shop.people where email = null)),
    ('full text', (to_tsvector('the running shoes') @@ to_tsquery('run'))::text),
    ('full text shown', to_tsvector('the running shoes')::text),
    ('date', ('01/02/2024'::date)::text),
    ('date out', (select string_agg(day::text, ' ' order by id) from shop.people)),
    ('timestamp', (select string_agg(at::text, ' ' order by id) from shop.people)),
    ('abbreviation', (timestamptz '2024-01-01 12:00 IST')::text),
    ('to_char', to_char(timestamp '2024-03-04 05:06:07', 'TMMonth TMDay HH24:MI')),
    ('to_char of a number', to_char(1234567.891, '9G999G999D99L')),
    ('money', (12.5::numeric::money)::text),
    ('interval', (interval '-1 2:03:04')::text || (interval '1-2')::text),
    ('interval out', (select string_agg(wait::text, ' ' order by id) from shop.people)),
    ('array with null', array_to_string('{NULL,a}'::text[], ',', '*')),
    ('array out', (select tags::text from shop.people where id = 1)),
    ('float', (0.1::float8 + 0.2::float8)::text || (1::float4 / 3)::text),
    ('numeric', (select sum(spent)::text from shop.people)),
    ('bytea', (decode('00ff', 'hex'))::text || encode(convert_to('a\\b', 'UTF8'), 'hex')),
    ('similar to', ('abc' similar to 'a\wc')::text || ('a_c' similar to 'a#_c' escape '#')::text),
    ('like', ('a\b' like 'a\\b')::text || ('ab' like 'a\b')::text),
    ('json', (select doc::text from shop.people where id = 1)),
    ('json path', (select (doc @? '$.a ? (@ == 1.5)')::text from shop.people where id = 1)),
    ('xml', (xmlparse(content 'a<b/>'))::text || ('<a/>'::xml)::text),
    ('xml of bytes', (xmlelement(name a, decode('00ff', 'hex')))::text),
    ('content or document', (select (xpath('count(//a)', '<a/>'::xml))[1]::text)),
    ('order', (select string_agg(x, ' ' order by x) from unnest('{b,A,a,B,_}'::text[]) x)),
    ('quoting', quote_ident('plain') || ' ' || quote_literal(E'a\\b') || ' ' || format('%I', 'plain')),
    ('type name', format_type('text'::regtype, null) || ' ' || 'shop.people'::regclass::text),
    ('definition', (select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = 'shop.defaults'::regclass)),
    ('similarity', ('shoes' % 'shoe')::text || ('shoes' <% 'the shoe')::text),
    ('rows of all tenants', (select string_agg(id::text, ',' order by id) from shop.hidden)),
    ('tenant', (select string_agg(id::text, ',' order by id) from shop.hidden where tenant = current_setting('app.tenant', true))),
    ('settings', concat_ws('/', current_setting('timezone'), current_setting('datestyle'), current_setting('search_path'), current_setting('row_security'))),
    ('null last', (select string_agg(coalesce(email, '-'), ' ' order by email desc) from shop.people)),
    ('random page', (select count(*)::text from shop.people where to_tsvector('simple', body) @@ 'run')),
    ('hash of a row', md5((select string_agg(p::text, ' ' order by id) from shop.people p)))
) p (label, shown)
union all select label, shown from shop.tricky()
"""

WATCHING = """{"incremental": {"watch": ["shop.watched"], "full_cron": "@yearly",
    "sql": "select w.id from shop.watched w join changed using (id) where vip"}}"""

def connect(role: str = "postgres", options: str = "") -> Connection:
    return psycopg.connect(f"dbname=shop user={role}", autocommit=True, row_factory=dict_row, options=options)


class Shop:
    """The database, and what its segments are where nothing is set."""

    def __init__(self) -> None:
        self.db = connect()
        self.db.execute(SCHEMA)
        self.db.execute("create table shop.defaults (a text default 'a\\b'::text || current_user)")
        self.db.execute("reset role; set row_security = on; alter table shop.hidden enable row level security; create policy p on shop.hidden using (tenant = 'a')")
        self.db.execute("alter table shop.hidden force row level security")
        owner = connect("marketing")
        owner.execute("select public.segmenter_create_segment('tricky', %s, table_name => 'shop.tricky_members')", [TRICKY])
        owner.execute("select public.segmenter_create_segment('watching', 'select id from shop.watched', table_name => 'shop.watching')")
        owner.execute("select public.segmenter_watch('shop.watched')")
        owner.execute("update public.segmenter_segments set refresh_params = %s where name = 'watching'", [WATCHING])
        owner.execute("select public.segmenter_subscribe('crm', 'watching', 'mail')")
        must_equal(one(owner, "select status, detail from public.segmenter_refresh('tricky')"), {"status": "ok", "detail": None}, "first refresh")
        must_equal(value(owner, "select status from public.segmenter_refresh('watching')"), "ok", "first refresh")
        self.expected = self.members()
        self.next = 100

    def members(self) -> dict[str, str]:
        found = rows(self.db, "select id, hash_email from shop.tricky_members where actual_end = 'infinity'")
        return {row["id"]: row["hash_email"] for row in found}

    def must_be_as_ever(self, what: str) -> None:
        now = self.members()
        other = {k: (self.expected.get(k), now.get(k)) for k in self.expected | now if self.expected.get(k) != now.get(k)}
        must(not other, f"{what}: members differ (expected, found)", other)


def refresh(db: Connection, what: str, segment: str = "tricky") -> Row:
    result = one(db, "select status, detail, added, removed from public.segmenter_refresh(%s)", segment)
    must_equal(result["status"], "ok", f"{what}: refresh of {segment}", result)
    return result


def all_functions(shop: Shop, db: Connection, what: str, captures: bool) -> None:
    """Each function of ours does its work in a session."""
    result = refresh(db, what)
    must(result["added"] == result["removed"] == 0, f"{what}: members came or left", result, shop.members())
    shop.next += 1
    new = shop.next
    # Capturing works under the settings of the writer. (As a replica it is switched off: that is their purpose.)
    writer = db if captures else shop.db
    writer.execute(sql.SQL("insert into shop.watched values ({}, true)").format(new))
    result = refresh(db, what, "watching")
    must_equal(result["added"], 1, f"{what}: the member that came", result)
    must_equal({x["status"] for x in rows(db, "select status from public.segmenter_run()")} - {"ok"}, set(), f"{what}: run")
    claimed = rows(db, "select lease, message_id, payload from public.segmenter_claim('crm', 10)")
    ids = [m["id"] for x in claimed for m in x["payload"].get("members", [])]
    must(str(new) in ids, f"{what}: the message of {new}", claimed)
    for message in claimed:
        db.execute("select public.segmenter_ack(%s, %s)", [message["lease"], message["message_id"]])
    must_equal(rows(db, "select from public.segmenter_claim('crm', 10)"), [], f"{what}: all is acknowledged")
    erased = rows(db, "select to_jsonb(x) from public.segmenter_erase(%s) x", str(new))
    must(erased, f"{what}: erase", erased)
    writer.execute(sql.SQL("delete from shop.watched where id = {}").format(new))
    must(rows(db, "select to_jsonb(x) from public.segmenter_doctor() x"), f"{what}: doctor")
    # (That setting forbids the caller to read views.)
    if not what.startswith("restrict_nonsystem_relation_kind"):
        must(len(rows(db, "select to_jsonb(x) from public.segmenter_status x")) >= 2, f"{what}: status")
    must(rows(db, "select to_jsonb(x) from public.segmenter_due() x"), f"{what}: due")
    db.execute("select public.segmenter_create_segment('made', 'select ''a\\b'' as id', table_name => 'shop.made')")
    must_equal(refresh(db, what, "made")["added"], 1, f"{what}: a segment that was created")
    db.execute("select public.segmenter_watch('shop.people')")
    db.execute("select public.segmenter_unwatch('shop.people')")
    db.execute("select public.segmenter_drop_segment('made', true)")
    must_equal(value(db, "select public.segmenter_cron_next('0 9 * * *', '2024-05-15 12:00+00') = '2024-05-16 09:00+00'"), True, f"{what}: cron_next")
    db.execute("call public.segmenter_run_each()")


def every_setting(shop: Shop) -> None:
    known = settings(shop.db)
    must(len(known) > 150, "settings", len(known))
    tried = skipped = 0
    for setting in known:
        name = setting["name"]
        if name in LEFT_OUT:
            continue
        for new in values_of(setting):
            with connect() as db:
                if not can_be_set(db, name, new):
                    skipped += 1
                    continue
                what = f"{name} = {new!r}"
                try:
                    all_functions(shop, db, what, captures=name != "session_replication_role")
                except psycopg.Error as error:
                    raise Wrong(f"{what}: {error}") from error
                shop.must_be_as_ever(what)
                must_equal(value(db, "select current_setting(%s)", name), value(db, "select current_setting(%s)", name), what)
                tried += 1
    must(tried > 250 and skipped < 30, "values", tried, skipped)
    print(f"  {len(known)} settings, {tried} values; {skipped} values that this server refuses")


def hostile(shop: Shop) -> str:
    """Options that give each deciding setting another value."""
    chosen = []
    for setting in settings(shop.db):
        name = setting["name"]
        if setting["context"] == "user" and name not in LEFT_OUT and not name.startswith(("log_", "debug_", "trace_", "client_")):
            new = next(iter(values_of(setting)), None)
            with connect() as db:
                if new is not None and new and can_be_set(db, name, new):
                    chosen.append((name, new))
    return " ".join(f"-c {name}={new}".replace(" ", r"\ ").replace(r"-c\ ", "-c ") for name, new in chosen)


def many_at_once(shop: Shop) -> None:
    """A connection's options, SET LOCAL, custom settings, a function's own settings."""
    options = hostile(shop) + " -c app.tenant=b"
    for role in ("postgres", "marketing", "reader"):
        with connect(role, options) as db:
            must_equal(value(db, "select current_setting('app.tenant')"), "b", "the connection's options")
            refresh(db, f"options of {role}'s connection")
            shop.must_be_as_ever(f"options of {role}'s connection")
    with connect("reader") as db, db.transaction():
        db.execute(r"set local standard_conforming_strings = off; set local transform_null_equals = on; set local app.tenant = 'b'; set local default_text_search_config = 'english'")
        refresh(db, "set local")
        must_equal(value(db, "select current_setting('app.tenant')"), "b", "SET LOCAL after the refresh")
        shop.must_be_as_ever("set local")
    with connect("postgres") as db:
        db.execute("create or replace function public.under() returns text language sql set datestyle = 'German, DMY' set transform_null_equals = on set app.tenant = 'b' as $$ select status from public.segmenter_refresh('tricky') $$")
        must_equal(value(db, "select public.under()"), "ok", "a function with settings")
        shop.must_be_as_ever("a function with settings")


def by_a_worker(shop: Shop) -> dict[str, str]:
    """The members that a background worker gives."""
    done = value(shop.db, "select coalesce(max(id), 0) from public.segmenter_log where segment_name = 'tricky' and status <> 'running'")
    shop.db.execute("update public.segmenter_segments set refresh_auto = true, refresh_cron = '1 second' where name = 'tricky'")
    shop.db.execute("select 1")
    last = "select status, message from public.segmenter_log where segment_name = 'tricky' and id > %s and status <> 'running' order by id limit 1"
    wait_for("a worker's refresh", lambda: rows(shop.db, last, done))
    must_equal(one(shop.db, last, done)["status"], "ok", "a worker's refresh", one(shop.db, last, done))
    shop.db.execute("update public.segmenter_segments set refresh_auto = false, refresh_cron = null where name = 'tricky'")
    wait_for("the end of the worker", lambda: not rows(shop.db, "select from pg_stat_activity where backend_type like 'segmenter%%' and usename = 'marketing'"))
    return shop.members()


def owners_settings(shop: Shop) -> None:
    """What is set for the owner or the database decides, for every caller alike."""
    alters = [
        "alter role marketing set default_text_search_config = 'simple'",
        "alter role marketing in database shop set app.tenant = 'b'",
        "alter database shop set transform_null_equals = on",
        "alter database shop set standard_conforming_strings = off",
        "alter role marketing in database shop set pg_trgm.similarity_threshold = 0.9",
        "alter system set lc_time = 'POSIX'",
    ]
    for alter in alters:
        shop.db.execute(alter)
    shop.db.execute("alter table shop.hidden no force row level security")
    before, shop.expected = shop.expected, by_a_worker(shop)
    for label in ("regular expression", "equals null", "full text", "tenant", "similarity", "rows of all tenants"):
        must(before[label] != shop.expected[label], f"{label} follows what is set for its owner", before[label])
    options = hostile(shop)
    for role in ("postgres", "marketing", "reader"):
        for given in ("", options):
            with connect(role, given) as db:
                result = refresh(db, f"{role} after ALTER ROLE and ALTER DATABASE")
                must(result["added"] == result["removed"] == 0, f"{role} gives other members than a worker", result)
                shop.must_be_as_ever(f"{role} after ALTER ROLE and ALTER DATABASE")
    # A caller whose own role has other settings.
    shop.db.execute("alter role reader set transform_null_equals = off; alter role reader set default_text_search_config = 'english'; alter role reader in database shop set app.tenant = 'c'")
    with connect("reader") as db:
        refresh(db, "a caller with settings of its role")
        shop.must_be_as_ever("a caller with settings of its role")
    for alter in ("alter role marketing reset all", "alter role marketing in database shop reset all", "alter database shop reset all"):
        shop.db.execute(alter)
    shop.db.execute("alter system reset lc_time")
    shop.db.execute("alter table shop.hidden force row level security")
    with connect("reader") as db:
        refresh(db, "a caller with settings that the owner has no longer")
    shop.expected = before
    shop.must_be_as_ever("a caller with settings that the owner has no longer")
    must_equal(by_a_worker(shop), before, "a worker afterwards")


def zone_of_the_database(shop: Shop) -> None:
    """The zone of members' times is the database's alone."""
    shop.db.execute("alter role marketing set segmenter.timezone = 'Asia/Tokyo'")
    with connect("marketing") as db:
        refresh(db, "segmenter.timezone of a role")
        shop.must_be_as_ever("segmenter.timezone of a role")
    shop.db.execute("set segmenter.timezone = 'Asia/Tokyo'")
    refresh(shop.db, "segmenter.timezone of a session")
    shop.must_be_as_ever("segmenter.timezone of a session")
    shop.db.execute("alter role marketing reset all; reset segmenter.timezone; alter database shop set segmenter.timezone = 'Asia/Tokyo'")
    refresh(shop.db, "segmenter.timezone of the database")
    must(shop.members()["settings"].startswith("Asia/Tokyo"), "segmenter.timezone of the database applies at once", shop.members()["settings"])
    shop.db.execute("alter database shop reset segmenter.timezone")
    refresh(shop.db, "segmenter.timezone reset")
    shop.must_be_as_ever("segmenter.timezone reset")


def main() -> int:
    shop = Shop()
    checks: dict[str, Callable[[Shop], None]] = {
        "every setting, each unusual value": every_setting,
        "many settings at once": many_at_once,
        "the settings of the owner and the database": owners_settings,
        "the zone is the database's": zone_of_the_database,
    }
    failed = 0
    for name, check in checks.items():
        try:
            check(shop)
            print(f"ok {name}", flush=True)
        except (Wrong, psycopg.Error) as error:
            print(f"not ok {name}: {error}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
