-- segmenter_disclosures: to whom a person's data went.
\set VERBOSITY terse
set client_min_messages = warning;
create schema disclosures;
create table disclosures.people (id text primary key, email text, city text);
insert into disclosures.people values ('1', 'h1', 'Oslo'), ('2', 'h2', 'Rome'), ('3', 'h3', 'Oslo');
select segmenter_create_segment('dis vip', 'select id, email as hash_email, city from disclosures.people', table_name => 'disclosures.vip') is not null as is_created;
create function disclosures.subscribe(consumer text, segment text, target text, params jsonb) returns boolean language sql as $$
    select segmenter_subscribe($1, $2, $3, $4) is not null
$$;
-- The times, by their order among all hand-overs and takes in the log; '?' where it is none of these.
create function disclosures.of(person text) returns table (consumer text, target text, fields text, since text, until text, still_there boolean, complete boolean) language sql as $$
    with times as (
        select l.target, l.processed, (row_number() over (order by l.id))::text as number
        from segmenter_log l where l.status = 'ok' and (l.action = 'hand over' or l.action = 'deliver' and l.params ->> 'operation' = 'take')
    )
    select d.consumer, d.target, array_to_string(d.fields, ' '),
        case when d.since is not null then coalesce((select t.number from times t where t.target = d.target and t.processed = d.since), '?') end,
        case when d.until is not null then coalesce((select t.number from times t where t.target = d.target and t.processed = d.until), '?') end,
        d.still_there, d.complete
    from segmenter_disclosures(person) d order by d.target, d.since nulls first, d.consumer
$$;
create view disclosures.log as
select row_number() over (order by l.id) as number, l.target, coalesce(l.params ->> 'operations', l.params ->> 'operation') as what
from segmenter_log l where l.status = 'ok' and (l.action = 'hand over' or l.action = 'deliver' and l.params ->> 'operation' = 'take') order by l.id;
create function disclosures.acks() returns bigint language sql as $$
    select count(segmenter_ack(lease, message_id)) from segmenter_claim('dis crm', 100)
$$;
create function disclosures.refreshes(segment text default 'dis vip') returns table (added bigint, removed bigint, changed bigint) language sql as $$
    select added, removed, changed from segmenter_refresh(segment)
$$;
truncate segmenter_log;

-- Nobody has anything; a message that waits was not handed over, one that was claimed was.
select * from disclosures.of('1');
select disclosures.subscribe('dis crm', 'dis vip', 'mail', '{"fields": ["id", "hash_email"]}');
select * from disclosures.refreshes();
select * from disclosures.of('1');
select operation from segmenter_claim('dis crm', 1);
select * from disclosures.of('1');
update segmenter_deliveries set leased_until = now() - interval '1 s';
select operation from segmenter_claim('dis crm', 2);
select * from disclosures.of('1');
update segmenter_deliveries set leased_until = now() - interval '1 s';
select disclosures.acks();
select * from disclosures.of('1');
select * from disclosures.of('none such');
select pg_typeof(since) as since, pg_typeof(fields) as fields, since = l.processed as is_since, until is null as is_open
from segmenter_disclosures('1'), segmenter_log l where l.action = 'hand over';

-- It leaves, and comes back; a removal that waits has not reached the consumer.
delete from disclosures.people where id = '2';
select * from disclosures.refreshes();
select * from disclosures.of('2');
select disclosures.acks();
select * from disclosures.of('2');
insert into disclosures.people values ('2', 'h2', 'Oslo');
select * from disclosures.refreshes();
select disclosures.acks();
select * from disclosures.of('2');
select * from disclosures.of('1');
-- Other fields, under other names.
update segmenter_subscriptions set params = '{"fields": {"id": "id", "city": "town"}}' where target = 'mail';
select count(*) from segmenter_run();
select disclosures.acks();
select * from disclosures.of('2');
-- A condition, and one that changes.
select disclosures.subscribe('dis crm', 'dis vip', 'oslo', '{"fields": ["id"], "where": "city = ''Oslo''"}');
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
update disclosures.people set city = case id when '1' then 'Rome' else 'Oslo' end;
select * from disclosures.refreshes();
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('1') where target = 'oslo';
select * from disclosures.of('3') where target = 'oslo';
update segmenter_subscriptions set params = '{"fields": ["id"], "where": "city = ''Rome''"}' where target = 'oslo';
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('1') where target = 'oslo';
select * from disclosures.of('3') where target = 'oslo';
-- A new name of an audience gives nobody anything.
update segmenter_subscriptions set name = 'renamed' where target = 'oslo';
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('3') where target = 'oslo';
-- Taken by people: before the first hand-over, and with some of the fields.
select disclosures.subscribe('dis anna', 'dis vip', 'list', '{"fields": ["id", "city"]}');
select count(*) from segmenter_take('dis anna', 'dis vip', 'list') as t (id text);
select * from disclosures.of('1') where target = 'list';
select count(*) from segmenter_run();
select count(*) from segmenter_take('dis anna', 'dis vip', 'list', true) as t (change text, id text);
select * from disclosures.of('1') where target = 'list';
select * from disclosures.log;

-- The end of an audience, of a consumer and of a segment.
update segmenter_subscriptions set actual_end = now() where target = 'oslo';
select count(*) from segmenter_run();
select * from disclosures.of('1') where target = 'oslo';
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('1') where target = 'oslo';
update segmenter_consumers set actual_end = now() where name = 'dis anna';
select count(*) from segmenter_run();
select count(*) from segmenter_take('dis anna', 'dis vip', 'list') as t (id text);
select * from disclosures.of('1') where target = 'list';
-- Members of a retired segment are known.
select segmenter_create_segment('dis latest', 'select id from disclosures.people', table_name => 'disclosures.latest', history => false) is not null as is_created;
select disclosures.subscribe('dis crm', 'dis latest', 'latest', '{"fields": ["id"]}');
select * from disclosures.refreshes('dis latest');
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('1') where target = 'latest';
update segmenter_segments set actual_end = now() where name = 'dis latest';
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
select * from disclosures.of('1') where target = 'latest';
-- Without history it is not known what a condition was for a person that has changed since: it counts as handed over.
begin;
select segmenter_create_segment('dis cities', 'select id, city from disclosures.people', table_name => 'disclosures.cities', history => false) is not null as is_created;
update disclosures.people set city = 'Oslo';
select * from disclosures.refreshes('dis cities');
select disclosures.subscribe('dis crm', 'dis cities', 'cities', '{"fields": ["id"], "where": "city = ''Oslo''"}');
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
update disclosures.people set city = 'Rome' where id = '1';
select * from disclosures.refreshes('dis cities');
select disclosures.acks() > 0 as is_acknowledged;
select target, still_there, complete from disclosures.of('1') where target = 'cities';
select target, still_there, complete from disclosures.of('3') where target = 'cities';
rollback;

-- Changes are held back: who leaves stays with the consumer, who is excluded does not.
begin;
create table disclosures.refused (id text);
select segmenter_create_segment('dis refused', 'select id from disclosures.refused', table_name => 'disclosures.listed') is not null as is_created;
select added from segmenter_refresh('dis refused');
update segmenter_segments set exclude = '["dis refused"]' where name = 'dis vip';
update segmenter_subscriptions set params = params || '{"paused": true}' where target = 'mail';
select * from disclosures.refreshes();
delete from disclosures.people where id = '3';
select * from disclosures.refreshes();
insert into disclosures.refused values ('2');
select added from segmenter_refresh('dis refused');
select count(*) from segmenter_run("all" => true);
select disclosures.acks() > 0 as is_acknowledged;
select target, still_there, complete from disclosures.of('2') where target = 'mail';
select target, still_there, complete from disclosures.of('3') where target = 'mail';
update segmenter_subscriptions set params = params - 'paused' where target = 'mail';
select count(*) from segmenter_run();
select disclosures.acks() > 0 as is_acknowledged;
select target, still_there, complete from disclosures.of('3') where target = 'mail';
rollback;

-- What has deleted former members, and what has cleared their columns: it is not known whether there is more.
begin;
update segmenter_segments set retention = '{"keep": "100 years"}' where name = 'dis vip';
select * from disclosures.of('2') where target = 'mail';
update segmenter_segments set retention = '{"keep": "1 hour"}' where name = 'dis vip';
update segmenter_subscriptions set actual_begin = now() - interval '2 hours' where target = 'mail';
select * from disclosures.of('2') where target = 'mail';
update segmenter_segments set retention = '{"without_contacts_after": "1 hour"}' where name = 'dis vip';
select * from disclosures.of('1') where target = 'oslo';
rollback;
-- A condition that cannot be evaluated any more.
begin;
update disclosures.people set city = null;
alter table disclosures.vip rename column city to town;
select target, since is not null as has_since, still_there, complete from disclosures.of('1') where target = 'oslo';
rollback;
-- A message was skipped.
begin;
delete from disclosures.people where id = '3';
select * from disclosures.refreshes();
select segmenter_skip('dis crm', 'dis vip', 'mail') is not null as is_skipped;
select * from disclosures.of('3') where target = 'mail';
rollback;
-- A subscription that is gone: the log knows of it, and of its consumer.
begin;
delete from segmenter_subscriptions where target = 'mail';
delete from segmenter_consumers where name = 'dis crm' and not exists (select from segmenter_subscriptions u where u.consumer_id = segmenter_consumers.id);
select * from disclosures.of('1') where target = 'mail';
select * from disclosures.of('2') where target = 'mail';
rollback;
-- The log was pruned: what is left of it, and what the table says of the time before. A subscription that began since is whole.
begin;
delete from segmenter_log where id <= (select max(id) from segmenter_log where target = 'mail' and action = 'hand over' and params ->> 'operations' ~ 'remove');
select consumer, target, fields, since is not null as has_since, until is not null as has_until, still_there, complete from disclosures.of('2') where target in ('mail', 'list');
rollback;
begin;
truncate segmenter_log;
select consumer, target, fields, since is not null as has_since, until is not null as has_until, still_there, complete from disclosures.of('2') where target = 'mail';
rollback;

-- Who may see it: roles that may act as the segment's owner, and read its table.
create role dis_owner;
create role dis_other;
alter table disclosures.vip owner to dis_owner;
grant usage on schema disclosures to dis_owner, dis_other;
grant select on disclosures.vip to dis_other;
update segmenter_segments set owner = 'dis_owner' where name = 'dis vip';
set role dis_other;
select count(*) from segmenter_disclosures('1');
set role dis_owner;
select consumer, target from segmenter_disclosures('1') order by 1, 2, since;
reset role;
-- After an erasure nothing is left.
select count(*) > 0 as is_erased from segmenter_erase('1');
select * from disclosures.of('1');
select * from segmenter_disclosures(null);
\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name like 'dis %');
delete from segmenter_segments where name like 'dis %';
delete from segmenter_consumers where name like 'dis %';
delete from segmenter_log where segment_name like 'dis %';
drop schema disclosures cascade;
drop role dis_owner, dis_other;
