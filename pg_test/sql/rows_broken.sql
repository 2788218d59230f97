-- Rows of the config that are not valid, however that came (a trigger was off, another version wrote them): each is a
-- failure of its segment, with its entry and the delay of a retry, and the others are refreshed.
set client_min_messages = warning;
create schema rb;
select count(segmenter_create_segment('rb ' || name, 'select 1 as id', table_name => format('rb.%I', name)))
from unnest('{cron,full,fine,guards,refresher,sources,zone}'::text[]) name;
update segmenter_segments set refresh_auto = true where name like 'rb %';
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select 1 as id where $1 is not null", "sql": "select 1 as id", "full_cron": "@daily"}}' where name = 'rb full';
alter table segmenter_segments disable trigger segmenter_check;
update segmenter_segments set refresh_cron = 'now and then' where name = 'rb cron';
update segmenter_segments set refresh_timezone = 'Mars/Olympus' where name in ('rb zone', 'rb full');
update segmenter_segments set guards = '{"max_adde": 1}' where name = 'rb guards';
update segmenter_segments set refresh_params = '{"query": {}}' where name = 'rb refresher';
update segmenter_segments set sources = '{}' where name = 'rb sources';
alter table segmenter_segments enable trigger segmenter_check;
select segment, due, reason from segmenter_due() where segment like 'rb %' order by 1;
set client_min_messages = error;
select segment, status, added, detail from segmenter_run() where segment like 'rb %' order by 1;
select segment_name, status, message from segmenter_log where segment_name like 'rb %' order by 1, id;
-- It is an attempt. A schedule that is not valid is tried again after the delay of a retry.
select segment, due, reason, last_refresh is not null as was_tried from segmenter_due() where segment like 'rb %' order by 1;
select segment, due from segmenter_due(now() + interval '2 hours') where segment in ('rb cron', 'rb full', 'rb zone') order by 1;
select detail from segmenter_doctor() where "check" = 'schedules' order by 1;
-- By hand the schedule does not matter.
select status, added from segmenter_refresh('rb zone');
-- What is not valid is told to those who may refresh the segment only.
create role rb_stranger;
set role rb_stranger;
select segment, status, detail from segmenter_refresh('rb guards');
reset role;
drop role rb_stranger;
select count(*) as entries from segmenter_log where segment_name = 'rb guards';
-- Corrected rows are refreshed.
update segmenter_segments set refresh_cron = null, refresh_timezone = null, guards = '{}', sources = '[]', refresh_params = '{"query": {"sql": "select 1 as id"}}'
where name like 'rb %';
select segment, status, added from segmenter_run() where segment like 'rb %' order by 1;
delete from segmenter_log where segment_name like 'rb %';
delete from segmenter_segments where name like 'rb %';
drop schema rb cascade;
