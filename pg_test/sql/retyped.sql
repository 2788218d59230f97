-- A column of a segment table gets another type: a delta would remove and change values that no consumer has, so all members are handed over.
\i setup/columns.sql
create schema retyped;
create table retyped.people (id int primary key, points text, city text);
insert into retyped.people select g, g, 'Oslo' from generate_series(1, 5) g;
create table retyped.refused (id int primary key);
create table retyped.members (:columns, points int, city text);
create unique index on retyped.members (id) where actual_end = 'infinity';
create table retyped.listed (:columns, unique (id));
insert into segmenter_segments (name, table_name, guards, refresh_params) values
    ('retyped', 'retyped.members', '{"allow_empty": true}', '{"query": {"sql": "select id, points::numeric as points, city from retyped.people"}}'),
    ('retyped list', 'retyped.listed', '{"allow_empty": true}', '{"query": {"sql": "select id from retyped.refused"}}');
update segmenter_segments set exclude = '["retyped list"]' where name = 'retyped';
insert into segmenter_consumers (name) values ('retyped');
insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
select c.id, s.id, t.target, t.params::jsonb from segmenter_consumers c, segmenter_segments s, (values
    ('points', '{"fields": {"id": "key", "points": "points"}}'), ('city', '{"fields": ["id", "city"]}'), ('all', '{"mode": "replace", "fields": ["id", "points"]}')
) t (target, params) where c.name = 'retyped' and s.name = 'retyped';
-- The messages since the last look.
create table retyped.seen (through bigint); insert into retyped.seen select coalesce(max(id), 0) from segmenter_outbox;
create function retyped.messages() returns table (target text, operation text, members jsonb) language plpgsql as $$
begin
    return query select u.target, o.operation, o.payload -> 'members'
    from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
    where o.id > (select s.through from retyped.seen s) order by u.target, o.id;
    update retyped.seen set through = coalesce((select max(id) from segmenter_outbox), 0);
end $$;
create view retyped.handed as
select u.target, h.field_types, h.withheld from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id
where u.target in ('points', 'city', 'all') and u.segment_id = (select id from segmenter_segments where name = 'retyped');
create view retyped.logged as
select l.target, l.reason, l.message, l.params -> 'operations' as operations, l.added, l.removed, l.coverage
from segmenter_log l where l.segment_name = 'retyped' and l.action = 'hand over'
and l.run_id = (select k.run_id from segmenter_log k where k.segment_name = 'retyped' order by k.id desc limit 1);

select status from segmenter_refresh('retyped list');
select status, messages, detail from segmenter_refresh('retyped');
select target, operation from retyped.messages();
select * from retyped.handed order by target;

-- The consumer has 1, the table has 1.00: nothing that a delta removes would be what the consumer has.
alter table retyped.members alter points type numeric(10,2);
delete from retyped.people where id = 1;
select status, removed, messages, detail from segmenter_refresh('retyped', dry_run => true);
select status, removed, messages, detail from segmenter_refresh('retyped');
select * from retyped.messages();
select * from retyped.logged order by target;
select * from retyped.handed order by target;
-- From then on there are deltas again.
delete from retyped.people where id = 2;
select status, removed, messages, detail from segmenter_refresh('retyped');
select * from retyped.messages();
-- A refresh that changes no member: the consumer has the old values nevertheless.
alter table retyped.members alter points type numeric(10,1);
select status, changed, messages, detail from segmenter_refresh('retyped');
select target, operation, members from retyped.messages() where target <> 'all';

-- What was handed over by an earlier version has no types: the present ones count.
update segmenter_handovers h set field_types = null from retyped.handed t join segmenter_subscriptions u on u.target = t.target where u.id = h.subscription_id and t.target in ('points', 'city');
select status, messages, detail from segmenter_refresh('retyped');
select target, operation from retyped.messages();
select * from retyped.handed order by target;

-- Members leave since a list has them: that is a delta, too.
alter table retyped.members alter points type int;
insert into retyped.refused values (3);
select status from segmenter_refresh('retyped list');
select * from retyped.messages();
select * from retyped.logged order by target;

-- While changes are held back, what the consumer has is not known any more.
update segmenter_subscriptions set params = params || '{"paused": true}' where target = 'points';
update retyped.people set points = 40 where id = 4;
select status, changed, detail from segmenter_refresh('retyped');
select * from retyped.handed order by target;
alter table retyped.members alter points type bigint;
update retyped.people set points = 50 where id = 5;
select status, changed, detail from segmenter_refresh('retyped');
select * from retyped.handed order by target;
update segmenter_subscriptions set params = params - 'paused' where target = 'points';
select segment, status, messages from segmenter_run() where segment = 'retyped';
select * from retyped.messages() where target = 'points';
select * from retyped.handed order by target;
-- A new name has no members, so that it says nothing of types.
alter table retyped.members alter points type text;
update segmenter_subscriptions set name = 'renamed' where target = 'points';
select segment, status, messages from segmenter_run() where segment = 'retyped';
select * from retyped.handed where target = 'points';
select * from retyped.messages() where target = 'points';
select status, detail from segmenter_refresh('retyped');
select * from retyped.messages() where target = 'points';

\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where consumer_id = (select id from segmenter_consumers where name = 'retyped');
delete from segmenter_segments where name like 'retyped%';
delete from segmenter_log where segment_name like 'retyped%';
delete from segmenter_consumers where name = 'retyped';
drop schema retyped cascade;
