-- Types in the temporary schema are found before others of their names. Not every release keeps somebody's
-- procedure from leaving some there in the session that refreshes: they change nothing of what we do.
\set super :USER
create role typ_low login;
create schema typ authorization typ_low;
\c - typ_low
create table typ.segment (like segmenter including defaults, unique (id));
create procedure typ.leave(command text) language plpgsql as $$
begin
    execute command;
exception when insufficient_privilege or duplicate_object then
    null;
end
$$;
create procedure typ.load() language plpgsql as $$
begin
    call typ.leave('create domain pg_temp.text as pg_catalog.text check (false)');
    call typ.leave('create domain pg_temp.varchar as pg_catalog.varchar check (false)');
    call typ.leave('create domain pg_temp.int8 as pg_catalog.int8 check (false)');
    call typ.leave('create type pg_temp.uuid as enum ()');
    call typ.leave('create type pg_temp.jsonb as enum ()');
    insert into typ.segment (segment_id, id)
    select id, n::pg_catalog.text from segmenter_segments, generate_series(1, 3) n where name = 'typ'
    on conflict do nothing;
end
$$;
insert into segmenter_segments (name, table_name, refresh_params) values ('typ', 'typ.segment', '{"procedure": {"sql": "call typ.load()"}}');

\c - :super
create table typ.other (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('typ other', 'typ.other', '{"query": {"sql": "select 1 as id, ''1''::text as hash_email"}}');
select segmenter_subscribe('typ', 'typ other', 'typ') is not null as subscribed;
select segment, status, added, coverage, detail from segmenter_refresh('typ');
select segment, status, added, coverage, messages, detail from segmenter_refresh('typ other');
select segment, status, added, coverage, detail from segmenter_refresh('typ');
select operation, members from segmenter_claim('typ', 10);
select count(*) from segmenter_erase('1');
select segment, status, added, coverage, detail from segmenter_refresh('typ other');

\c
set client_min_messages = error;
delete from segmenter_subscriptions where target = 'typ';
delete from segmenter_segments where name like 'typ%';
delete from segmenter_consumers where name = 'typ';
drop schema typ cascade;
drop owned by typ_low cascade;
drop role typ_low;
