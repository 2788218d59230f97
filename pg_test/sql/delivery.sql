-- Claims, leases, acknowledgements and what becomes of messages that cannot be delivered.
\set VERBOSITY terse
create schema delivery;
create table delivery.people (id int primary key, email text);
insert into delivery.people select g, 'e' || g from generate_series(1, 5) g;
select segmenter_create_segment('all', 'select id, email as hash_email from delivery.people', table_name => 'delivery.all') as "all" \gset
select segmenter_subscribe('crm', 'all', 'mail', '{"batch_size": 2, "fields": ["id"]}') as mail \gset
select segmenter_subscribe('crm', 'all', 'sms', '{"fields": ["id"]}') as sms \gset
insert into segmenter_consumers (name, params) values ('other', '{"max_attempts": 2}');
select segmenter_subscribe('other', 'all', 'x', '{"fields": ["id"]}') as other \gset
-- The first message of the test is number one.
select coalesce(max(id), 0) as last from segmenter_outbox \gset
alter table segmenter_outbox alter id restart with 1;
delete from segmenter_outbox;

select * from segmenter_claim('crm');
select status, messages from segmenter_refresh('all');
select id, operation, part from segmenter_outbox order by id;

-- In order, of one subscription at a time, and nobody else gets them meanwhile.
select message_id, lease as a, audience, external_id, target, operation, part, parts, members, attempt, payload -> 'members' as payload
from segmenter_claim('crm', 2, '1 hour') order by message_id desc limit 1 \gset a_
select :a_message_id as message, :'a_operation' as operation, :'a_target' as target, :a_attempt as attempt;
select message_id, lease as b, target, operation from segmenter_claim('crm', 100, '1 hour') order by message_id desc limit 1 \gset b_
select :b_message_id as message, :'b_target' as target;
select count(*) from segmenter_claim('crm');
select message_id, lease as o, target from segmenter_claim('other', 1, '1 hour') \gset o_
select u.target, d.delivered_through, d.leased_through, d.attempts, d.leased_until > now() as leased, d.lease is not null as lease
from segmenter_deliveries d join segmenter_subscriptions u on u.id = d.subscription_id order by 1;

-- Acknowledged one by one, or all at once; again does no harm.
select segmenter_ack(:'a_a', 1, '{"external_id": "list 7", "message": "made"}');
select segmenter_ack(:'a_a', 1);
select segmenter_ack(:'a_a', 2, '{"num_received": 2, "num_invalid": 1, "coverage": 1, "extra": [true]}');
select segmenter_ack(:'b_b', :b_message_id);
select message_id, operation, external_id, payload -> 'audience' ->> 'external_id' as in_payload, attempt from segmenter_claim('crm', 1, '1 hour');
select update_target, update_status, pending_messages, last_delivery > now() - interval '1 minute' as is_new, last_receipt, delivery_error
from segmenter_status order by 1;
select target, status, num_received, num_invalid, coverage, message, params - 'receipt' as params from segmenter_log where action = 'deliver' order by id;
select target, status, external_id from segmenter_subscriptions order by 1;

-- A lease that somebody else has now, that is invented, or of another message.
update segmenter_deliveries set leased_until = now() - interval '1 s' where subscription_id = :'mail';
select lease as late from segmenter_deliveries where subscription_id = :'mail' \gset
select message_id, lease as d, attempt from segmenter_claim('crm', 1, '1 hour') \gset d_
select :d_message_id as message, :d_attempt as attempt;
\set VERBOSITY sqlstate
select segmenter_ack(:'late', 3);
select segmenter_nack(:'late', 3, 'late');
select segmenter_ack(gen_random_uuid(), 3);
select segmenter_ack(:'o_o', 3);
select segmenter_ack(:'d_d', 5);
select segmenter_ack(:'d_d', 999999);
\set VERBOSITY terse
-- One that ran out and that nobody has taken is still good.
update segmenter_deliveries set leased_until = now() - interval '1 s' where subscription_id = :'mail';
select segmenter_ack(:'d_d', 3);
select status from segmenter_subscriptions where id = :'mail';
select message_id, lease as e from segmenter_claim('crm', 1, '1 hour') \gset e_
select segmenter_ack(:'e_e', :e_message_id);
select status from segmenter_subscriptions where id = :'mail';

-- What cannot be delivered comes again later and later, and then waits for a person.
set segmenter.retry_delay = '1min';
select segmenter_nack(:'o_o', :o_message_id, 'the server is down');
select attempts, last_error, next_attempt_at - now() between interval '55 s' and interval '65 s' as in_a_minute, lease, leased_until from segmenter_deliveries where subscription_id = :'other';
select count(*) from segmenter_claim('other');
update segmenter_deliveries set next_attempt_at = now() where subscription_id = :'other';
select message_id, lease as p, attempt from segmenter_claim('other') \gset p_
select segmenter_nack(:'p_p', :p_message_id, repeat('é', 2000), '0 s');
select update_status, pending_messages, length(delivery_error) from segmenter_status where update_consumer = 'other';
select count(*) from segmenter_claim('other');
select segmenter_retry(:'other');
select message_id = :o_message_id as same, lease as q, attempt from segmenter_claim('other', 1) \gset q_
select :'q_same' as same, :q_attempt as attempt;
select segmenter_skip(:'other') = :o_message_id as skipped;
\set VERBOSITY sqlstate
select segmenter_ack(:'q_q', :o_message_id);
\set VERBOSITY terse
select operation, attempt from segmenter_claim('other', 1, '1 ms');
select pg_sleep(0.01);
select operation, attempt from segmenter_claim('other', 1, '1 ms');
select pg_sleep(0.01);
-- A lease that always runs out is an attempt too.
select operation, attempt from segmenter_claim('other', 1, '1 ms');
select update_status, delivery_error from segmenter_status where update_consumer = 'other';

-- Everything anew: what waited is dropped.
update delivery.people set email = 'new';
insert into delivery.people values (6);
select messages from segmenter_refresh('all');
select segmenter_resync(:'other');
select operation, parts, members, attempt from segmenter_claim('other', 10);
select update_status, pending_messages, delivery_error from segmenter_status where update_consumer = 'other';
-- With a creation that was never delivered, that comes first.
select segmenter_subscribe('third', 'all', 'x', '{"fields": ["id"]}') as third \gset
select messages from segmenter_run();
select segmenter_resync(:'third');
select operation, part, members from segmenter_claim('third', 10);
update segmenter_subscriptions set actual_end = now() where id = :'third';
\set VERBOSITY sqlstate
select segmenter_resync(:'third');
\set VERBOSITY terse

-- The end: deleted over there, and its id forgotten.
update segmenter_subscriptions set actual_end = now() where target = 'sms';
select messages from segmenter_run();
select count(segmenter_ack(lease, message_id)) from segmenter_claim('crm', 10, '1 ms');
select pg_sleep(0.01);
select count(segmenter_ack(lease, message_id)) from segmenter_claim('crm', 10, '1 ms');
select target, update_status, external_id from segmenter_subscriptions u join segmenter_status on update_target = target where target = 'mail';
select status, external_id from segmenter_subscriptions where target = 'sms';

-- Deleted and made anew, both acknowledged at once: the old id is forgotten.
update segmenter_subscriptions set actual_end = 'infinity' where target = 'sms';
select messages from segmenter_run();
select count(segmenter_ack(lease, message_id, '{"external_id": "old"}')) from segmenter_claim('crm', 1, '1 ms') where target = 'sms';
select external_id from segmenter_subscriptions where target = 'sms';
update segmenter_subscriptions set actual_end = now() where target = 'sms';
select messages from segmenter_run();
update segmenter_subscriptions set actual_end = 'infinity' where target = 'sms';
select messages from segmenter_run();
select string_agg(operation, ' ' order by message_id) as operations, max(message_id) as last, min(lease::text) as lease from segmenter_claim('crm', 100, '1 ms') where target = 'sms' \gset n_
select :'n_operations' as operations, segmenter_ack(:'n_lease', :n_last);
select status, external_id from segmenter_subscriptions where target = 'sms';
-- A consumer that was retired fetches what is left for it, until there is another of its name.
update segmenter_consumers set actual_end = now() where name = 'other';
select messages from segmenter_run();
select operation from segmenter_claim('other', 100, '1 ms') order by message_id desc limit 1;
insert into segmenter_consumers (name) values ('other');
select count(*) from segmenter_claim('other', 100, '1 ms');

-- Arguments.
select * from segmenter_claim('nobody');
select * from segmenter_claim(null);
select * from segmenter_claim('crm', 0);
select * from segmenter_claim('crm', 1, '-1 s');
select segmenter_ack(null, 1);
select segmenter_nack(:'d_d', 1, null);
\set VERBOSITY sqlstate
select segmenter_retry(gen_random_uuid());
\set VERBOSITY terse
select segmenter_skip(null);
insert into delivery.people values (7);
select messages from segmenter_refresh('all');
select message_id, lease as f from segmenter_claim('crm', 1) \gset f_
select segmenter_nack(:'f_f', :f_message_id, 'x', '-1 s');
select segmenter_ack(:'f_f', :f_message_id, '[]');
select segmenter_ack(:'f_f', :f_message_id, '{"external_id": ["x"]}');
select segmenter_ack(:'f_f', :f_message_id, '{"coverage": "many"}');
select segmenter_ack(:'f_f', :f_message_id, '{"num_received": -1}');
select segmenter_ack(:'f_f', :f_message_id, jsonb_build_object('x', repeat('x', 1000000)));
select segmenter_ack(:'f_f', :f_message_id, (repeat('[', 3000) || repeat(']', 3000))::jsonb);
select segmenter_ack(:'f_f', :f_message_id, ('{"x": ' || repeat('[', 3000) || repeat(']', 3000) || '}')::jsonb);
select segmenter_ack(:'f_f', :f_message_id, null);

-- Retention: so long after delivery, and never what was not delivered.
select count(*) from segmenter_outbox;
select segmenter_prune();
select count(*) from segmenter_outbox;
set segmenter.outbox_retention = 0;
select segmenter_prune();
select count(*) as left, count(*) filter (where o.id <= d.delivered_through) as delivered
from segmenter_outbox o left join segmenter_deliveries d using (subscription_id);
set segmenter.outbox_retention = -1;

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_outbox;
delete from segmenter_log;
drop schema delivery cascade;
