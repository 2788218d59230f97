-- Sequences that are behind: ids of messages and of log entries stay above what there was.
\set VERBOSITY terse
create schema sequences;
create table sequences.people (id int);
insert into sequences.people select generate_series(1, 2);
select segmenter_create_segment('seq', 'select id from sequences.people', table_name => 'sequences.seq') as seq \gset
select segmenter_subscribe('seq', 'seq', 'ads') as subscription \gset
select messages from segmenter_refresh('seq');
select count(segmenter_ack(lease, message_id)) from segmenter_claim('seq', 10);
select delivered_through as delivered, (select max(id) from segmenter_log) as logged from segmenter_deliveries where subscription_id = :'subscription' \gset
-- After a switchover to a logical replica the sequences are at their beginning; the messages were pruned.
delete from segmenter_outbox;
select setval(pg_get_serial_sequence('segmenter_outbox', 'id'), 1, false), setval(pg_get_serial_sequence('segmenter_log', 'id'), 1, false);
select detail ~ '^the next message gets id 1, but', hint from segmenter_doctor() where "check" = 'sequences' order by detail;
insert into sequences.people values (3);
select status, messages from segmenter_refresh('seq');
select operation, id > :delivered as is_above from segmenter_outbox order by id;
select count(*) > 0 as is_logged, min(id) > :logged as is_above from segmenter_log where id > :logged;
select status, detail from segmenter_doctor() where "check" = 'sequences';
select message_id > :delivered as is_above, operation from segmenter_claim('seq', 10);
-- A message that is there already.
select setval(pg_get_serial_sequence('segmenter_outbox', 'id'), (select max(id) - 1 from segmenter_outbox), false) is not null;
insert into sequences.people values (4);
select status, messages from segmenter_refresh('seq');
select count(*), count(distinct id) from segmenter_outbox;
-- One that is further is left as it is, also before its first id is taken.
select setval(pg_get_serial_sequence('segmenter_outbox', 'id'), (select max(id) + 1000 from segmenter_outbox), false) as further,
    setval(pg_get_serial_sequence('segmenter_log', 'id'), (select max(id) + 1000 from segmenter_log), false) as log_further \gset
select status, detail from segmenter_doctor() where "check" = 'sequences';
insert into sequences.people values (5);
select status, messages from segmenter_refresh('seq');
select max(id) = :further as is_further from segmenter_outbox;
select max(id) >= :log_further as is_further from segmenter_log;
-- An erasure and a resync.
select setval(pg_get_serial_sequence('segmenter_outbox', 'id'), 1, false);
select segment, rows, messages from segmenter_erase('1');
select setval(pg_get_serial_sequence('segmenter_outbox', 'id'), 1, false);
select segmenter_resync(:'subscription');
select min(id) > :delivered as are_above from segmenter_outbox;

set client_min_messages = error;
delete from segmenter_subscriptions where id = :'subscription';
delete from segmenter_consumers where name = 'seq';
delete from segmenter_segments where name = 'seq';
delete from segmenter_log where segment_name = 'seq';
delete from segmenter_outbox;
drop schema sequences cascade;
select segmenter_prune();
