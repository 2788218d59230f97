-- A type in the temporary schema would be found by name in the session that refreshes, if somebody's query
-- could leave one there.
\set super :USER
create role typ_low login;
create schema typ authorization typ_low;
\c - typ_low
create function typ.try(command text) returns void language plpgsql as $$
begin
    execute command;
    raise notice 'WENT THROUGH as %: %', current_user, command;
exception when others then
    raise notice '%: %', command, sqlerrm;
end
$$;
create table typ.segment (like segmenter including defaults, unique (id));
create procedure typ.load() language plpgsql as $$
begin
    perform typ.try('create domain pg_temp.text as pg_catalog.text check (false)');
    perform typ.try('create type pg_temp.uuid as enum ()');
    insert into typ.segment (segment_id, id) select id, '1' from segmenter_segments where name = 'typ';
end
$$;
insert into segmenter_segments (name, table_name, refresh_params) values ('typ', 'typ.segment', '{"procedure": {"sql": "call typ.load()"}}');

\c - :super
select segment, status, added, coverage from segmenter_refresh('typ');
select count(*) from pg_type where typnamespace = pg_my_temp_schema();

delete from segmenter_segments where name = 'typ';
set client_min_messages = warning;
drop schema typ cascade;
drop role typ_low;
