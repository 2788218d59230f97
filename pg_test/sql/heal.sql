-- What a consumer refuses, and what is skipped, is remembered until all members follow; deliveries of a
-- copy are paused.
\set VERBOSITY terse
create schema heal;
create table heal.people (id int);
insert into heal.people select generate_series(1, 5);
select segmenter_create_segment('heal', 'select id from heal.people', table_name => 'heal.heal') as heal \gset
set client_min_messages = error;
select segmenter_subscribe('heal', 'heal', 'ads') as subscription \gset
reset client_min_messages;
select messages from segmenter_refresh('heal');
select segmenter_ack(lease, message_id) from segmenter_claim('heal');
-- Taken with a rest: the message is delivered, the next one follows.
select segmenter_ack(lease, message_id, '{"num_received": 5, "num_invalid": 2, "coverage": 3}') from segmenter_claim('heal');
insert into heal.people values (6);
select messages from segmenter_refresh('heal');
select segmenter_nack(lease, message_id, 'never', '0') from segmenter_claim('heal');
select segmenter_skip(:'subscription') is not null as skipped;
select refused_members, skipped_messages, skipped_members, coverage from segmenter_deliveries where subscription_id = :'subscription';
select status, detail from segmenter_doctor() where "check" = 'audiences' order by detail;
select segmenter_resync(:'subscription');
select refused_members, skipped_messages from segmenter_deliveries where subscription_id = :'subscription';
select segmenter_ack(lease, message_id, '{"coverage": 6}') from segmenter_claim('heal');
select refused_members, skipped_messages, skipped_members, coverage from segmenter_deliveries where subscription_id = :'subscription';
select status, detail from segmenter_doctor() where "check" = 'audiences';
-- Another number than was handed over.
insert into heal.people values (7);
select messages from segmenter_refresh('heal');
select status from segmenter_doctor() where "check" = 'audiences';
select segmenter_ack(lease, message_id, '{"coverage": 6}') from segmenter_claim('heal');
select status, detail from segmenter_doctor() where "check" = 'audiences';

-- A copy: nothing is paused for a consumer that claims.
select home is not null as has_home from segmenter_consumers where name = 'heal';
update segmenter_consumers set home = '1/2' where name = 'heal';
insert into heal.people values (8);
select messages from segmenter_refresh('heal');
select count(*) from segmenter_claim('heal');
select status from segmenter_doctor() where "check" = 'copies';
set client_min_messages = error;
update segmenter_consumers set params = '{"updater": {"function": {"name": "heal.push(jsonb)"}}}' where name = 'heal';
reset client_min_messages;
select status, detail from segmenter_doctor() where "check" = 'copies';
create role heal_stranger;
set role heal_stranger;
select segmenter_resume_deliveries();
reset role;
select segmenter_resume_deliveries('another');
select segmenter_resume_deliveries('heal');
select segmenter_resume_deliveries();
select status from segmenter_doctor() where "check" = 'copies';

set client_min_messages = error;
delete from segmenter_subscriptions where id = :'subscription';
delete from segmenter_consumers where name = 'heal';
delete from segmenter_segments where name = 'heal';
delete from segmenter_log where segment_name = 'heal';
delete from segmenter_outbox;
drop schema heal cascade;
drop role heal_stranger;
select segmenter_prune();
