-- Changes that are held back: paused, min_members. What consumers have meanwhile is known: people who are excluded or erased are removed.
\i setup/columns.sql
create schema hold;
create table hold.people (id int primary key, email text, city text);
insert into hold.people select g, 'e' || g, case g % 2 when 0 then 'Oslo' else 'Rome' end from generate_series(1, 10) g;
create table hold.refused (id int primary key);
create table hold.members (:columns, city text);
create unique index on hold.members (id) where actual_end = 'infinity';
create table hold.listed (:columns, unique (id));
insert into segmenter_segments (name, table_name, guards, refresh_params) values
    ('held', 'hold.members', '{"allow_empty": true}', '{"query": {"sql": "select id, email as hash_email, city from hold.people"}}'),
    ('held refused', 'hold.listed', '{"allow_empty": true}', '{"query": {"sql": "select id from hold.refused"}}');
update segmenter_segments set exclude = '["held refused"]' where name = 'held';
insert into segmenter_consumers (name) values ('hold');
create function hold.subscribe(target text, params jsonb) returns void language sql as $$
    insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
    select c.id, s.id, $1, $2 from segmenter_consumers c, segmenter_segments s where c.name = 'hold' and s.name = 'held'
$$;
create function hold.set(target text, params jsonb) returns void language sql as $$
    update segmenter_subscriptions u set params = jsonb_strip_nulls(u.params || $2) where u.target = $1
$$;
-- The messages since the last look.
create table hold.seen (through bigint); insert into hold.seen select coalesce(max(id), 0) from segmenter_outbox;
create function hold.messages() returns table (target text, operation text, members text) language plpgsql as $$
begin
    return query select u.target, o.operation, (
        select string_agg(concat_ws(':', m ->> 'id', m ->> 'city'), ' ' order by (m ->> 'id')::int, m ->> 'city') from jsonb_array_elements(o.payload -> 'members') m
    ) from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
    where o.id > (select s.through from hold.seen s) and o.payload -> 'segment' ->> 'name' = 'held' order by u.target, o.id;
    update hold.seen set through = coalesce((select max(id) from segmenter_outbox), 0);
end $$;
create view hold.kept as
select u.target, h.held, h.withheld, h.members, (
    select string_agg(w.id || coalesce(':' || nullif(concat_ws(' ', w.member ->> 'city'), ''), case when w.member is null then ' lacks' else '' end), ', ' order by w.id::int)
    from segmenter_withheld w where w.subscription_id = u.id
) as kept
from segmenter_subscriptions u join segmenter_handovers h on h.subscription_id = u.id
where u.target in ('all', 'paused', 'few', 'oslo') order by u.target;

select status from segmenter_refresh('held refused');
select hold.subscribe('all', '{"fields": ["id", "city"]}');
select hold.subscribe('paused', '{"fields": ["id", "city"], "paused": true}');
select hold.subscribe('few', '{"fields": ["id", "city"], "min_members": 9}');
select hold.subscribe('oslo', '{"fields": ["id", "city"], "where": "city = ''Oslo''", "min_members": 4}');
select hold.subscribe('too few', '{"fields": ["id"], "min_members": 11}');
select status, messages, detail from segmenter_refresh('held', dry_run => true);
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select update_target, update_status, update_held from segmenter_status where name = 'held' order by 1;
select target, status, message from segmenter_log where action = 'hand over' and status = 'waiting' order by id desc limit 2;
-- Nothing is owed again and again.
select segment, messages from segmenter_run() where segment = 'held';
select hold.set('paused', '{"paused": false}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages();
select update_target, update_status, update_held from segmenter_status where name = 'held' order by 1;

-- A pause: what changes is owed. A member who comes and leaves, or comes back as before.
select hold.set('paused', '{"paused": true}');
select status, messages, detail from segmenter_refresh('held');
select * from hold.kept;
delete from hold.people where id in (1, 2);
update hold.people set city = 'Bergen' where id = 3;
insert into hold.people values (11, 'e11', 'Oslo');
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select * from hold.kept;
update hold.people set city = 'Turin' where id = 3;
delete from hold.people where id = 11;
insert into hold.people values (2, 'e2', 'Oslo');
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select * from hold.kept;
select detail, status from segmenter_doctor() where "check" = 'deliveries' and detail like '%held back%' order by 1;
select hold.set('paused', '{"paused": null}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages();
select * from hold.kept;

-- Fewer members than min_members: nothing goes, not even removals.
delete from hold.people where id in (4, 5);
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select * from hold.kept;
select detail, hint from segmenter_doctor() where "check" = 'deliveries' and status = 'warning' order by 1;
select update_target, update_held from segmenter_status where name = 'held' and update_held is not null order by 1;
select segment, messages from segmenter_run() where segment = 'held';
select segmenter_resync('hold', 'held', 'few');
-- Enough again.
insert into hold.people values (4, 'e4', 'Oslo'), (12, 'e12', 'Rome');
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select * from hold.kept;
-- A lower limit does not need a refresh; with a higher one nothing changes.
delete from hold.people where id in (6, 7);
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select hold.set('few', '{"min_members": 6}'), hold.set('oslo', '{"min_members": 40}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages();
select * from hold.kept;
select segment, messages from segmenter_run() where segment = 'held';

-- People on a list leave, whatever is held back: those who are members, those who have left, as the consumer has them.
select hold.set('oslo', '{"min_members": 1}'), hold.set('few', '{"min_members": 1}');
select segment, messages from segmenter_run() where segment = 'held';
select count(*) > 0 as messages from hold.messages();
select hold.set('paused', '{"paused": true}'), hold.set('few', '{"min_members": 50}'), hold.set('oslo', '{"paused": true}');
delete from hold.people where id = 8;
update hold.people set city = 'Oslo' where id = 9;
update hold.people set city = 'Rome' where id = 10;
insert into hold.people values (13, 'e13', 'Oslo');
select status, messages, detail from segmenter_refresh('held');
select * from hold.messages();
select * from hold.kept;
-- 8 has left, 9 and 10 have changed, 12 stays, 13 is not known to those that are held back.
insert into hold.refused values (8), (9), (10), (12), (13);
select status, added from segmenter_refresh('held refused');
select * from hold.messages();
select * from hold.kept;
-- Somebody who has left, alone.
delete from hold.people where id = 2;
select status from segmenter_refresh('held');
select * from hold.messages();
insert into hold.refused values (2);
select status, added, messages, detail from segmenter_refresh('held refused');
select l.action, l.status, l.message, l.reason, l.removed from segmenter_log l where l.segment_name = 'held' and l.action in ('exclude', 'hand over')
and l.run_id = (select run_id from segmenter_log where segment_name = 'held refused' order by id desc limit 1) order by l.id;
select * from hold.messages();
select * from hold.kept;
-- In the end each has what the segment is.
select hold.set('paused', '{"paused": false}'), hold.set('few', '{"min_members": 1}'), hold.set('oslo', '{"paused": false}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages();
select * from hold.kept;

-- Many, in little memory.
set work_mem = '64kB';
truncate hold.refused;
insert into hold.people select g, 'e' || g, 'Oslo' from generate_series(1001, 3000) g;
select status from segmenter_refresh('held refused');
select status, added from segmenter_refresh('held');
select hold.set('paused', '{"paused": true}'), hold.set('oslo', '{"paused": true}');
update hold.people set city = 'Rome' where id > 2000;
select status, changed from segmenter_refresh('held');
select target, operation, length(members) > 1000 as has_many from hold.messages();
insert into hold.refused select g from generate_series(1001, 3000) g;
select status, added from segmenter_refresh('held refused');
select u.target, o.operation, sum(o.members), min(length(o.payload -> 'members' -> 0 ->> 'city')) as city
from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
where o.id > (select through from hold.seen) group by u.target, o.operation order by u.target;
select count(*) > 0 as messages from hold.messages();
select hold.set('paused', '{"paused": false}'), hold.set('oslo', '{"paused": false}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages();
delete from hold.people where id > 1000;
reset work_mem;

-- Erasure: of those who have left, as the consumer has them.
truncate hold.refused;
insert into hold.people select g, 'e' || g, 'Oslo' from generate_series(1, 12) g on conflict do nothing;
select status from segmenter_refresh('held refused');
select status from segmenter_refresh('held');
select count(*) > 0 as messages from hold.messages();
select hold.set('paused', '{"paused": true}');
update hold.people set city = 'Rome' where id = 1;
delete from hold.people where id = 2;
insert into hold.people values (14, 'e14', 'Oslo');
select status from segmenter_refresh('held');
select * from hold.messages();
select segment, rows, messages from segmenter_erase('1') order by segment;
select segment, rows, messages from segmenter_erase('2') order by segment;
select segment, rows, messages from segmenter_erase('14') order by segment;
select * from hold.messages() where target = 'paused';
select * from hold.kept where target = 'paused';
delete from hold.people where id in (1, 14);
select status from segmenter_refresh('held');
select count(*) > 0 as messages from hold.messages();

-- Rows that were changed by hand: it is not known what the consumer has.
delete from hold.members where id = '3';
select status, messages, detail from segmenter_refresh('held');
select * from hold.kept where target = 'paused';
select count(*) > 0 as messages from hold.messages();
insert into hold.refused values (4);
select status, added from segmenter_refresh('held refused');
select * from hold.messages() where target = 'paused';
-- Another filter and other fields, while it is held back; the end is not.
select hold.set('paused', '{"where": "city = ''Rome''", "fields": ["id"]}');
select segment, messages from segmenter_run() where segment = 'held';
select status from segmenter_refresh('held');
select * from hold.messages() where target = 'paused';
select hold.set('paused', '{"paused": false}');
select segment, messages from segmenter_run() where segment = 'held';
select * from hold.messages() where target = 'paused';
select * from hold.kept where target = 'paused';
select hold.set('paused', '{"paused": true}');
delete from hold.people where id = 11;
select status from segmenter_refresh('held');
select count(*) > 0 as messages from hold.messages();
update segmenter_subscriptions set actual_end = now() where target in ('paused', 'too few');
select segment, messages from segmenter_run() where segment = 'held';
select target, operation from hold.messages();
select * from hold.kept where target = 'paused';

-- Who may see what is withheld.
select has_table_privilege('public', 'segmenter_withheld', 'select') as public, relrowsecurity as by_rows from pg_class where oid = 'segmenter_withheld'::regclass;
select hold.subscribe('wrong', '{"paused": "yes"}');
select hold.subscribe('wrong', '{"min_members": -1}');
\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name = 'held');
update segmenter_segments set exclude = '[]' where name = 'held';
delete from segmenter_segments where name in ('held', 'held refused');
delete from segmenter_log where segment_name in ('held', 'held refused');
delete from segmenter_consumers where name = 'hold';
drop schema hold cascade;
