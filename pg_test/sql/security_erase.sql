-- An erasure that some segments resist: the others are erased, and what is left is named. And a resync that a
-- consumer asks for.
\set VERBOSITY terse
create role sge_attacker;
create role sge_crm;
create schema sge;
grant all on schema sge to sge_attacker;
grant usage on schema sge to sge_crm;
create table sge.people (id text, email text, odd jsonb);
insert into sge.people values ('1', 'one', null), ('2', 'two', '{"a": 1e400}'), ('3', 'three', (repeat('[', 300) || repeat(']', 300))::jsonb);
select count(segmenter_create_segment('sge ' || name, 'select id, email as hash_email, odd from sge.people', table_name => 'sge.' || name))
from unnest('{honest,odd,unindexed,keeps,bare}'::text[]) name;
set role sge_attacker;
select segmenter_create_segment('sge hostile', 'select id::text as id from generate_series(1, 3) id', table_name => 'sge.hostile') is not null as hostile;
reset role;
select segmenter_subscribe('sge crm', 'sge odd', 'x', '{"fields": ["id", "odd"]}') as odd \gset
select segmenter_subscribe('sge crm', 'sge unindexed', 'x', '{"fields": ["odd"]}') as unindexed \gset
select segment, status, added, messages from unnest('{honest,odd,unindexed,keeps,bare,hostile}'::text[]) n, lateral segmenter_refresh('sge ' || n);
set role sge_attacker;
create function sge.refuse() returns trigger language plpgsql as $$ begin raise exception 'no erasing of % here', old.id; end $$;
create trigger refuse before delete on sge.hostile for each row execute function sge.refuse();
reset role;
create function sge.keep() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger keep before delete on sge.keeps for each row execute function sge.keep();
do $$ begin execute (select string_agg('drop index ' || indexrelid::regclass, '; ') from pg_index where indrelid = 'sge.unindexed'::regclass); end $$;
-- A table without anything but the two columns, registered before.
alter table sge.bare no inherit segmenter;
alter table sge.bare drop column actual_begin, drop column actual_end cascade, drop column processed, drop column hash_email, drop column hash_phone;
delete from sge.people where id in ('2', '3');
set client_min_messages = error;
select segment, rows, messages > 0 as told, status, detail from segmenter_erase('2') order by segment;
select segment, rows, messages > 0 as told, status, detail from segmenter_erase('3') order by segment;
reset client_min_messages;
select n, count(*) filter (where t ~ '\m2\M') as has_2, count(*) filter (where t ~ '\m3\M') as has_3, count(*)
from (
    select 'honest' as n, t.id as t from sge.honest t union all select 'odd', id from sge.odd union all
    select 'unindexed', id from sge.unindexed union all select 'bare', id from sge.bare union all
    select 'keeps', id from sge.keeps union all select 'hostile', id from sge.hostile
) x group by n order by n;
select count(*) from segmenter_outbox where payload::text ~ '10000000|\[\[\[\[' and not is_erasure;
select operation, members, payload -> 'members' = '[]' as is_empty from segmenter_outbox where subscription_id = :'odd' order by id;
-- The log names both, without the person.
select segment_name, status, message, error ->> 'sqlstate' as sqlstate from segmenter_log where action = 'erase' and status = 'failed' and segment_name like 'sge %' order by segment_name, id;
-- Mended, it goes through.
drop trigger keep on sge.keeps;
drop trigger refuse on sge.hostile;
select segment, rows, status from segmenter_erase('2') order by segment;
-- A trigger that does not end, and one that does.
create function sge.sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05 * old.id::int); return old; end $$;
create trigger sleep before delete on sge.hostile for each row execute function sge.sleep();
insert into sge.hostile (segment_id, id) select s.id, '1000' from segmenter_segments s where s.name = 'sge hostile';
insert into sge.honest (segment_id, id) select s.id, '1000' from segmenter_segments s where s.name = 'sge honest';
set segmenter.refresh_timeout = '100ms';
select segment, rows, status, detail from segmenter_erase('1000') order by segment;
select segment, rows, status from segmenter_erase('3') order by segment;
reset segmenter.refresh_timeout;
drop trigger sleep on sge.hostile;
select segment, rows, status from segmenter_erase('1000') order by segment;
-- A subscription whose params cannot be read any more; messages of it are searched all the same.
alter table segmenter_subscriptions disable trigger user;
update segmenter_subscriptions set params = '{"batch_size": 1e400}' where id = :'odd';
alter table segmenter_subscriptions enable trigger user;
select segment, rows, status from segmenter_erase('1') where segment in ('sge odd', 'sge honest') order by segment;
select count(*) from segmenter_outbox where subscription_id = :'odd' and payload -> 'members' @> '[{"id": "1"}]' and not is_erasure;
-- It can be ended, too.
update segmenter_subscriptions set actual_end = now() where id = :'odd';

-- A retired row may name any table: no role without rights locks it.
create table sge.secret (segment_id uuid, id varchar);
select 'sge.secret'::regclass::oid as secret \gset
set role sge_attacker;
insert into segmenter_segments (name, table_name, actual_end) values ('sge ghost', :secret, now());
begin;
select segment, status, detail from segmenter_erase('nobody');
select count(*) from pg_locks where relation = :secret and mode = 'RowExclusiveLock';
rollback;
reset role;

-- JSON that PostgreSQL takes and the parser does not, in each config column.
update segmenter_segments set guards = '{"max_removed": 1e400}' where name = 'sge honest';
update segmenter_segments set sources = (repeat('[', 300) || repeat(']', 300))::jsonb where name = 'sge honest';
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 as id", "x": 1e400}}' where name = 'sge honest';
insert into segmenter_consumers (name, params) values ('sge odd', '{"max_attempts": 1e400}');
select segmenter_subscribe('sge crm', 'sge honest', 'x', ('{"fields": ' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb);
select segmenter_subscribe('sge crm', 'sge honest', 'x', '{"batch_size": 1e400}');
select segmenter_subscribe('sge crm', 'sge honest', 'y') as honest \gset
update segmenter_subscriptions set params = '{"batch_size": 1e400}' where id = :'honest';
select status from segmenter_refresh('sge honest');
select count(segmenter_ack(lease, message_id)) from (select * from segmenter_claim('sge crm', 100) union all select * from segmenter_claim('sge crm', 100)) c where c.subscription_id <> :'honest';
update segmenter_deliveries set leased_until = null;
select message_id, lease, subscription_id = :'honest' as is_honest from segmenter_claim('sge crm') \gset
select :'is_honest' as is_honest;
select segmenter_ack(:'lease', :message_id, '{"x": 1e400}');
select segmenter_ack(:'lease', :message_id, ('{"x": ' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb);
-- Past the checks, in a set of the attacker's: his own run fails, the others' pruning and runs do not.
grant create on schema sge to sge_attacker;
set role sge_attacker;
select segmenter_init('sge.j');
alter table sge.j_segments disable trigger user;
insert into sge.j_segments (id, name, table_name, owner, refresh_auto, refresh_params, guards) values
    ('00000000-0000-0000-0000-000000000001', 'x', 'sge.hostile', 'sge_attacker', true, '{"incremental": {"watch": ["a.b"], "sql": "select 1"}}', '{"max_removed": 1e400}');
insert into sge.j_state (segment_id, refreshes, checkpoint) select '00000000-0000-0000-0000-000000000001', 1,
    jsonb_build_object('cluster', (select system_identifier::text from pg_control_system()),
        'captured', jsonb_build_object('at', now() + interval '1 day', 'snapshot', '10:10:', 'sources', (repeat('[', 300) || repeat(']', 300))::jsonb));
reset role;
select segmenter_prune();
select count(*) from segmenter_run() where status = 'failed';
set role sge_attacker;
set segmenter.cfg_table = 'sge.j';
select segment, status, detail from segmenter_run();
select status, detail from segmenter_doctor() where "check" = 'summary';
select segment, status, detail from segmenter_erase('1');
select segmenter_prune();
reset segmenter.cfg_table;
select segmenter_drop_set('sge.j', true);
reset role;

-- A resync that the consumer's role asks for: it locks nothing of the segment, waits once, and the next run makes it.
update segmenter_consumers set role = 'sge_crm' where name = 'sge crm';
update segmenter_subscriptions set actual_end = now() where id = :'unindexed';
select count(*) from segmenter_run();
select count(segmenter_ack(lease, message_id)) from (select * from segmenter_claim('sge crm', 100) union all select * from segmenter_claim('sge crm', 100)) c;
insert into sge.people values ('7', 'seven');
select messages from segmenter_refresh('sge honest');
set role sge_crm;
begin;
select segmenter_resync(:'honest');
select count(*) from pg_locks where pid = pg_backend_pid() and (locktype = 'advisory' or relation = 'sge.honest'::regclass);
commit;
set client_min_messages = warning;
select segmenter_resync(:'honest');
\set VERBOSITY sqlstate
select segmenter_resync(:'unindexed');
\set VERBOSITY terse
reset client_min_messages;
reset role;
select resync_requested_at is not null as requested from segmenter_deliveries where subscription_id = :'honest';
select pending_messages from segmenter_status where update_target = 'y';
select segment, status, messages from segmenter_run() where segment = 'sge honest';
select operation, members from segmenter_outbox o join segmenter_deliveries d using (subscription_id) where subscription_id = :'honest' and o.id > d.delivered_through order by o.id;
select segment, status, messages from segmenter_run() where segment = 'sge honest';
-- Another one, together with a refresh: all members, not the delta.
set role sge_crm;
select count(segmenter_ack(lease, message_id)) from segmenter_claim('sge crm', 100);
set client_min_messages = warning;
select segmenter_resync(:'honest');
reset client_min_messages;
reset role;
update sge.people set email = 'other' where id = '7';
select messages from segmenter_refresh('sge honest');
select operation, members from segmenter_outbox o join segmenter_deliveries d using (subscription_id) where subscription_id = :'honest' and o.id > d.delivered_through order by o.id;
-- The segment's owner has it at once.
select segmenter_resync(:'honest');

-- Texts of other encodings are not supported, which is said first.
set client_min_messages = error;
create database sge_ascii encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C';
select current_database() as here \gset
\c sge_ascii
create extension segmenter;
\set VERBOSITY sqlstate
create extension segmenter;
\set VERBOSITY terse
\c :here
set client_min_messages = error;
drop database sge_ascii;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name ~ '^sge';
delete from segmenter_segments where name ~ '^sge';
delete from segmenter_outbox;
delete from segmenter_log;
drop schema sge cascade;
drop owned by sge_attacker, sge_crm;
drop role sge_attacker, sge_crm;
