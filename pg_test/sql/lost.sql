-- Messages that are deleted from the outbox by hand before they are delivered: the doctor reports it, and the
-- next hand-over makes up for them.
set client_min_messages = error;
create schema lost;
create table lost.people (id int primary key);
insert into lost.people values (1), (2);
select segmenter_create_segment('lost', 'select id from lost.people', table_name => 'lost.segment') is not null as made;
insert into segmenter_consumers (name) values ('lost crm');
select segmenter_subscribe('lost crm', 'lost', target, params) is not null as subscribed
from (values ('mail', '{}'::jsonb), ('history', '{"mode": "events"}'), ('whole', '{"mode": "replace"}')) v (target, params);
create view lost.doctor as
select status, detail, left(hint, 40) as hint from segmenter_doctor() where "check" = 'deliveries' and detail like '%lost crm%';
create view lost.waiting as
select u.target, o.operation, o.payload -> 'members' @> '[{"id": "3"}]' as has_3, o.members
from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
order by u.target, o.id;
-- Each call claims the messages of one subscription.
create procedure lost.deliver() language sql as $$
    select count(segmenter_ack(m.lease, m.message_id, '{"external_id": "x"}'))
    from generate_series(1, 10) n, segmenter_claim('lost crm', 10 + n * 0) m
$$;
-- Nothing was ever delivered: the audiences are created.
select status, messages from segmenter_refresh('lost');
table lost.doctor;
truncate segmenter_outbox;
table lost.doctor;
select segment, status, messages, detail from segmenter_run();
table lost.waiting;
table lost.doctor;
call lost.deliver();
table lost.doctor;
-- All was delivered: what is deleted then is not missed.
delete from segmenter_outbox;
select count(*) from segmenter_run();
-- A change, of a refresh.
insert into lost.people values (3);
select status, messages, detail from segmenter_refresh('lost', dry_run => true);
select status, messages from segmenter_refresh('lost');
delete from segmenter_outbox;
select status, messages, detail from segmenter_refresh('lost', dry_run => true);
select status, messages, detail from segmenter_refresh('lost');
table lost.waiting;
select target, message from segmenter_log where segment_name = 'lost' and action = 'hand over' order by id desc limit 2;
table lost.doctor;
call lost.deliver();
-- The end of audiences.
update segmenter_subscriptions set actual_end = now();
select segment, messages from segmenter_run();
truncate segmenter_outbox;
table lost.doctor;
select segment, messages from segmenter_run();
table lost.waiting;
call lost.deliver();
table lost.doctor;
select count(*) from segmenter_run();

select segmenter_drop_segment('lost', true);
delete from segmenter_consumers where name = 'lost crm';
delete from segmenter_outbox;
delete from segmenter_log;
drop schema lost cascade;
