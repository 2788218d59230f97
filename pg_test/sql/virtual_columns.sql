-- Generated columns that are not stored: a trigger does not get their values, and whoever reads rows as they are stored finds none.
create schema virtual;
create table virtual.people (pk int primary key, id text generated always as ('c' || pk) virtual, vip boolean, city text);
insert into virtual.people values (1, default, true, 'Oslo'), (2, default, false, 'Rome');
select segmenter_create_segment('virtual', 'select id from virtual.people where vip', table_name => 'virtual.members') is not null as is_created;
-- Its changes are not captured.
select segmenter_watch('virtual.people');
do $$ begin perform segmenter_watch('virtual.people'); exception when feature_not_supported then raise notice '%', sqlstate; end $$;
create table virtual.parent (pk int, id text generated always as ('c' || pk) virtual) partition by range (pk);
create table virtual.part partition of virtual.parent default;
select segmenter_watch('virtual.parent');
select count(*) from pg_trigger where tgrelid in ('virtual.people'::regclass, 'virtual.part'::regclass);
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["virtual.people"], "sql": "select c.id from virtual.people c join changed using (id) where vip"}}' where name = 'virtual';
select status, detail from segmenter_refresh('virtual');
-- Those of the column that it is made of are.
select segmenter_watch('virtual.people', 'pk');
update segmenter_segments set guards = '{"allow_empty": true}', refresh_params = '{"incremental": {"watch": [{"table": "virtual.people", "id": "pk"}], "sql": "select pk as id, c.city as city from virtual.people c join changed on pk = changed.id::int where vip"}}' where name = 'virtual';
alter table virtual.members add column city text;
select status, coverage from segmenter_refresh('virtual');
update virtual.people set vip = true where pk = 2;
insert into virtual.people (pk, vip) values (3, true);
select ids from segmenter_changes where source = 'virtual.people'::regclass order by xid;
select status, added, coverage, detail from segmenter_refresh('virtual');

-- A watched column that becomes virtual later, under its name: the ids that were captured before count for nothing.
create table virtual.later (id text primary key, pk int);
insert into virtual.later values ('1', 1), ('2', 2);
select segmenter_watch('virtual.later');
select segmenter_create_segment('virtual later', 'select id from virtual.later', table_name => 'virtual.later_members') is not null as is_created;
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["virtual.later"], "sql": "select l.id from virtual.later l join changed using (id)"}}' where name = 'virtual later';
select status, coverage from segmenter_refresh('virtual later');
select status, coverage from segmenter_refresh('virtual later');
select params #>> '{incremental,pass}' as pass from segmenter_log where segment_name = 'virtual later' order by id desc limit 1;
alter table virtual.later drop column id;
alter table virtual.later add column id text generated always as (pk::text) virtual;
insert into virtual.later (pk) values (3);
select status, coverage, detail from segmenter_refresh('virtual later');
select params #>> '{incremental,pass}' as pass from segmenter_log where segment_name = 'virtual later' order by id desc limit 1;
insert into virtual.later (pk) values (4);
select status, coverage, detail from segmenter_refresh('virtual later');
select status, detail, hint from segmenter_doctor() where status <> 'ok' and detail like '%virtual%' order by detail;
select segmenter_unwatch('virtual.later');

-- Among the columns of a segment's own table: they follow from the others.
create table virtual.own (
    like segmenter including defaults, city text, label text generated always as (city || '!') virtual,
    kept text generated always as (city || '?') stored, unique (id)
);
insert into segmenter_segments (name, table_name, refresh_params)
values ('virtual own', 'virtual.own', '{"query": {"sql": "select pk::text as id, city from virtual.people"}}');
insert into segmenter_consumers (name) values ('virtual');
insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
select c.id, s.id, p.target, p.params::jsonb from segmenter_consumers c, segmenter_segments s, (values
    ('all', '{"fields": ["id", "label", "kept"]}'), ('some', '{"fields": ["id", "label"], "where": "label = ''Bonn!''"}')
) p (target, params) where c.name = 'virtual' and s.name = 'virtual own';
select status, added, changed, coverage, messages from segmenter_refresh('virtual own');
update virtual.people set city = 'Bonn' where pk = 2;
delete from virtual.people where pk = 1;
select status, added, removed, changed, messages from segmenter_refresh('virtual own');
select status, added, removed, changed, messages from segmenter_refresh('virtual own');
select u.target, o.operation, o.payload -> 'members' as members from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
where o.payload -> 'segment' ->> 'name' = 'virtual own' order by u.target, o.id;
select id, city, label, kept from virtual.own where actual_end = 'infinity' order by id;
-- It cannot be given by the query.
select status, detail from segmenter_refresh('virtual own', 'select pk::text as id, city, id as label from virtual.people');
-- Changed by hand, and with history: periods are closed and begun.
update virtual.own set city = 'Oslo' where id = '3';
select status, changed, messages from segmenter_refresh('virtual own');
create table virtual.history (
    like segmenter including defaults, city text, label text generated always as (city || '!') virtual
);
create unique index on virtual.history (segment_id, id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params)
values ('virtual history', 'virtual.history', '{"query": {"sql": "select pk::text as id, city from virtual.people"}}');
select status, added from segmenter_refresh('virtual history');
update virtual.people set city = 'Kiel' where pk = 2;
select status, added, changed from segmenter_refresh('virtual history');
select id, label, actual_end = 'infinity' as is_current from virtual.history order by id, actual_end;
-- Not for the key, which takes a unique index.
create table virtual.key (
    segment_id uuid not null, n int, id varchar generated always as (n::varchar) virtual, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null, actual_end timestamp not null, processed timestamp not null
);
insert into segmenter_segments (name, table_name, refresh_params) values ('virtual key', 'virtual.key', '{"query": {"sql": "select 1 as id"}}');

-- In the source checks: as a load time, in a filter.
create table virtual.loads (day date, at timestamptz, loaded timestamptz generated always as (at) virtual, is_done boolean generated always as (day is not null) virtual);
update segmenter_segments set sources = '[{"table": "virtual.loads", "loaded_at": "loaded", "error_after": "1 day", "filter": "is_done", "min_rows": 1}]' where name = 'virtual own';
select status, detail from segmenter_refresh('virtual own');
insert into virtual.loads values ('2026-01-01', now() - interval '2 days'), (null, now());
select status, detail from segmenter_refresh('virtual own');
insert into virtual.loads values ('2026-01-02', now());
select status, detail from segmenter_refresh('virtual own');
-- A person in a virtual column of a segment's table is found by the id, and the column needs no erasing.
select segment, rows from segmenter_erase('2') where segment like 'virtual%' order by 1;
select count(*) from virtual.own where id = '2';

set client_min_messages = error;
delete from segmenter_subscriptions where consumer_id = (select id from segmenter_consumers where name = 'virtual');
delete from segmenter_consumers where name = 'virtual';
delete from segmenter_segments where name like 'virtual%';
delete from segmenter_log where segment_name like 'virtual%';
delete from segmenter_outbox;
select segmenter_unwatch('virtual.people');
drop schema virtual cascade;
select segmenter_prune();
