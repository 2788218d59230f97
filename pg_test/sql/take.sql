-- segmenter_take: an audience as rows, or what has changed of it, acknowledged in the same transaction.
create schema take;
create table take.people (id text primary key, email text, city text, spent numeric, tags text[], born timestamptz);
insert into take.people values
    ('1', 'anna@example.com', 'Oslo', 10.50, '{a,b}', '2000-01-02 03:04:05+00'),
    ('2', 'ben@example.com', 'Rome', -7, null, null),
    ('3', '=cmd|'' /C calc''!A0', 'Oslo', null, '{}', 'infinity');
select segmenter_create_segment('take vip', 'select id, email, city, spent, tags, born from take.people', table_name => 'take.vip') is not null as is_created;
select status from segmenter_refresh('take vip');
create function take.subscribe(target text, params jsonb) returns boolean language sql as $$
    select segmenter_subscribe('take anna', 'take vip', $1, $2) is not null
$$;
create function take.runs() returns table (status text, messages bigint) language sql as $$
    select status, messages from segmenter_run() where segment = 'take vip'
$$;
create function take.refreshes() returns table (status text, added bigint, removed bigint, changed bigint) language sql as $$
    select status, added, removed, changed from segmenter_refresh('take vip')
$$;
create view take.state as
select u.target, u.status, d.coverage, d.attempts, d.delivered_at is not null as is_delivered,
    (select count(*) from segmenter_outbox o where o.subscription_id = u.id and o.id > d.delivered_through) as waiting
from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id left join segmenter_deliveries d on d.subscription_id = u.id
where c.name = 'take anna' order by 1;
create view take.log as
select l.target, l.status, l.num_received, l.coverage, l.params - '{message_id,consumer,role}'::text[] as params
from segmenter_log l where l.action = 'deliver' and l.segment_name = 'take vip' order by l.id desc limit 1;

-- All members, before the first hand-over and after it.
select take.subscribe('mail', '{"fields": {"id": "id", "email": "e-mail", "city": "city", "spent": "spent", "tags": "tags", "born": "born"}}');
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text, "e-mail" text) order by id;
select * from take.log;
select * from take.runs();
select * from take.state;
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text, "e-mail" text) order by id;
select * from take.state;
select * from take.log;
select params ->> 'consumer' as consumer, params ->> 'role' = current_user as is_me, params ? 'message_id' as has_message from segmenter_log where action = 'deliver' and segment_name = 'take vip' order by id desc limit 1;
-- Again: the same members.
select count(*) from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
-- Each field in its own type, as text and as varchar; in any order.
set timezone = 'UTC';
select * from segmenter_take('take anna', 'take vip', 'mail') as t (born timestamptz, tags text[], spent numeric, id varchar, "e-mail" varchar) order by id;
select * from segmenter_take('take anna', 'take vip', 'mail') as t (born text, tags text, spent text, id text) order by id;
reset timezone;
-- The list of columns.
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text, email text);
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id int);
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id varchar(1));
select * from segmenter_take('take anna', 'take vip', 'mail') as t (spent float8);
select * from segmenter_take('take anna', 'take vip', 'mail') as t (change text, id text);
select * from segmenter_take('take anna', 'take vip', 'mail');
select segmenter_take('take anna', 'take vip', 'mail');
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (id text);
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (id text, change int);
select * from rows from (segmenter_take('take anna', 'take vip', 'mail') as (id text)) order by id;
\set VERBOSITY terse

-- Changes, net: one who came and left, one who left and came back as before, one who changed and changed back.
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id text);
insert into take.people (id, email) values ('4', 'dora'), ('5', 'emil');
update take.people set email = 'anna@example.org' where id = '1';
delete from take.people where id = '3';
update take.people set city = 'Bergen' where id = '2';
select * from take.refreshes();
delete from take.people where id = '5';
update take.people set city = 'Rome' where id = '2';
update take.people set spent = 11 where id = '1';
select * from take.refreshes();
begin;
select * from segmenter_take('take anna', 'take vip', 'mail', changes => true) as t (change text, "e-mail" varchar, spent numeric, id varchar) order by id;
select * from take.state;
select * from take.log;
select * from segmenter_take('take anna', 'take vip', 'mail', changes => true) as t (change text, id text);
rollback;
-- What is rolled back is there again, removals first; the name that segmenter_diff has for it.
select * from take.state;
select * from segmenter_take('take anna', 'take vip', 'mail', changes => true) as t (operation text, id text, tags text[], born timestamptz);
select * from take.state;
-- Only what was handed over: a change that no refresh has seen is not there.
update take.people set city = 'Bodø' where id = '2';
select * from segmenter_take('take anna', 'take vip', 'mail', changes => true) as t (change text, id text);
-- Changes folded over what was taken before are what the table has.
create table take.copy as select * from segmenter_take('take anna', 'take vip', 'mail') as t (id varchar, "e-mail" varchar, city varchar);
insert into take.people (id, email, city) select 'n' || g, 'n' || g, 'Oslo' from generate_series(1, 50) g;
select * from take.refreshes();
delete from take.people where id like 'n%5';
update take.people set city = city || '!' where id like 'n%7';
select * from take.refreshes();
with changes as materialized (
    select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id varchar, "e-mail" varchar, city varchar)
), gone as (
    delete from take.copy c using changes x where x.id = c.id
)
insert into take.copy select id, "e-mail", city from changes where change <> 'removed';
select (select count(*) from take.copy) as copied, (select count(*) from (table take.copy except select id, email, city from take.vip where actual_end = 'infinity') x) as wrong,
    (select count(*) from (select id, email, city from take.vip where actual_end = 'infinity' except table take.copy) x) as missing;
-- A CSV for a spreadsheet.
truncate take.people;
insert into take.people (id, email) values
    ('+4912345', '+49 (0) 30'), ('-5', '-5.25'), ('+a', '=1+1'), ('-1+1', '@SUM(A1)'), ('+1.', E'\t=1'), ('--1', E'\r=1'), ('plain', 'a=1'),
    ('+' || repeat('a', 42) || '=', ''), ('0', E'\n=1'), ('=5', null), ('''=5', 'with "quotes", and more');
update segmenter_segments set guards = '{"allow_empty": true}' where name = 'take vip';
select * from take.refreshes();
copy (select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text, "e-mail" text) order by id collate "C") to stdout csv header;
\copy (select * from segmenter_take('take anna', 'take vip', 'mail') as t ("e-mail" varchar, id varchar) order by id collate "C") to stdout csv header

-- Fields without the id: equal members are counted.
truncate take.people;
insert into take.people (id, email, city) values ('1', 'a', 'Oslo'), ('2', 'b', 'Oslo'), ('3', 'c', 'Rome');
select * from take.refreshes();
select take.subscribe('cities', '{"fields": ["city"], "where": "city is not null"}');
select * from take.runs();
select * from segmenter_take('take anna', 'take vip', 'cities', true) as t (city text, change text) order by city;
update take.people set city = 'Rome' where id = '1';
insert into take.people (id, email, city) values ('4', 'd', 'Rome'), ('5', 'e', null);
select * from take.refreshes();
delete from take.people where id = '3';
select * from take.refreshes();
select * from segmenter_take('take anna', 'take vip', 'cities', true) as t (city text, change text) order by city;
select * from segmenter_take('take anna', 'take vip', 'cities') as t (city text) order by city;
-- The condition decides who comes and leaves.
select take.subscribe('oslo', '{"fields": ["id"], "where": "city = ''Oslo''"}');
select * from take.runs();
select * from segmenter_take('take anna', 'take vip', 'oslo') as t (id text) order by id;
update take.people set city = case id when '2' then 'Rome' else 'Oslo' end where id in ('2', '4');
select * from take.refreshes();
select * from segmenter_take('take anna', 'take vip', 'oslo', true) as t (change text, id text) order by id;
-- A field that is called change.
select take.subscribe('named', '{"fields": {"id": "change", "city": "operation"}}');
select * from segmenter_take('take anna', 'take vip', 'named') as t (change text) order by change;
select * from segmenter_take('take anna', 'take vip', 'named', true) as t (change text);

-- All members were handed over again: changes are not known, the whole audience is.
\set VERBOSITY default
update segmenter_subscriptions set params = '{"fields": ["id", "city"]}' where target = 'oslo';
select * from segmenter_take('take anna', 'take vip', 'oslo') as t (id text, city text) order by id;
select * from take.runs();
select * from segmenter_take('take anna', 'take vip', 'oslo', true) as t (change text, id text);
\set VERBOSITY terse
select count(*) from segmenter_take('take anna', 'take vip', 'oslo') as t (id text, city text);
select * from segmenter_take('take anna', 'take vip', 'oslo', true) as t (change text, id text);
-- In mode replace, too; but the first time all are new.
select take.subscribe('replaced', '{"fields": ["id"], "mode": "replace"}');
select * from take.runs();
select * from take.refreshes();
select * from segmenter_take('take anna', 'take vip', 'replaced', true) as t (change text, id text) order by id;
select * from take.refreshes();
select * from segmenter_take('take anna', 'take vip', 'replaced', true) as t (change text, id text);
select count(*) from segmenter_take('take anna', 'take vip', 'replaced') as t (id text);

-- Held back: nothing is taken, but what waits.
\set VERBOSITY default
update segmenter_subscriptions set params = params || '{"paused": true}' where target = 'oslo';
select * from segmenter_take('take anna', 'take vip', 'oslo') as t (id text);
\set VERBOSITY terse
select * from segmenter_take('take anna', 'take vip', 'oslo', true) as t (change text, id text);
update segmenter_subscriptions set params = params - 'paused' || '{"min_members": 5}' where target = 'oslo';
select * from segmenter_take('take anna', 'take vip', 'oslo') as t (id text);
update segmenter_subscriptions set params = params || '{"min_members": 4}' where target = 'oslo';
select count(*) from segmenter_take('take anna', 'take vip', 'oslo') as t (id text);
-- A schedule of deliveries does not hold anyone up who asks.
select take.subscribe('later', '{"fields": ["id"]}');
update segmenter_subscriptions set cron = '0 0 1 1 *' where target = 'later';
select * from take.runs();
select count(*) from segmenter_take('take anna', 'take vip', 'later', true) as t (change text, id text);
-- Claimed by another session, and stuck.
insert into take.people (id, city) values ('6', 'Oslo');
select * from take.refreshes();
update segmenter_subscriptions set cron = null;
create table take.claims as select * from segmenter_claim('take anna', 1, '1 hour');
\set VERBOSITY sqlstate
do $$ declare target text; begin
    select u.target into target from take.claims c join segmenter_subscriptions u on u.id = c.subscription_id;
    perform * from segmenter_take('take anna', 'take vip', target, true) as t (id text, change text);
end $$;
\set VERBOSITY terse
update segmenter_deliveries set leased_until = now() - interval '1 s' where leased_until is not null;
select u.target from take.claims c join segmenter_subscriptions u on u.id = c.subscription_id \gset
create function take.ids(target text) returns bigint language plpgsql as $$
begin
    case target when 'cities' then return (select count(*) from segmenter_take('take anna', 'take vip', target) as t (city text));
    when 'named' then return (select count(*) from segmenter_take('take anna', 'take vip', target) as t (change text));
    else return (select count(*) from segmenter_take('take anna', 'take vip', target) as t (id text)); end case;
end $$;
select take.ids(:'target') > 0 as is_taken;
-- The lease has run out, and its messages were taken: an acknowledgement that comes late changes nothing.
select segmenter_ack(lease, message_id) is not null as is_acknowledged from take.claims;
update segmenter_subscriptions set status = 'failed' where target = 'mail';
\set VERBOSITY default
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
\set VERBOSITY terse
select segmenter_retry('take anna', 'take vip', 'mail') > 0 as waits;
select count(*) from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
-- Who was erased is removed, and its message deleted.
select segment, messages > 0 as has_messages from segmenter_erase('6');
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id text);
select count(*) from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id where u.target = 'mail' and o.is_erasure;
-- Who was erased before its message was taken, and is a member again.
insert into take.people values ('61', 'h61', 'Oslo');
select added from segmenter_refresh('take vip');
select segment, messages > 0 as has_messages from segmenter_erase('61');
select added from segmenter_refresh('take vip');
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id text);
delete from take.people where id = '61';
select removed from segmenter_refresh('take vip');
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id text);

-- The end of an audience: it can be taken once.
\set VERBOSITY default
update segmenter_subscriptions set actual_end = now() where target = 'mail';
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (change text, id text);
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
select segment, status, messages from segmenter_run();
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
select * from take.state where target = 'mail';
\set VERBOSITY sqlstate
select * from segmenter_take('take anna', 'take vip', 'mail') as t (id text);
select * from segmenter_take('take anna', 'take vip', 'mail', true) as t (id text, change text);
\set VERBOSITY default

-- A segment that was never refreshed, consumers that workers serve, names that do not exist, nulls.
select segmenter_create_segment('take never', 'select id from take.people', table_name => 'take.never') is not null as is_created;
select segmenter_subscribe('take anna', 'take never', 'mail') is not null as is_subscribed;
select * from segmenter_take('take anna', 'take never', 'mail') as t (id text);
insert into segmenter_consumers (name, params) values ('take pushed', '{"updater": {"function": {"name": "take.none(jsonb)"}}}');
select * from segmenter_take('take pushed', 'take vip', 'mail') as t (id text);
select * from segmenter_take('take nobody', 'take vip', 'mail') as t (id text);
select * from segmenter_take('take anna', 'take vip', 'nothing') as t (id text);
select * from segmenter_take('take anna', null, 'mail') as t (id text);
select * from segmenter_take('take anna', 'take vip', 'mail', null) as t (id text);
begin read only;
select * from segmenter_take('take anna', 'take vip', 'later') as t (id text);
rollback;

-- The consumer's role needs no right on any table; other roles get nothing, the segment's owner neither.
\set VERBOSITY terse
create role take_owner;
create role take_anna;
create role take_other;
grant usage on schema take to take_owner;
alter table take.vip owner to take_owner;
grant select on take.people to take_owner;
update segmenter_segments set owner = 'take_owner' where name = 'take vip';
update segmenter_consumers set role = 'take_anna' where name = 'take anna';
select * from take.refreshes();
set role take_anna;
select count(*) from segmenter_take('take anna', 'take vip', 'later') as t (id text);
select * from segmenter_take('take anna', 'take vip', 'later', true) as t (change text, id text);
select status, num_received, params ->> 'role' as role from segmenter_log where action = 'deliver' order by id desc limit 1;
reset role;
set role take_other;
select * from segmenter_take('take anna', 'take vip', 'later') as t (id text);
set role take_owner;
select * from segmenter_take('take anna', 'take vip', 'later') as t (id text);
select status, num_received, params ->> 'role' as role from segmenter_log where action = 'deliver' order by id desc limit 1;
reset role;
-- What is wrong with the segment is not for the consumer.
insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
select c.id, s.id, 'divided', '{"fields": ["id"], "where": "1 / (length(city) - 4) >= 0"}' from segmenter_consumers c, segmenter_segments s where c.name = 'take anna' and s.name = 'take vip';
\set VERBOSITY default
set role take_anna;
select * from segmenter_take('take anna', 'take vip', 'divided') as t (id text);
reset role;
select * from segmenter_take('take anna', 'take vip', 'divided') as t (id text);
alter table take.vip drop column city;
select * from segmenter_take('take anna', 'take vip', 'cities') as t (city text);
-- Events are no members.
select segmenter_subscribe('take anna', 'take vip', 'events', '{"mode": "events", "fields": ["id"]}', 'take_anna') is not null as subscribed;
select * from segmenter_take('take anna', 'take vip', 'events', changes => true) as t (id text, change text);
-- The table is not locked any more than the cursor is.
begin;
select count(*) > 0 as is_taken from segmenter_take('take anna', 'take vip', 'later') as t (id text);
select count(*) from pg_locks where relation = 'take.vip'::regclass and pid = pg_backend_pid() and mode <> 'SIReadLock';
rollback;
\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name like 'take %');
delete from segmenter_segments where name like 'take %';
delete from segmenter_consumers where name like 'take %';
delete from segmenter_log where segment_name like 'take %';
drop schema take cascade;
drop role take_owner, take_anna, take_other;
