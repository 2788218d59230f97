-- One segment cannot keep the others of a run from being refreshed, nor can somebody who has no
-- rights on a segment change how, when and whether it is refreshed.
\i setup/security.sql
grant usage on schema sgm to public;

\c - sgm_victim
create table sgm_victim.people (id text);
insert into sgm_victim.people values ('1'), ('2');
create table sgm_victim.sgm_z_last (like segmenter including defaults, unique (id));
create table sgm_victim.sgm_all (like segmenter including defaults, unique (id));
create table sgm_victim.sgm_daily (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('sgm_z_last', 'sgm_victim.sgm_z_last', true, '{"query": {"sql": "select id from sgm_victim.people"}}'),
    ('sgm_all', 'sgm_victim.sgm_all', true, '{"query": {"sql": "select distinct m.id from segmenter m where m.segment_id in (select s.id from segmenter_segments s where s.name = ''sgm_z_last'')"}}');
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params, refresh_cron, actual_begin) values
    ('sgm_daily', 'sgm_victim.sgm_daily', true, '{"query": {"sql": "select id from sgm_victim.people"}}', '0 0 * * *', now() - interval '25 hours');

-- whatever an error of a segment calls itself
\c - sgm_low
create table sgm.sgm_a_fail (like segmenter including defaults, unique (id));
create table sgm.code as select '57014' as code;
create function sgm.fail() returns text language plpgsql as $$ begin raise exception 'failed on purpose' using errcode = (select code from sgm.code); end $$;
create procedure sgm.fail_in_call() language plpgsql as $$ begin perform sgm.fail(); end $$;
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('sgm_a_fail', 'sgm.sgm_a_fail', true, '{"query": {"sql": "select sgm.fail() as id"}}');
\c - sgm_admin
set client_min_messages = error;
create function sgm.runs(code text) returns table (raised text, segment text, status text, detail text) language plpgsql as $$
begin
    update sgm.code c set code = runs.code;
    return query select code, r.segment, r.status, r.detail from segmenter_run() r where r.segment in ('sgm_a_fail', 'sgm_z_last') order by 2;
exception when others or query_canceled then
    return query select code, null::text, 'run', sqlerrm;
end
$$;
select r.* from unnest('{57014,57P01,57P02,57P03,57P04,58000,XX000,40001,40P01,55P03,53200,P0004,00000,25006}'::text[]) code, sgm.runs(code) r;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call sgm.fail_in_call()"}}' where name = 'sgm_a_fail';
select r.* from unnest('{57014,57P01,40001}'::text[]) code, sgm.runs(code) r;
select error ->> 'sqlstate' as sqlstate, count(*) from segmenter_log where segment_name = 'sgm_a_fail' group by 1 order by 1;
-- a timeout of the session's own ends the run, and leaves nothing behind
create function sgm.said(command text) returns text language plpgsql as $$
begin
    execute command;
    return 'nothing';
exception when others or query_canceled then
    return sqlstate || ': ' || sqlerrm;
end
$$;
\c - sgm_low
update segmenter_segments set refresh_params = '{"query": {"sql": "select pg_sleep(60)::text as id"}}' where name = 'sgm_a_fail';
\c - sgm_admin
set statement_timeout = '200ms';
select sgm.said('select segmenter_run()');
reset statement_timeout;
select current_user, session_user;
-- a recursion without end
\c - sgm_low
create function sgm.recurse() returns text language sql as 'select sgm.recurse()';
update segmenter_segments set refresh_params = '{"query": {"sql": "select sgm.recurse() as id"}}' where name = 'sgm_a_fail';
\c - sgm_admin
set client_min_messages = error;
select segment, status from segmenter_run() where segment in ('sgm_a_fail', 'sgm_z_last') order by 1;
select error ->> 'sqlstate' as sqlstate from segmenter_log where segment_name = 'sgm_a_fail' order by id desc limit 1;
-- config that is right in form, with times at the ends of time
\c - sgm_low
create table sgm.shared (like segmenter including defaults, unique (segment_id, id));
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params, refresh_cron, refresh_timezone, actual_begin)
select 'sgm_time_' || row_number() over (), 'sgm.shared', true, '{"query": {"sql": "select 1 as id"}}', cron, zone, begins::timestamptz
from unnest('{@daily,@yearly,0 0 29 2 *,1 seconds,0 0 31 2 *}'::text[]) cron,
    unnest('{UTC,America/New_York,Pacific/Apia}'::text[]) zone,
    unnest('{-infinity,infinity,4714-11-24 00:00:00+00 BC,294276-12-31 23:59:59.999999+00,0001-01-01 00:00:00+00 BC}'::text[]) begins;
\c - sgm_admin
set client_min_messages = error;
select count(*) > 0 as ran from segmenter_run();
select count(*) from segmenter_status where name like 'sgm\_time%';
delete from segmenter_segments where name like 'sgm\_time%';

-- a query over another's table, with no right to read it, does not make that one wait or fail
\c - sgm_low
create table sgm.sgm_cycle (like segmenter including defaults, unique (id));
update segmenter_segments set table_name = 'sgm.sgm_cycle', refresh_params = '{"query": {"sql": "select id from sgm_victim.sgm_all"}}' where name = 'sgm_a_fail';
\c - sgm_admin
set client_min_messages = error;
select segment, status, coverage from segmenter_run() where segment in ('sgm_all', 'sgm_z_last') order by 1;
\c - sgm_victim
set client_min_messages = error;
select segment, status, coverage from segmenter_run() order by 1;
-- with the right to read it, it is a segment that comes later
grant select on sgm_victim.sgm_all to sgm_low;
\c - sgm_admin
set client_min_messages = error;
select segment, status, coverage from segmenter_run() where segment in ('sgm_all', 'sgm_z_last', 'sgm_a_fail') order by 1;

-- who may not refresh a segment changes nothing of it: neither its state, nor when it is due
\c - sgm_victim
update segmenter_segments set actual_begin = now() - interval '25 hours' where name = 'sgm_daily';
\c - sgm_admin
alter table segmenter_log disable trigger all;
delete from segmenter_log where segment_name = 'sgm_daily';
delete from segmenter_state where segment_id = (select id from segmenter_segments where name = 'sgm_daily');
delete from segmenter_attempts where segment_id = (select id from segmenter_segments where name = 'sgm_daily');
alter table segmenter_log enable trigger all;
select id as daily from segmenter_segments where name = 'sgm_daily' \gset
\c - sgm_low
set client_min_messages = error;
select segment, status, detail from segmenter_refresh('sgm_daily');
select segment, status, detail from segmenter_refresh('sgm_daily', 'select ''planted'' as id', force => true);
select segment, status, detail from segmenter_refresh('sgm_daily', dry_run => true);
select segmenter_run_step(:'daily', 'sgm_daily', null, gen_random_uuid());
select segmenter_run_step(:'daily', 'sgm_daily', '{planted}', segmenter_run_id());
select segmenter_run_step(gen_random_uuid(), 'sgm_daily', null, segmenter_run_id());
select segment_name from segmenter_log where segment_name = 'sgm_daily';
\c - sgm_victim
select last_refresh, last_status, last_error, next_refresh < now() as due from segmenter_status where name = 'sgm_daily';
select status, message, params ->> 'role' as role, count(*) from segmenter_log where segment_name = 'sgm_daily' group by 1, 2, 3;
-- it leaves no entry anywhere
\c - sgm_admin
select status, error ->> 'sqlstate' as sqlstate, params ->> 'role' as role, count(*) from segmenter_log where segment_name = 'sgm_daily' group by 1, 2, 3;
set client_min_messages = error;
select segment, status, coverage from segmenter_run() where segment = 'sgm_daily';

-- an argument that is missing is named
\c - sgm_low
set client_min_messages = error;
select call, sgm.said(command) from unnest(array[
    'segmenter_run_step(null, null, null, null)',
    'segmenter_run_step(gen_random_uuid(), null, null, gen_random_uuid())',
    'segmenter_run_step(gen_random_uuid(), ''sgm_none'', null, null)',
    'segmenter_refresh(null)',
    'segmenter_refresh(''sgm_none'', dry_run => null)',
    'segmenter_refresh(''sgm_none'', force => null)',
    'segmenter_create_segment(null, null)',
    'segmenter_create_segment(''sgm_none'', null)',
    'segmenter_create_segment(''sgm_none'', ''select 1 as id'', history => null)',
    'segmenter_cron_next(null)'
]) call, format('select %s', call) command;

\i setup/security_end.sql
