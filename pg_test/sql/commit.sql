-- A commit that fails is a failure of the segment that made it so: segmenter_run_each() goes on.
set client_min_messages = warning;
\set SHOW_CONTEXT never
create schema cm;
create table cm.parents (id int primary key);
create table cm.notes (id int references cm.parents deferrable initially deferred);
create procedure cm.note() language sql as 'insert into cm.notes values (7)';
select count(segmenter_create_segment('cm ' || name, 'select 1 as id', table_name => format('cm.%I', name))) from unnest('{a,b,c}'::text[]) name;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call cm.note()"}}' where name = 'cm b';
update segmenter_segments set refresh_auto = true where name like 'cm %';
call segmenter_run_each();
select segment_name, status, message, error ->> 'sqlstate' as sqlstate from segmenter_log where segment_name like 'cm %' order by 1, id;
select count(*) as notes from cm.notes;
select segment, reason, last_refresh is not null as was_tried from segmenter_due() where segment like 'cm %' order by 1;
select name, last_status from segmenter_status where name like 'cm %' order by 1;
-- With the row that was missing it succeeds.
insert into cm.parents values (7);
call segmenter_run_each();
select segment_name, status, count(*) from segmenter_log where segment_name like 'cm %' group by 1, 2 order by 1, 2;
select count(*) as notes from cm.notes;
-- Each of its transactions is READ COMMITTED, whatever the session's are, also after a commit that fails: a segment
-- that is incremental continues from its watermark, and what is old is deleted.
truncate cm.notes, cm.parents;
create table cm.people as select 1 as id;
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select id from cm.people where $1 < now()", "sql": "select id from cm.people join changed using (id)", "full_cron": "@yearly"}}' where name = 'cm c';
insert into segmenter_log (processed, action, status, segment_name) values (now() - interval '10 years', 'refresh', 'ok', 'cm gone');
set default_transaction_isolation = serializable;
call segmenter_run_each("all" => true);
call segmenter_run_each("all" => true);
reset default_transaction_isolation;
select segment_name, status, message, params #>> '{incremental,pass}' as pass, count(*) from segmenter_log
where id in (select id from segmenter_log where segment_name like 'cm %' order by id desc limit 6) group by 1, 2, 3, 4 order by 1, 2, 3, 4;
-- A transaction that keeps its snapshot deletes what is old as well.
insert into segmenter_log (processed, action, status, segment_name) values (now() - interval '10 years', 'refresh', 'ok', 'cm gone');
begin isolation level serializable;
select segmenter_prune();
commit;
select count(*) as gone from segmenter_log where segment_name = 'cm gone';
-- A hand-over that cannot be committed.
truncate cm.notes, cm.parents;
create function cm.later() returns trigger language plpgsql as $$ begin raise 'not at this time'; end $$;
select segmenter_subscribe('cm', 'cm c', 'mail') is not null as subscribed;
create constraint trigger later after insert on segmenter_outbox deferrable initially deferred for each row execute function cm.later();
update segmenter_segments set refresh_auto = false where name like 'cm %';
call segmenter_run_each();
drop trigger later on segmenter_outbox;
select segment_name, action, status, message from segmenter_log where segment_name like 'cm %' and action <> 'refresh' order by id;
call segmenter_run_each();
select operation, members from segmenter_outbox where segment_id = (select id from segmenter_segments where name = 'cm c') order by id;
-- It needs to be called outside of transactions and functions.
begin;
call segmenter_run_commit('00000000-0000-0000-0000-000000000000', 'cm a', segmenter_run_id(), false);
rollback;
update segmenter_segments set refresh_auto = true where name = 'cm a';
do $$ begin execute 'call segmenter_run_each()'; end $$;
-- Also with nothing to do.
update segmenter_segments set refresh_auto = false where name = 'cm a';
select count(*) as due from segmenter_due() where due and segment like 'cm %';
begin;
call segmenter_run_each();
rollback;
do $$ begin execute 'call segmenter_run_each()'; end $$;
-- Without a run of the caller it only commits.
call segmenter_run_commit('00000000-0000-0000-0000-000000000000', 'cm a', '00000000-0000-0000-0000-000000000000', false);
call segmenter_run_commit(null, 'cm a', '00000000-0000-0000-0000-000000000000', false);
set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name = 'cm';
delete from segmenter_log where segment_name like 'cm %';
delete from segmenter_segments where name like 'cm %';
set client_min_messages = error;
drop schema cm cascade;
