-- The owner of a segment sees which consumers it is subscribed for, whatever role these have, and nothing else of
-- them.
create schema status;
create role status_marketing;
create role status_crm;
grant usage, create on schema status to status_marketing;
set role status_marketing;
select segmenter_create_segment('status vip', 'select 1 as id', table_name => 'status.vip') is not null as created;
select segmenter_create_segment('status other', 'select 2 as id', table_name => 'status.other') is not null as created;
select segmenter_subscribe('status crm', 'status vip', 'mail') is not null as subscribed;
update segmenter_subscriptions set name = '{{consumer}}: {{name}}' where target = 'mail';
select segment, status, messages from segmenter_refresh('status vip');
reset role;

-- The DBA gives the consumer a role of its own.
update segmenter_consumers set role = 'status_crm', params = '{"updater": {"http": {"url": "https://crm.example.com/SECRET"}}}' where name = 'status crm';
set role status_marketing;
select name, update_consumer, update_target, update_name, update_status, pending_messages, delivery_error from segmenter_status;
select count(*) as visible_consumers from segmenter_consumers;
select count(*) as visible_deliveries from segmenter_deliveries;

-- Another segment cannot be subscribed without the consumer's consent, which says what to do.
select segmenter_subscribe('status crm', 'status other', 'mail');
reset role;
update segmenter_consumers set subscribers = '{status_marketing}' where name = 'status crm';
set role status_marketing;
select segmenter_subscribe('status crm', 'status other', 'mail') is not null as subscribed;
select name, update_consumer, update_target from segmenter_status;

-- The consumer's role sees its own subscriptions by the consumer's name, and not the segments.
set role status_crm;
select count(*) as visible_segments from segmenter_status;
select count(*) as subscriptions, count(distinct consumer) as consumers from segmenter_delivered_in('segmenter') where consumer = 'status crm';
reset role;
create role status_stranger;
set role status_stranger;
select count(*) from segmenter_delivered_in('segmenter');
reset role;

set client_min_messages = error;
delete from segmenter_outbox where consumer_id in (select id from segmenter_consumers where name like 'status %');
delete from segmenter_subscriptions where consumer_id in (select id from segmenter_consumers where name like 'status %');
delete from segmenter_consumers where name like 'status %';
delete from segmenter_log where segment_name like 'status %';
delete from segmenter_segments where name like 'status %';
drop schema status cascade;
drop role status_marketing, status_crm, status_stranger;
