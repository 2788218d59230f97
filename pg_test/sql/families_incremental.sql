-- Incremental families: what has changed is read once, for all segments.
\i setup/columns.sql
\set VERBOSITY default
set client_min_messages = warning;
create schema towns;
create table towns.people (id int primary key, email text, city text, at timestamptz not null default now());
insert into towns.people select g, 'h' || g, (array['Oslo', 'Rome', 'Kyiv'])[g % 3 + 1] from generate_series(1, 3000) g;
create function towns.refresh(name text, "full" boolean default false) returns setof text language sql as $$
    select concat_ws(' ', rpad(segment, 11), status, '+' || added, '-' || removed, '~' || changed, coverage) from segmenter_refresh(name, "full" => "full")
$$;
-- The pass of each segment in the last refresh: whether it compared all ids, and how many.
create view towns.passes as
    select distinct on (segment_name) segment_name, params #>> '{incremental,pass}' as pass, (params #>> '{incremental,ids}')::int as ids, params #>> '{incremental,reason}' as reason
    from segmenter_log where action = 'refresh' and status = 'ok' and (segment_name = 'towns' or segment_name like 'in %') order by segment_name, id desc;
select action from segmenter_put_segment('towns', refresh_cron => '@daily', table_name => 'towns.members', refresh_params => jsonb_build_object('incremental', jsonb_build_object(
    'family', true, 'watch', array['towns.people'], 'sql', 'select p.id, p.email as note, ''in '' || p.city as segment from towns.people p join changed using (id)')));
select name, p.action from unnest(array['in Oslo', 'in Rome', 'in Kyiv']) u (name), segmenter_put_segment(name, refresh_params => '{"family": "towns"}') p;
create view towns.wrong as
    with kept as (
        select s.name as segment, m.id, m.note from towns.members m join segmenter_segments s on s.id = m.segment_id
        where m.actual_end = 'infinity'
    ), wanted as (
        select s.name, p.id::text, p.email from segmenter_segments s join towns.people p on s.name = 'in ' || p.city
        where s.refresh_params ? 'family' and s.actual_end = 'infinity'
    )
    (table kept except table wanted) union all (table wanted except table kept);
select segmenter_watch('towns.people');
select * from towns.refresh('towns');
table towns.passes;
select * from towns.refresh('towns');
table towns.passes;
-- People move, change, come and go.
update towns.people set city = 'Rome' where id <= 3;
update towns.people set email = 'new' where id = 10;
delete from towns.people where id = 11;
insert into towns.people values (4000, 'h4000', 'Oslo'), (4001, 'h4001', 'Nowhere');
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
-- One alone, before and after the others.
update towns.people set city = 'Kyiv' where id in (20, 21, 22);
select * from towns.refresh('in Kyiv');
select count(*) as wrong from towns.wrong;
update towns.people set city = 'Kyiv' where id in (30, 31, 32);
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
update towns.people set city = 'Oslo' where id in (20, 31);
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
-- One that was refused is as far behind as it was, and the others go on.
update segmenter_segments set guards = '{"max_removed": 1}' where name = 'in Oslo';
update towns.people set city = 'Rome' where city = 'Oslo' and id < 40;
select * from towns.refresh('towns');
update towns.people set email = 'newer' where id = 50;
select * from towns.refresh('towns');
update segmenter_segments set guards = '{}' where name = 'in Oslo';
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
select * from towns.refresh('towns');
table towns.passes;
-- A new segment compares all ids, the others what has changed.
select action from segmenter_put_segment('in Nowhere', refresh_params => '{"family": "towns"}');
update towns.people set email = 'newest' where id = 60;
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
select * from towns.refresh('towns', true);
table towns.passes;
-- Rows that were changed by hand are put right, and lists are followed.
delete from towns.members m using segmenter_segments s where s.id = m.segment_id and s.name = 'in Rome' and m.id in ('1', '2');
select * from towns.refresh('towns');
select count(*) as wrong from towns.wrong;
truncate towns.members;
select * from towns.refresh('towns');
select count(*) as wrong from towns.wrong;
create table towns.listed (id int);
select segmenter_create_segment('kept out', 'select id from towns.listed', table_name => 'towns.kept_out') is not null as made;
update segmenter_segments set is_suppression = true, guards = '{"allow_empty": true}' where name = 'kept out';
insert into towns.listed values (100), (101);
select * from towns.refresh('kept out');
select count(*) from towns.wrong;
update towns.people set email = 'other' where id in (100, 103);
select * from towns.refresh('towns');
select count(*) from towns.wrong;
truncate towns.listed;
select * from towns.refresh('kept out');
select * from towns.refresh('towns');
select count(*) as wrong from towns.wrong;
-- The query for members changes, and so do all ids.
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,sql}', to_jsonb(replace(refresh_params #>> '{incremental,sql}', 'p.email', 'upper(p.email)'))) where name = 'towns';
select * from towns.refresh('towns');
select count(*) from towns.wrong;
-- With a query for what has changed.
update segmenter_segments set refresh_params = jsonb_build_object('incremental', jsonb_build_object(
    'family', true, 'changed', 'select id from towns.people where at > $1', 'sql', 'select p.id, p.email as note, ''in '' || p.city as segment from towns.people p join changed using (id)')) where name = 'towns';
select * from towns.refresh('towns');
select count(*) as wrong from towns.wrong;
update towns.people set city = 'Rome', at = clock_timestamp() where id in (200, 201, 202);
select * from towns.refresh('towns');
table towns.passes;
select count(*) as wrong from towns.wrong;
update towns.people set city = 'Oslo', at = clock_timestamp() where id in (200, 201, 202);
select * from towns.refresh('in Rome');
select * from towns.refresh('towns');
select count(*) as wrong from towns.wrong;

-- The end.
set client_min_messages = error;
set segmenter.force_retire = on;
delete from segmenter_segments;
delete from segmenter_log;
reset segmenter.force_retire;
select segmenter_unwatch('towns.people');
drop schema towns cascade;
