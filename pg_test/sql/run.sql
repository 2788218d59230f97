-- segmenter_run(): every actual, automatic segment that is due, in an order that heeds what they
-- are built on; one that fails stops no other. segmenter_run_each(): the same, each on its own.
\i setup/columns.sql
create schema run;
create table run.people (id int, city text);
insert into run.people select i, case i % 2 when 0 then 'Bonn' else 'Ulm' end from generate_series(1, 10) i;
create table run.model (:columns);
create procedure run.make(segment text, query text, auto boolean default true) language plpgsql as $$
begin
    execute format('create table run.%1$I (like run.model including all, unique (id))', segment);
    insert into segmenter_segments (name, table_name, refresh_auto, refresh_params)
    values (segment, format('run.%I', segment)::regclass, auto, jsonb_build_object('query', jsonb_build_object('sql', query)));
end $$;
create view run.run as select segment, status, added, removed, changed, coverage, messages, detail from segmenter_run();

-- By name alone the order would be a, b, c, …: each reads one that comes later by name. "c" reads
-- through a view of a view, "d" in a subquery, "b" from two. Nobody waits for "z".
create table run.by_hand (like run.model including all, unique (id));
create table run.z (like run.model including all, unique (id));
create table run.y (like run.model including all, unique (id));
create table run.x (like run.model including all, unique (id));
create view run.view as select * from run.y where actual_end = 'infinity';
create view run.view_of_view as select id from run.view;
call run.make('d', 'select id from run.people where id::text in (select id from run.z where actual_end = ''infinity'')');
call run.make('c', 'select id from run.view_of_view');
call run.make('b', 'with c as (select id from run.c where actual_end = ''infinity'') select id from c union select id from run.d where actual_end = ''infinity''');
call run.make('a', 'select id from run.b where actual_end = ''infinity'' except select id from run.x where actual_end = ''infinity''');
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('x', 'run.x', true, '{"query": {"sql": "select 2 as id"}}'),
    ('y', 'run.y', true, '{"query": {"sql": "select id from run.people where city = ''Bonn''"}}'),
    ('z', 'run.z', true, '{"query": {"sql": "select id from run.people where city = ''Ulm''"}}'),
    ('by hand', 'run.by_hand', false, '{"query": {"sql": "select id from run.people"}}');
-- What reads the mart comes after all that do not; reading oneself is nothing to wait for.
call run.make('0', 'select id from segmenter where actual_end = ''infinity'' group by id');
call run.make('1', 'select id from run.people union select id::int from run."1"');

select * from run.run;
insert into run.people values (11, 'Ulm');
select * from run.run;
select * from run.run where status <> 'ok' or added + removed + changed > 0;

-- All rows of a run have its id in the log, in the order of the run; another run has another.
select count(distinct run_id) as runs, count(*) from segmenter_log;
select string_agg(segment_name, ' ' order by id) as in_order from segmenter_log group by run_id order by min(id);

-- One that fails is a row, a warning and an entry; the others go on, but for those built on it, which
-- wait.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id / 0 as id from run.people"}}' where name = 'c';
update segmenter_segments set guards = '{"max_added": 0}' where name = 'z';
insert into run.people values (13, 'Ulm'), (14, 'Bonn');
select * from run.run;
select segment_name, status, message from segmenter_log where status <> 'ok' order by id;
select name, last_status, last_error, coverage from segmenter_status where last_status <> 'ok';
update segmenter_segments set guards = '{}' where name = 'z';

-- Segments that read each other's tables are an error of theirs; "a", built on them, goes on.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from run.a where false union select id from run.b"}}' where name = 'c';
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from run.z"}}' where name = 'a';
select * from run.run;
-- By hand, one is enough: whoever calls knows what it reads.
select segment, status, added, coverage from segmenter_refresh('c');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from run.view_of_view"}}' where name = 'c';
select * from run.run;

-- A segment may be built on one that reads the mart.
call run.make('on the mart', 'select m.id from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name = ''z''');
call run.make('above it', 'select id from run."on the mart"');
select segment, status, coverage, detail from run.run where segment ~ ' ';
delete from segmenter_segments where name in ('above it', 'on the mart');

-- What cannot be told does not stop a run: SQL that is none, a relation that is not there.
update segmenter_segments set refresh_params = '{"query": {"sql": "selec"}}' where name = 'x';
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from run.nothing"}}' where name = 'y';
select segment, status, detail from run.run where status <> 'ok';

-- Only what is due: not before its time, and once it is missed, once.
delete from segmenter_segments where name not in ('z', 'by hand');
update segmenter_segments set refresh_cron = '0 0 1 1 *' where name = 'z';
select * from run.run;
select next_refresh = date_trunc('year', timezone('UTC', now()) + interval '1 year') at time zone 'UTC' as at_new_year from segmenter_status where name = 'z';
delete from segmenter_log;
truncate segmenter_state, segmenter_attempts;
select * from run.run;
update segmenter_segments set actual_begin = now() - interval '2 years' where name = 'z';
select next_refresh < now() as is_due from segmenter_status where name = 'z';
select * from run.run;
select * from run.run;
-- A failure was an attempt as well.
delete from segmenter_log;
truncate segmenter_state, segmenter_attempts;
update segmenter_segments set guards = '{"min_members": 100}' where name = 'z';
set client_min_messages = error;
select segment, status from run.run;
select segment, status from run.run;
reset client_min_messages;

-- Lists that are loaded by hand: with no refresher, or in place of it.
update segmenter_segments set refresh_params = '{}' where name = 'by hand';
select segment, status, added, removed, coverage from segmenter_refresh('by hand', 'select unnest(array[''k1'', ''k2'']) as id');
select segment, status, added, removed, coverage from segmenter_refresh('by hand', query => 'select id from (values (''k2''), (''k3'')) v (id)');
create temp table run_list as select 'k' || i as id from generate_series(3, 6) i;
select segment, status, added, removed, coverage from segmenter_refresh('by hand', 'select id from run_list');
drop table run_list;
select params -> 'refresh_params' as refresh_params, params -> 'one_off' as one_off from segmenter_log where segment_name = 'by hand' order by id;
-- Automatic without a refresher is a mistake that a run shows.
update segmenter_segments set refresh_auto = true where name = 'by hand';
select segment, status, detail from run.run;

-- Each in a transaction of its own.
delete from segmenter_segments;
delete from segmenter_log;
call run.make('e3', 'select id from run.people');
call run.make('e2', 'select id from run.e3');
call run.make('e1', 'select 1 / 0 as id');
call segmenter_run_each();
select
    count(*) as entries, count(distinct xmin::text) as transactions, count(distinct run_id) as runs,
    string_agg(segment_name || ' ' || status, ', ' order by id) as in_order
from segmenter_log;
-- One transaction for segmenter_run().
set client_min_messages = error;
begin;
select count(*) from segmenter_run();
select count(*) as entries, count(distinct run_id) as runs from segmenter_log where id > (select max(id) - 3 from segmenter_log);
select max(id) as last from segmenter_log \gset
rollback;
reset client_min_messages;
select count(*) as left_over from segmenter_log where id > :last - 3;
-- Within a transaction it cannot end one.
\set SHOW_CONTEXT never
begin;
call segmenter_run_each();
rollback;
\set SHOW_CONTEXT errors
delete from segmenter_segments;
delete from segmenter_log;

-- A user runs the segments of the user's own roles.
create role run_boss;
create role run_user in role run_boss;
grant usage, create on schema run to run_boss, run_user;
grant select on run.people to run_boss;
call run.make('ours', 'select id from run.people where current_user = ''run_boss''');
call run.make('mine', 'select id from run.people where current_user = ''run_user''');
call run.make('alien', 'select id from run.people');
alter table run.ours owner to run_boss;
alter table run.mine owner to run_user;
update segmenter_segments set owner = 'run_boss' where name = 'ours';
update segmenter_segments set owner = 'run_user' where name = 'mine';
set role run_user;
select segment, status, coverage, detail from segmenter_run();
select name, coverage from segmenter_status;
select segment_name, status, params ->> 'role' as role from segmenter_log order by id;
select count(*) from segmenter;
call segmenter_run_each();
set role run_boss;
select segment, status, coverage from segmenter_run();
select name, coverage from segmenter_status;
reset role;
select segment_name, params ->> 'role' as role, status from segmenter_log order by id;

-- A stranger's attempt is refused and logged, and puts off nobody's schedule.
create role run_stranger;
delete from segmenter_log;
truncate segmenter_state, segmenter_attempts;
update segmenter_segments set refresh_cron = '0 0 1 1 *', actual_begin = now() - interval '2 years' where name = 'ours';
set role run_stranger;
set client_min_messages = error;
select segment, status, detail from segmenter_refresh('ours');
reset client_min_messages;
set role run_boss;
select segment, status, coverage from segmenter_run();
reset role;

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = warning;
drop schema run cascade;
drop role run_user, run_boss, run_stranger;
