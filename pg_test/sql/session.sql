-- A refresh leaves nothing in the caller's session, however it ends: no role, no setting, no
-- cursor; and the caller's settings change nothing in it.
\i setup/schema.sql
create schema session;
create table session.people (id int primary key, email text);
insert into session.people values (1, 'a'), (2, 'b'), (3, 'c');
create role session_other;
select segmenter_create_segment('session', 'select id, email as hash_email from session.people', table_name => 'session.segment') is not null as created;

-- What is noted before and compared after; null: nothing changed.
create table session.before (name text primary key, value text);
create view session.now as
select 'setting ' || name as name, setting as value from pg_settings
union all select 'current_user', current_user
union all select 'session_user', session_user
union all select 'role', current_setting('role')
union all select 'custom', nullif(current_setting('session.custom', true), '')
union all select 'cursors', string_agg(name, ', ' order by name) from pg_cursors where name !~ 'unnamed'
union all select 'statements', count(*)::text from pg_prepared_statements
union all select 'locks', count(*)::text from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
union all select 'temp', count(*)::text from pg_class where relpersistence = 't';
create procedure session.remember() language sql as 'delete from session.before; insert into session.before table session.now';
create view session.left_behind as
select coalesce(n.name, b.name) as name, b.value as before, n.value as after
from session.now n
full join session.before b using (name)
where n.value is distinct from b.value;

-- As somebody has set up the session.
set timezone = 'Asia/Tokyo';
set datestyle = 'German';
set intervalstyle = 'iso_8601';
set extra_float_digits = -10;
set bytea_output = 'escape';
set work_mem = '5MB';
set jit = on;
set statement_timeout = '1min';
set search_path = session, :schema, public;
prepare refresh(text, boolean) as select status, added, removed, changed, coverage from segmenter_refresh('session', $1, $2);
begin;
declare open_cursor cursor for table session.people;
fetch 1 from open_cursor;
call session.remember();
execute refresh(null, false);
execute refresh(null, true);
-- (locks of a refresh stay to the end of its transaction)
select * from session.left_behind where name <> 'locks';
fetch 1 from open_cursor;
commit;
call session.remember();
execute refresh('select id from session.people where id = 1', false);
select * from session.left_behind;
\set VERBOSITY terse
execute refresh('select id / 0 as id from session.people', false);
select * from session.left_behind;
execute refresh('select id from session.people where id > 3', false);
select * from session.left_behind;
execute refresh('selec', false);
select * from session.left_behind;
select status from segmenter_refresh('nobody');
select * from session.left_behind;

-- SQL that tries to leave something behind.
create function session.sets() returns int language plpgsql as $$
begin
    set timezone = 'America/New_York';
    set session session.custom = 'planted';
    perform set_config('search_path', 'pg_catalog', false), set_config('work_mem', '64kB', false), set_config('datestyle', 'SQL', false);
    set local statement_timeout = '10s';
    return 7;
end $$;
create function session.becomes(name text) returns int language plpgsql as $$
begin
    execute format('set role %I', name);
    return 8;
end $$;
create function session.opens() returns int language plpgsql as $$
declare
    c refcursor := 'left_open';
begin
    open c for select 1;
    return 9;
end $$;
create procedure session.sets_and_fails() language plpgsql as $$
begin
    perform session.sets(), session.becomes('session_other');
    create temp table session_temp (i int);
    raise 'failed';
end $$;
create procedure session.sets_and_does() language plpgsql as $$
begin
    perform session.sets();
    update session.segment set hash_email = 'by ' || current_user;
end $$;
create procedure session.becomes_and_does() language plpgsql as $$
begin
    perform session.becomes('session_other');
end $$;
call session.remember();
execute refresh('select session.sets() as id', false);
select * from session.left_behind;
-- (Whether that fails is not the point here.)
set client_min_messages = error;
call session.remember();
select count(*) from segmenter_refresh('session', 'select session.becomes(''session_other'') as id');
select * from session.left_behind;
reset client_min_messages;
call session.remember();
begin;
execute refresh('select session.opens() as id', false);
select * from session.left_behind where name <> 'locks';
commit;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call session.sets_and_fails()"}}';
call session.remember();
execute refresh(null, false);
select * from session.left_behind;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call session.sets_and_does()"}}';
execute refresh(null, false);
select * from session.left_behind;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call session.becomes_and_does()"}}';
set client_min_messages = error;
call session.remember();
select count(*) from segmenter_refresh('session');
select * from session.left_behind;
reset client_min_messages;

-- The same as another role, and with an owner who is not the caller.
reset search_path;
alter table session.segment owner to session_other;
grant usage on schema session to session_other;
grant select on all tables in schema session to session_other;
update segmenter_segments set owner = 'session_other', refresh_params = '{"query": {"sql": "select session.sets() as id"}}';
call session.remember();
execute refresh(null, false);
select * from session.left_behind;
execute refresh('select session.becomes(''postgres'') as id', false);
select * from session.left_behind;
begin;
execute refresh('select session.opens() as id', false);
select * from session.left_behind where name <> 'locks';
commit;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call session.sets_and_fails()"}}';
execute refresh(null, false);
select * from session.left_behind;
grant insert, delete on session.before to session_other;
set role session_other;
call session.remember();
execute refresh('select id from session.people', false);
select * from session.left_behind;
reset role;

-- A statement that runs out of time is over, with its refresh; the session goes on as it was.
call session.remember();
set statement_timeout = '100ms';
execute refresh('select pg_sleep(60)::text as id', false);
set statement_timeout = '1min';
select * from session.left_behind;
\set VERBOSITY default
reset all;

-- In a transaction that fails later, all of it is gone; in a read-only one it cannot be.
select count(*) as entries from segmenter_log \gset
begin;
savepoint s;
select status, coverage from segmenter_refresh('session', 'select 5 as id');
rollback to s;
select status, coverage from segmenter_refresh('session', 'select 5 as id');
select coverage from segmenter_refresh('session', 'select 6 as id union all select 5 as id');
rollback;
select count(*) - :entries as more from segmenter_log;
\set VERBOSITY terse
begin read only;
select status, coverage, detail from segmenter_refresh('session', 'select 5 as id', dry_run => true);
select status from segmenter_refresh('session', 'select 5 as id');
rollback;
\set VERBOSITY default
begin isolation level serializable;
select status, coverage from segmenter_refresh('session', 'select 5 as id');
select status, coverage from segmenter_refresh('session', 'select 5 as id union all select 6');
commit;
select id from session.segment where actual_end = 'infinity' order by id;

delete from segmenter_segments;
delete from segmenter_log;
deallocate all;
set client_min_messages = warning;
drop schema session cascade;
drop role session_other;
