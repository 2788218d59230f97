-- The queries for monitoring in docs/operations.md give right answers: a segment without a schedule is late by its
-- last refresh, deliveries are no refreshes, and a segment that was retired is in no list of the active ones.
create schema monitoring;
select segmenter_create_segment('mon daily', 'select 1 as id', '@daily', 'monitoring.daily') is not null as created;
select segmenter_create_segment('mon always', 'select g as id from generate_series(1, 9) g', null, 'monitoring.always') is not null as created;
select segmenter_create_segment('mon by hand', 'select 1 as id', null, 'monitoring.by_hand') is not null as created;
select segmenter_create_segment('mon retired', 'select 1 as id', null, 'monitoring.retired') is not null as created;
update segmenter_segments set refresh_auto = true where name = 'mon always';
update segmenter_segments set actual_begin = now() - interval '1 hour' where name like 'mon %' and name <> 'mon daily';
set client_min_messages = error;
select segmenter_subscribe('mon crm', 'mon always', 'mail') is not null as subscribed;
reset client_min_messages;
select name, status from (select name from segmenter_segments where name <> 'mon daily' and name like 'mon %' order by name) s,
    lateral (select status from segmenter_refresh(s.name)) r;
update segmenter_segments set actual_end = now() where name = 'mon retired';
-- The consumer says that it has many more.
select count(segmenter_ack(lease, message_id, '{"coverage": 1818}')) from segmenter_claim('mon crm', 10);

create view monitoring.late as
select d.segment, d.next_refresh, d.last_refresh, d.reason
from segmenter_due() d
join segmenter_segments s on s.name = d.segment and s.actual_end = 'infinity'
where d.next_refresh < now() - interval '5 minutes'
   or s.refresh_auto and s.refresh_cron is null
      and coalesce(d.last_refresh, s.actual_begin) < now() - interval '5 minutes';
select segment from monitoring.late order by segment;
update segmenter_segments set actual_begin = now() - interval '2 days' where name = 'mon daily';
select segment from monitoring.late order by segment;
update segmenter_state set started_at = started_at - interval '6 minutes' where segment_id = (select id from segmenter_segments where name = 'mon always');
select segment from monitoring.late order by segment;

select segment_name, count(*), max(coverage)
from segmenter_log
where action = 'refresh' and status = 'ok' and processed > now() - interval '14 days' and segment_name like 'mon %'
group by 1 order by 1;

-- In which segments is this person? And what waits for which consumer.
select s.name
from segmenter m
join segmenter_segments s on s.id = m.segment_id
where m.id = '1' and m.actual_end = 'infinity' and s.actual_end = 'infinity' and s.name like 'mon %'
order by s.name;
select name, update_consumer, update_target, update_status, pending_messages
from segmenter_status where pending_messages > 0 or update_status = 'failed';
select count(*) filter (where status = 'problem') > 0 as has_problems from segmenter_doctor() where "check" <> 'summary';

set client_min_messages = error;
delete from segmenter_outbox where segment_id in (select id from segmenter_segments where name like 'mon %');
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name like 'mon %');
delete from segmenter_consumers where name = 'mon crm';
delete from segmenter_log where segment_name like 'mon %';
delete from segmenter_segments where name like 'mon %';
drop schema monitoring cascade;
