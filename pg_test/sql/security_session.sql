-- What a segment's SQL leaves behind in the session, or the transaction, of whoever refreshes it:
-- nothing.
\i setup/schema.sql
\i setup/security.sql

\c - sgm_low
create function sgm.leave() returns text language plpgsql as $$
declare
    left_open refcursor := 'sgm_left_open';
begin
    set search_path = sgm;
    set local work_mem = '64kB';
    set timezone = 'Asia/Tokyo';
    set datestyle = 'German, DMY';
    set client_min_messages = error;
    set statement_timeout = 1;
    set lock_timeout = 1;
    set default_transaction_read_only = on;
    set application_name = 'sgm';
    set role_of_sgm.x = 'left';
    perform set_config('check_function_bodies', 'off', false);
    perform set_config('enable_seqscan', 'off', true);
    open left_open for select current_user;
    return 'left';
end
$$;
create procedure sgm.leave_and_load() language plpgsql as $$
begin
    insert into sgm.sgm_call (segment_id, id)
    select id, sgm.leave() from segmenter_segments where name = 'sgm_call' on conflict do nothing;
end
$$;
create function sgm.leave_and_fail() returns text language plpgsql as $$
begin
    perform sgm.leave();
    raise exception 'left, and failed';
end
$$;
create table sgm.sgm_query (like segmenter including defaults, unique (id));
create table sgm.sgm_call (like segmenter including defaults, unique (id));
create table sgm.sgm_fail (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_query', 'sgm.sgm_query', '{"query": {"sql": "select sgm.leave() as id"}}'),
    ('sgm_call', 'sgm.sgm_call', '{"procedure": {"sql": "call sgm.leave_and_load()"}}'),
    ('sgm_fail', 'sgm.sgm_fail', '{"query": {"sql": "select sgm.leave_and_fail() as id"}}');

\c - sgm_admin
set application_name = 'pg_regress';
create view public.sgm_session as
select name, setting from pg_catalog.pg_settings
where name in ('search_path', 'work_mem', 'TimeZone', 'DateStyle', 'IntervalStyle', 'client_min_messages',
    'statement_timeout', 'lock_timeout', 'default_transaction_read_only', 'transaction_read_only',
    'application_name', 'check_function_bodies', 'enable_seqscan', 'extra_float_digits', 'bytea_output')
union all
select 'current_user', current_user
union all
select 'role_of_sgm.x', coalesce(current_setting('role_of_sgm.x', true), '')
union all
select 'cursor ' || name, 'open' from pg_catalog.pg_cursors where name like 'sgm%';
create temporary table sgm_before as select * from public.sgm_session;

begin;
select segment, status, coverage, detail from segmenter_refresh('sgm_query');
(select * from public.sgm_session except table sgm_before) order by 1;
select segment, status, coverage, detail from segmenter_refresh('sgm_call');
(select * from public.sgm_session except table sgm_before) order by 1;
select segment, status, coverage, detail from segmenter_refresh('sgm_fail');
(select * from public.sgm_session except table sgm_before) order by 1;
select segment, status, coverage, detail from segmenter_refresh('sgm_call', dry_run => true);
(select * from public.sgm_session except table sgm_before) order by 1;
commit;
(select * from public.sgm_session except table sgm_before) order by 1;

-- Settings of the session do not reach a segment's SQL either: whoever refreshes, the members are the same.
\c - sgm_low
create function sgm.settings() returns text language sql as $$
    select concat_ws(' | ', replace(current_setting('search_path'), (select extnamespace::regnamespace::text from pg_extension where extname = 'segmenter'), 'schema'), current_setting('TimeZone'), current_setting('DateStyle'),
        current_setting('IntervalStyle'), current_setting('extra_float_digits'), current_setting('bytea_output'))
$$;
update segmenter_segments set refresh_params = '{"query": {"sql": "select sgm.settings() as id"}}' where name = 'sgm_query';
\c - sgm_admin
set search_path = sgm, :schema, public;
set timezone = 'Asia/Tokyo';
set datestyle = 'German, DMY';
set intervalstyle = 'iso_8601';
set extra_float_digits = -5;
set bytea_output = escape;
set default_transaction_isolation = 'serializable';
select segment, status, added, removed from segmenter_refresh('sgm_query');
select id from segmenter where actual_end = 'infinity' and id like '%UTC%';
\c - sgm_low
select segment, status, added, removed from segmenter_refresh('sgm_query');

-- A relation of the session's own that is called like one of ours, or like one of a segment's, is not it.
\c - sgm_low
create table sgm.people (id text);
insert into sgm.people values ('real');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from sgm.people"}}' where name = 'sgm_query';
\c - sgm_admin
create temporary table segmenter_changes as table :schema.segmenter_changes;
create temporary table segmenter_registry as table :schema.segmenter_registry;
create temporary table segmenter_consumers as table :schema.segmenter_consumers;
create temporary table segmenter_deliveries as table :schema.segmenter_deliveries;
create temporary table segmenter_log as table :schema.segmenter_log;
create temporary table segmenter_outbox as table :schema.segmenter_outbox;
create temporary table segmenter_segments as table :schema.segmenter_segments;
create temporary table segmenter_subscriptions as table :schema.segmenter_subscriptions;
create temporary table segmenter as table :schema.segmenter;
create temporary table pg_class (oid oid, relname text, relkind "char");
create temporary table pg_extension (extname text, extnamespace oid, extowner oid);
create temporary table pg_namespace (oid oid, nspname text);
create temporary table pg_inherits (inhrelid oid, inhparent oid);
create temporary table pg_index (indexrelid oid);
create temporary table people (id text);
create temporary table segmenter_delta (operation "char", id text);
create temporary table segmenter_before (id text);
set search_path = pg_temp, pg_catalog, :schema, public;
select segment, status, added, removed, coverage from :schema.segmenter_refresh('sgm_query');
update :schema.segmenter_segments set context = 'shadowed' where name = 'sgm_query';
select (select count(*) from segmenter_segments where context = 'shadowed') as shadow_segments,
    (select count(*) from :schema.segmenter_log) - (select count(*) from segmenter_log) as more_log;
reset search_path;

-- What PostgreSQL lets every function do, and no caller can forbid: a lock of the session stays, and
-- a cursor of the caller's can be read by its name.
\c - sgm_low
create function sgm.lock() returns text language sql as $$ select 'locked' from pg_advisory_lock(1871) $$;
update segmenter_segments set refresh_params = '{"query": {"sql": "select sgm.lock() as id"}}' where name = 'sgm_query';
\c - sgm_admin
select segment, status from segmenter_refresh('sgm_query');
select count(*) as advisory_locks from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();

-- A query changes nothing, whatever it does about that.
\c - sgm_low
set client_min_messages = error;
create table sgm.changed (a int);
create function sgm.change() returns text language plpgsql as $$
begin
    insert into sgm.changed values (1);
    return 'changed';
end
$$;
create function sgm.reset_and_change() returns text language plpgsql as $$
begin
    reset transaction_read_only;
    return sgm.change();
end
$$;
create function sgm.reset_change_and_set() returns text language plpgsql as $$
begin
    reset transaction_read_only;
    perform sgm.change();
    set transaction_read_only = on;
    return 'changed';
end
$$;
create function sgm.reset_and_create() returns text language plpgsql as $$
begin
    reset transaction_read_only;
    create table sgm.created ();
    return 'created';
end
$$;
select query, r.status
from unnest(array['sgm.change()', 'sgm.reset_and_change()', 'sgm.reset_change_and_set()', 'sgm.reset_and_create()', 'lo_create(187118711)::text']) query,
    segmenter_refresh('sgm_query', 'select ' || query || ' as id') r;
update segmenter_segments set sources = '[{"name": "changed", "ready": "select sgm.reset_and_change() is not null"}]', refresh_params = '{"query": {"sql": "select 1 as id"}}' where name = 'sgm_query';
select r.status from segmenter_refresh('sgm_query') r;
select (select count(*) from sgm.changed) as changed, to_regclass('sgm.created') as created,
    (select count(*) from pg_largeobject_metadata where oid = 187118711) as large_objects;
select id from segmenter where id like '%change%' or id like '%create%' or id = '187118711';

\i setup/security_end.sql
