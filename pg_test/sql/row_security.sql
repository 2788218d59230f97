-- A role whose database, role or server says row_security = off: each statement that a policy
-- limits is an error there. What the role asks of our tables by hand is one; our functions, which
-- show it what is its own, do not depend on the setting.
\i setup/schema.sql
create schema off;
create table off.people (id int primary key, email text);
insert into off.people values (1, 'a'), (2, 'b'), (3, 'c');
create role off_role;
alter schema off owner to off_role;
alter table off.people owner to off_role;
set role off_role;
set row_security = off;
set search_path = off, :schema;

select count(*) from segmenter_segments;
select segmenter_create_segment('off', 'select id, email as hash_email from off.people', '@yearly', 'off.segment') is not null as created;
select segmenter_create_segment('off latest', 'select id, email as hash_email from off.people', table_name => 'off.latest', history => false) is not null as created;
select segmenter_create_segment('off', 'select id, email as hash_email from off.people', table_name => 'off.segment');
select * from segmenter_put_segment('off put', 'select id from off.people', table_name => 'off.put');
select * from segmenter_put_segment('off put', description => 'changed', refresh => true);
select segmenter_subscribe('off consumer', 'off', 't') is not null as subscribed;
select segmenter_subscribe('off consumer', 'nowhere', 't') is not null as subscribed;
select segment, status, added, messages from segmenter_refresh('off');
select segment, status, added from segmenter_run("all" => true) order by segment;
call segmenter_run_each();
select message_id as message, lease from segmenter_claim('off consumer') \gset
select segmenter_ack(:'lease', :message);
select segmenter_resync('off consumer', 'off', 't');
select message_id as message, lease from segmenter_claim('off consumer') \gset
select segmenter_nack(:'lease', :message, 'not now');
select segmenter_retry('off consumer', 'off', 't');
select segmenter_skip('off consumer', 'off', 't') is not null as skipped;
select segmenter_resume_deliveries('off consumer');
select segment, due from segmenter_due() order by segment;
select * from segmenter_doctor() where detail ~ 'policy|row-level';
select segmenter_watch('off.people');
select segmenter_unwatch('off.people');
select segment, rows, status from segmenter_erase('2') order by segment;
select segmenter_drop_segment('off put', drop_table => true);
select segmenter_drop_segment('off latest');

reset role;
reset row_security;
select name, owner, actual_end < 'infinity' as retired from segmenter_segments where name ~ '^off' order by name;
set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_log;
drop schema off cascade;
drop role off_role;
