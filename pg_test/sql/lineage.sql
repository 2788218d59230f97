-- segmenter_lineage: what each segment reads, and through what.
\i setup/schema.sql
\set VERBOSITY terse
set client_min_messages = warning;
create schema lineage;
create table lineage.people (id int primary key, city text);
create table lineage."Odd name" (id int);
create function lineage.segment(name text, query text) returns void language sql as $$
    select segmenter_create_segment(name, query, null, 'lineage.' || quote_ident(name))
$$;
create view lineage.inner as select id::text from lineage.people where city <> '';
create view lineage.outer as select id from lineage.inner union all select id::text from lineage."Odd name";
create function lineage.best(lowest int) returns setof text stable language sql as $$ select id::text from lineage.people where id > best.lowest and $1 > 0 $$;
create function lineage.poly(x anyelement) returns anyelement stable language sql as $$ select x $$;
create function lineage.checked(text) returns boolean immutable language sql as $$ select $1 <> '' $$;
-- It is known as soon as the row is written.
select lineage.segment('base', 'select id from lineage.people');
select * from segmenter_lineage;
select lineage.segment('all', 'select id from lineage.outer o where lineage.checked(id) and not exists (select from lineage.base b where b.id = o.id)
    union select lineage.best(3) union select lineage.poly(id) from lineage.inner');
select * from segmenter_lineage where segment = 'all';
-- A view that was replaced: the next refresh records it.
create or replace view lineage.inner as select id::text from lineage.base;
select status from segmenter_refresh('base') union all select status from segmenter_refresh('all');
select * from segmenter_lineage where segment = 'all' and via like '%inner%';
-- Sources, incremental refreshers, the mart and one's own table.
select lineage.segment('sources', 'select 1 as id');
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call lineage.nothing()"}}',
    sources = '[{"segment": "base"}, {"table": "lineage.people", "min_rows": 0}, {"name": "x", "ready": "select true from lineage.outer"}]' where name = 'sources';
select lineage.segment('own', 'select id from lineage.people');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from lineage.own union select id from segmenter"}}' where name = 'own';
select lineage.segment('changed', 'select id from lineage.people');
select segmenter_watch('lineage.people');
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["lineage.people"], "sql": "select id from changed where lineage.checked(city) or id in (select b.id::int from lineage.base b)"}}' where name = 'changed';
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["lineage.people"], "sql": "select p.id from changed join lineage.people p using (id) where lineage.checked(p.city) or p.id in (select b.id::int from lineage.base b)"}}' where name = 'changed';
select segment, replace(reads, :'schema' || '.', 'public.') as reads, kind, via from segmenter_lineage where segment in ('sources', 'own', 'changed') order by 1, 2, 4;
-- Segments whose members are left out.
update segmenter_segments set exclude = '["own"]', priority_group = 'offers', priority = 2 where name = 'sources';
update segmenter_segments set priority_group = 'offers', priority = 1 where name = 'base';
update segmenter_segments set is_suppression = true where name = 'own';
select * from segmenter_lineage where via in ('exclude', 'is_suppression', 'priority_group');
update segmenter_segments set is_suppression = false, exclude = '[]', priority_group = null, priority = null;
-- Each role sees its segments; of others' only the tables.
create role lineage_user;
grant usage, create on schema lineage to lineage_user;
set role lineage_user;
select segmenter_create_segment('users', 'select id from lineage.base', null, 'lineage.users') is not null as created;
select * from segmenter_lineage;
reset role;
select * from segmenter_lineage where segment = 'users';
-- The set of the session, and a table of another set is a table.
select segmenter_init('lineage.seg');
set segmenter.cfg_table = 'lineage.seg';
select lineage.segment('other', 'select id from lineage.base');
select * from segmenter_lineage;
reset segmenter.cfg_table;
select count(*) from segmenter_lineage where segment = 'other';
-- In a standby's manner: reading it writes nothing.
begin read only;
select count(*) > 0 as rows from segmenter_lineage;
select pg_current_xact_id_if_assigned() is null as no_id;
rollback;

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = error;
set segmenter.cfg_table = 'lineage.seg';
delete from lineage.seg_segments;
reset segmenter.cfg_table;
select segmenter_drop_set('lineage.seg', true);
drop schema lineage cascade;
drop role lineage_user;
