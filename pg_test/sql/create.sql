-- The short way in: segmenter_create_segment() makes the table and the config row, or nothing.
\i setup/schema.sql
create schema "create";
create table "create".people (id int primary key, email text, city varchar, paid numeric, tags text[], born date, vip boolean);
insert into "create".people values (1, 'a', 'Bonn', 1.5, '{x}', '2000-01-01', true), (2, 'b', 'Ulm', 2, null, null, false);
create function "create".columns(name regclass) returns text language sql as $$
    select string_agg(format('%s %s%s', attname, format_type(atttypid, atttypmod), case when attnotnull then ' not null' else '' end), ', ' order by attnum)
    from pg_attribute
    where attrelid = name and attnum > 0 and not attisdropped
$$;
create function "create".indexes(name regclass) returns setof text language sql as $$
    select regexp_replace(pg_get_indexdef(indexrelid), 'INDEX \S+ ON', 'INDEX ON') from pg_index where indrelid = name order by 1
$$;
create view "create".config as
select s.name, s.table_name, s.owner = current_user::regrole as is_mine, s.refresh_auto, s.refresh_cron, s.refresh_params, s.guards
from segmenter_segments s;

-- In the schema that comes first, with history, by hand.
set search_path = "create", :schema, public;
select segmenter_create_segment('vip', 'select id, email as hash_email from "create".people where vip') as id \gset
select name from segmenter_segments where id = :'id';
select * from "create".config;
select "create".columns('vip');
select * from "create".indexes('vip');
select segment, status, added, coverage from segmenter_refresh('vip');
update people set email = 'z' where id = 1;
select segment, status, changed from segmenter_refresh('vip');
select id, hash_email, actual_end = 'infinity' as actual from vip order by actual_begin;
reset search_path;

-- All arguments: a schedule makes it automatic, the columns become the table's.
select segmenter_create_segment(
    'all of it', 'select born, city, id, email as hash_email, paid, tags, vip, ''x'' as label, now() as seen from "create".people;  -- everybody',
    '30 6 * * mon-fri', '"create"."All of it"', false
) is not null as created;
select * from "create".config where name = 'all of it';
select "create".columns('"create"."All of it"');
select * from "create".indexes('"create"."All of it"');
select segment, status, added from segmenter_refresh('all of it');
select id, hash_email, city, paid, tags, born is not null as has_born, vip, label from "create"."All of it" order by id;

-- A table name alone goes to the first schema; it is folded and quoted like any name in SQL.
set search_path = "create";
select :schema.segmenter_create_segment('folded', 'select 1 as id', table_name => 'Folded') is not null as created;
select :schema.segmenter_create_segment('Mixed Case', 'select 1 as id') is not null as created;
reset search_path;
select name, table_name from "create".config order by 1;

-- What is wrong makes nothing at all, not even the table.
create procedure "create".try(variadic args text[]) language plpgsql as $$
declare
    hint text;
begin
    perform segmenter_create_segment(args[1], args[2], args[3], coalesce(args[4], '"create".wrong'));
    raise 'it was accepted';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    raise info '[%] %', sqlstate, concat_ws(E'\nHINT:  ', sqlerrm, nullif(hint, ''));
end $$;
call "create".try('s', '');
call "create".try('s', 'select 1 as id; select 2 as id');
call "create".try('s', 'delete from "create".people');
call "create".try('s', 'select email as hash_email from "create".people');
call "create".try('s', 'selec id');
call "create".try('s', 'select id from people');
call "create".try('s', 'select id, nothing from "create".people');
call "create".try('s', 'select id, id as actual_end from "create".people');
call "create".try('s', 'select id, city, city from "create".people');
call "create".try('s', 'select id, row(1, 2) as pair from "create".people');
call "create".try('s', 'select id into "create".copy from "create".people');
call "create".try('s', 'select id from "create".people for update');
call "create".try('s', 'with d as (delete from "create".people returning id) select id from d');
call "create".try('s', 'select 1 as id', '61 * * * *');
call "create".try('s', 'select 1 as id', null, 'nowhere.wrong');
call "create".try('s', 'select 1 as id', null, 'a.b.c');
call "create".try('s', 'select 1 as id', null, '"create".vip');
call "create".try('s', 'select 1 as id', null, 'pg_catalog.wrong');
call "create".try('vip', 'select 1 as id');
call "create".try('', 'select 1 as id');
select segmenter_create_segment(null, 'select 1 as id');
select segmenter_create_segment('s', null);
select segmenter_create_segment('s', 'select 1 as id', history => null);
select segmenter_create_segment(repeat('n', 64), 'select 1 as id');
set search_path = nowhere;
select :schema.segmenter_create_segment('s', 'select 1 as id');
reset search_path;
select to_regclass('"create".wrong') as wrong, to_regclass('s') as s, to_regclass('"create".copy') as copy, count(*) as config_rows from segmenter_segments;
select count(*) from "create".people;

-- It is made with the caller's own rights.
create role create_user;
grant usage on schema "create" to create_user;
set role create_user;
call "create".try('s', 'select id from "create".people');
call "create".try('s', 'select 1 as id');
reset role;
grant create on schema "create" to create_user;
grant select on "create".people to create_user;
set role create_user;
select segmenter_create_segment('s', 'select id, city from "create".people', table_name => '"create".theirs') is not null as created;
select segment, status, added from segmenter_refresh('s');
select name, owner, table_name from segmenter_segments;
reset role;
select relname, relowner::regrole from pg_class where oid = '"create".theirs'::regclass;

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = warning;
drop schema "create" cascade;
drop role create_user;
