-- A segment's SQL runs with its owner's rights and nobody else's: whoever refreshes it, no function
-- that it calls gets any of the caller's rights. Here a superuser refreshes segments of a role that
-- tries every way out.
\i setup/security.sql

\c - sgm_low
-- Tries a command, and says how that went.
create function sgm.try(command text) returns text language plpgsql as $$
begin
    execute replace(command, '(schema)', (select extnamespace::regnamespace::text from pg_extension where extname = 'segmenter'));
    raise notice 'WENT THROUGH as %: %', current_user, command;
    return 'went through';
exception when others then
    -- What is not permitted PostgreSQL's versions say in many ways.
    raise notice '%: %', command, regexp_replace(sqlerrm, '^(must (be|have)|permission denied) .*', 'permission denied');
    return sqlerrm;
end
$$;
-- What it tries. Nothing of this may go through, in a query or in a procedure.
create function sgm.ways_out() returns setof text language sql immutable as $$
    values
        -- becoming somebody else
        ('reset role'), ('set role none'), ('set role sgm_admin'), ('set local role sgm_admin'),
        ('set session authorization sgm_admin'), ('set session authorization default'),
        ('reset session authorization'),
        ($q$select set_config('role', 'sgm_admin', false)$q$),
        ($q$select set_config('role', 'none', true)$q$),
        ($q$select set_config('session_authorization', 'sgm_admin', false)$q$),
        ('do $d$ begin reset role; alter role sgm_low superuser; end $d$'),
        ('select sgm.definer()'), ('select sgm.with_role()'), ('call sgm.commits()'),
        -- being given more
        ('alter role sgm_low superuser'), ('alter role sgm_low createrole'),
        ('alter role sgm_admin rename to sgm_gone'),
        ('create role sgm_new superuser'),
        ('grant sgm_admin to sgm_low'), ('grant sgm_low to sgm_admin'),
        ('grant pg_execute_server_program to sgm_low'),
        ('update pg_catalog.pg_authid set rolsuper = true'),
        ('alter schema public owner to sgm_low'),
        ('alter table segmenter_segments owner to sgm_low'),
        ('alter extension segmenter set schema sgm'),
        ('create or replace function (schema).segmenter_run_each() returns void language sql as ''select'''),
        -- reaching outside
        ($q$copy (select 1) to program 'true'$q$), ($q$select pg_read_file('PG_VERSION')$q$),
        ($q$select lo_import('/etc/hostname')$q$), ('alter system set work_mem to 64'),
        ('load ''plpgsql'''),
        -- the session's settings
        ('set session_replication_role = replica'),
        ($q$update pg_settings set setting = 'replica' where name = 'session_replication_role'$q$), ('set segmenter.timezone = ''Asia/Tokyo'''),
        ('set log_statement = none'), ('set row_security = off; select from segmenter_log'),
        -- leaving something behind in the session
        ('create temporary table sgm_temp (a int)'), ('create table pg_temp.sgm_temp (a int)'),
        ('create temporary view sgm_temp as select 1'), ('create temporary sequence sgm_temp'),
        ('declare sgm_cursor cursor with hold for select 1'), ('close all'),
        ('listen sgm_channel'), ('unlisten *'),
        ('prepare sgm_statement as select 1'), ('deallocate all'),
        ('discard all'), ('discard temp'),
        -- ending what it is part of
        ('commit'), ('rollback'), ('select pg_terminate_backend(pg_backend_pid())'),
        ('select pg_cancel_backend(pg_backend_pid())')
$$;
create function sgm.definer() returns void language plpgsql security definer as
    $$ begin reset role; execute 'alter role sgm_low superuser'; end $$;
create function sgm.with_role() returns void language sql set role = 'sgm_low' as 'reset role';
create procedure sgm.commits() language plpgsql as 'begin commit; end';
create function sgm.attack() returns text language plpgsql as $$
declare
    way text;
begin
    raise notice 'attack as %, for %', current_user, session_user;
    for way in select sgm.ways_out() loop
        perform sgm.try(way);
    end loop;
    return 'attacked';
end
$$;
create procedure sgm.attack_and_load(segment text, member text) language plpgsql as $$
begin
    perform sgm.attack();
    execute format('insert into sgm.%I (segment_id, id) select id, %L from segmenter_segments where name = %1$L on conflict do nothing', segment, member);
end
$$;

create table sgm.sgm_query (like segmenter including defaults, unique (id));
create table sgm.sgm_call (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('sgm_query', 'sgm.sgm_query', true, '{"query": {"sql": "select sgm.attack() as id"}}'),
    ('sgm_call', 'sgm.sgm_call', true, '{"procedure": {"sql": "call sgm.attack_and_load(''sgm_call'', ''1'')"}}');

\c - sgm_admin
-- What an attack may have gained.
create view sgm_gained as
select current_user, session_user, current_setting('role') as role,
    (select rolsuper from pg_roles where rolname = 'sgm_low') as low_is_super,
    (select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = 'sgm_low') as low_is_in,
    (select count(*) from pg_roles where rolname in ('sgm_new', 'sgm_gone')) as new_roles,
    (select count(*) from pg_class where relname like 'sgm\_temp%') as temp,
    (select count(*) from pg_cursors where name like 'sgm%') as cursors,
    (select count(*) from pg_prepared_statements where name like 'sgm%') as prepared,
    (select count(*) from pg_listening_channels()) as channels;
create view sgm_logged as
select segment_name, status, num_received, num_invalid, added, removed, changed, coverage, message,
    error ->> 'sqlstate' as sqlstate, params ->> 'role' as role
from segmenter_log
where segment_name like 'sgm%'
order by id;

-- in a query: nothing at all may be changed
select segment, status, added, coverage, detail from segmenter_refresh('sgm_query');
select * from sgm_gained;
-- in a procedure: only what its owner may change
select segment, status, added, coverage, detail from segmenter_refresh('sgm_call');
select * from sgm_gained;

-- the same through a run, silently, within a transaction and through a cursor
set client_min_messages = warning;
begin;
select segment, status, added, coverage from segmenter_run() where segment like 'sgm%' order by 1;
select * from sgm_gained;
commit;
call segmenter_run_each();
select * from sgm_gained;
-- … and on behalf of somebody who has rights of his own, but is no superuser
\c - :super
create role sgm_member login in role sgm_low;
grant sgm_admin to sgm_member;
\c - sgm_member
set client_min_messages = warning;
select segment, status, added, coverage from segmenter_run() order by 1;
\c - sgm_admin
select * from sgm_gained;
select * from sgm_logged;

-- What runs when rows are written runs as the segment's owner too.
\c - sgm_low
set client_min_messages = warning;
create table sgm.seen (trigger text, at text, as_role text, for_role text, reset_role text, primary key (trigger, at, for_role));
create function sgm.row() returns trigger language plpgsql as $$
begin
    perform sgm.attack();
    insert into sgm.seen values (tg_name, tg_op, current_user, session_user, sgm.try('reset role')) on conflict do nothing;
    return new;
end
$$;
create function sgm.value() returns text language plpgsql as $$ begin perform sgm.attack(); return 'value'; end $$;
create function sgm.checked(text) returns boolean language plpgsql immutable as $$ begin perform sgm.attack(); return true; end $$;
create function sgm.same(text) returns text language plpgsql immutable as $$ begin perform sgm.attack(); return $1; end $$;
create domain sgm.word as text check (sgm.checked(value));
create table sgm.sgm_write (
    like segmenter including defaults,
    by_default text default sgm.value(),
    generated text generated always as (sgm.same(id)) stored,
    word sgm.word,
    check (sgm.checked(hash_email)),
    unique (id)
);
create index on sgm.sgm_write (sgm.same(hash_phone));
create index on sgm.sgm_write (hash_phone) where sgm.checked(hash_phone);
create trigger before_row before insert or update on sgm.sgm_write for each row execute function sgm.row();
create trigger after_row after insert or update on sgm.sgm_write for each row execute function sgm.row();
create trigger statement after insert or update on sgm.sgm_write for each statement execute function sgm.row();
create table sgm.written (id text);
create trigger on_rule before insert on sgm.written for each row execute function sgm.row();
create rule also as on insert to sgm.sgm_write do also insert into sgm.written values (sgm.value());
create table sgm.source (id text, hash_email text, word text);
insert into sgm.source values ('1', 'a', 'w');
alter table sgm.source enable row level security, force row level security;
create policy all_rows on sgm.source using (sgm.checked(id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('sgm_write', 'sgm.sgm_write', '{"query": {"sql": "select id, hash_email, word from sgm.source"}}');
\c - sgm_admin
\set VERBOSITY terse
set client_min_messages = warning;
select segment, status, added, changed, coverage from segmenter_refresh('sgm_write');
update sgm.source set hash_email = 'b';
select segment, status, added, changed, coverage from segmenter_refresh('sgm_write');
select id, hash_email, by_default, generated, word from sgm.sgm_write;
\set VERBOSITY default
select * from sgm_gained;
select * from sgm.seen order by 1, 2;

-- … and what is asked before a refresh
\c - sgm_low
update segmenter_segments set sources = '[{"name": "attack", "ready": "select sgm.attack() is not null"},
    {"table": "sgm.source", "filter": "sgm.attack() is not null", "min_rows": 1},
    {"name": "seen", "ready": "select sgm.try(''reset role'') = ''went through''"}]' where name = 'sgm_write';
\c - sgm_admin
set client_min_messages = error;
select segment, status, detail from segmenter_refresh('sgm_write');
select * from sgm_gained;

-- Triggers that wait for the end of the transaction would run as whoever is there then.
\c - sgm_low
create function sgm.later() returns trigger language plpgsql as $$
begin
    raise notice 'later as %', current_user;
    update pg_catalog.pg_authid set rolsuper = true where rolname = 'sgm_low';
    return null;
end
$$;
create table sgm.sgm_later (like segmenter including defaults, unique (id));
create constraint trigger later after insert on sgm.sgm_later deferrable initially deferred
    for each row execute function sgm.later();
create table sgm.elsewhere (a int);
create constraint trigger later after insert on sgm.elsewhere deferrable initially deferred
    for each row execute function sgm.later();
create table sgm.sgm_call2 (like segmenter including defaults, unique (id));
create procedure sgm.write_elsewhere() language plpgsql as $$
begin
    perform sgm.try('insert into sgm.elsewhere values (1)');
    set constraints all deferred;
    insert into sgm.elsewhere values (2);
end
$$;
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_later', 'sgm.sgm_later', '{"query": {"sql": "select 1 as id"}}'),
    ('sgm_call2', 'sgm.sgm_call2', '{"procedure": {"sql": "call sgm.write_elsewhere()"}}');
\c - sgm_admin
begin;
select segment, status, detail from segmenter_refresh('sgm_later');
select segment, status, detail from segmenter_refresh('sgm_call2');
commit;
select * from sgm_gained;
select count(*) from sgm.elsewhere;
-- with its owner at hand they run, as the owner
\c - sgm_low
select segment, status, detail from segmenter_refresh('sgm_later');
\c - sgm_admin
select * from sgm_gained;
select * from sgm_logged offset 8;

\i setup/security_end.sql
