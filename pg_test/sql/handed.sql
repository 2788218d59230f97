-- What is handed over does not depend on the right to call pg_notify, in a role's set either. What consumers answer is
-- told as what it was.
set client_min_messages = warning;
create role ho_owner;
create schema ho authorization ho_owner;
revoke execute on function pg_notify from public;
set role ho_owner;
select segmenter_init('ho.set');
set segmenter.cfg_table = 'ho.set';
select segmenter_create_segment('ho', 'select 1 as id', table_name => 'ho.members') is not null as made;
insert into ho.set_consumers (name, role, params) values ('ho crm', 'ho_owner', '{"max_attempts": 3}');
select segmenter_subscribe('ho crm', 'ho', 'mail') is not null as subscribed;
select status, messages from segmenter_refresh('ho');
-- Two attempts end with an answer; then no more are permitted.
select count(segmenter_nack(lease, message_id, 'the server is down', '0 s')) from segmenter_claim('ho crm', 1);
select count(segmenter_nack(lease, message_id, 'the server is still down', '0 s')) from segmenter_claim('ho crm', 1);
update ho.set_consumers set params = '{"max_attempts": 2}';
select count(*) from segmenter_claim('ho crm', 1);
select update_status, delivery_error from ho.set_status;
reset segmenter.cfg_table;
reset role;
grant execute on function pg_notify to public;
set client_min_messages = error;
select segmenter_drop_set('ho.set', true);
drop schema ho cascade;
drop role ho_owner;
