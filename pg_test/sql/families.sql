-- Families: one query gives the members of many segments.
\i setup/columns.sql
\set VERBOSITY default
set client_min_messages = notice;
create schema family;
create table family.people (id int primary key, email text, city text, spent int not null default 1);
insert into family.people select g, 'h' || g, (array['Oslo', 'Rome', 'Kyiv'])[g % 3 + 1], g * 10 from generate_series(1, 30) g;
-- What a refresh says of the family and its segments.
create function family.refresh(name text, dry_run boolean default false, "full" boolean default false, force boolean default false)
returns table (segment text, status text, figures text, coverage bigint, messages bigint, detail text) language sql as $$
    select segment, status, concat_ws(' ', '+' || added, '-' || removed, '~' || changed, 'x' || nullif(excluded, 0)), coverage, messages, detail
    from segmenter_refresh(name, dry_run => dry_run, "full" => "full", force => force)
$$;
-- The family, and the table for all of its segments. (When it is due is said in a NOTICE.)
set client_min_messages = warning;
select * from segmenter_put_segment('cities', refresh_cron => '@daily', table_name => 'family.members', refresh_params => jsonb_build_object('query', jsonb_build_object(
    'family', true, 'sql', 'select id, email as note, ''city: '' || city as segment from family.people where spent > 0; -- all')));
set client_min_messages = notice;
select * from segmenter_put_segment('city: Oslo', refresh_params => '{"family": "cities"}');
select * from segmenter_put_segment('city: Rome', refresh_params => '{"family": "cities"}');
select * from segmenter_put_segment('city: Nowhere', refresh_params => '{"family": "cities"}');
select attname from pg_attribute where attrelid = 'family.members'::regclass and attnum > 0 order by attnum;
-- The members that there are, and those that there should be: of each segment in a query of its own.
create view family.wrong as
    with kept as (
        select s.name as segment, m.id, m.note from family.members m join segmenter_segments s on s.id = m.segment_id
        where m.actual_end = 'infinity'
    ), wanted as (
        select s.name, p.id::text, p.email from segmenter_segments s join family.people p on s.name = 'city: ' || p.city
        where p.spent > 0 and s.refresh_params ? 'family' and s.actual_end = 'infinity'
    )
    (table kept except table wanted) union all (table wanted except table kept);
select segment, due, reason from segmenter_due() where segment like 'cit%' order by segment;
select * from family.refresh('cities', dry_run => true);
select * from family.refresh('cities');
select * from family.refresh('cities');
table family.wrong;
select segment_name, status, added, coverage, message from segmenter_log where action = 'refresh' order by id;

-- People move, come and go.
update family.people set city = 'Rome' where id in (3, 6);
update family.people set email = 'new' where id = 9;
delete from family.people where id = 12;
insert into family.people values (31, 'h31', 'Nowhere');
select * from segmenter_diff('city: Oslo') order by operation, id;
select segment, status, added, removed, changed from segmenter_refresh('city: Rome');
select * from family.refresh('cities');
table family.wrong;
-- A segment alone, as part of a query of its own, and what is asked of one.
update family.people set city = 'Oslo' where id = 3;
select * from family.refresh('city: Rome');
select * from family.refresh('city: Oslo');
select segment, status, added, removed from segmenter_refresh('city: Oslo', 'select 1 as id', dry_run => true);
select segment, status, detail from segmenter_refresh('cities', 'select 1 as id, ''city: Oslo'' as segment');
select step, verdict from segmenter_explain('city: Oslo', '3');
select step, verdict from segmenter_explain('city: Oslo', '6');
select * from segmenter_diff('cities');
select * from segmenter_explain('cities', '3');
select * from segmenter_members('cities');
select segment, other, common from segmenter_overlap('{city: Oslo, cities}');
select * from segmenter_venn('{cities}');

-- A guard keeps one segment as it was.
update segmenter_segments set guards = '{"max_removed": 1}' where name = 'city: Rome';
update family.people set city = 'Oslo' where city = 'Rome';
select * from family.refresh('cities');
select * from family.refresh('cities', force => true);
table family.wrong;

-- Rows of names that no segment has are counted and named; segments can be made for them.
insert into family.people select g, 'k' || g, 'City ' || g / 2 from generate_series(100, 113) g;
insert into family.people values (114, 'k114', null);
select detail from family.refresh('cities') limit 1;
insert into segmenter_consumers (name, params) values ('ads', '{}');
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{query,create}',
    '{"guards": {"max_members": 2}, "context": "spring", "subscriptions": [{"consumer": "ads", "target": "cities"}]}') where name = 'cities';
update segmenter_segments set actual_end = now() where name = 'city: Nowhere';
select * from family.refresh('cities', dry_run => true) where segment = 'cities';
select * from family.refresh('cities');
select name, guards, context, refresh_auto, table_name from segmenter_segments where name like 'city: C%' order by name;
table family.wrong;
select s.name, o.operation from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id join segmenter_segments s on s.id = u.segment_id order by o.id limit 4;
-- A subscription that cannot be made: neither can the segment. The log says why, for those who see no WARNING.
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{query,create,subscriptions}', '[{"consumer": "none"}]') where name = 'cities';
insert into family.people values (120, 'k120', 'Nice');
select detail from family.refresh('cities') limit 1;
select message from segmenter_log where segment_name = 'cities' order by id desc limit 1;
select count(*) from segmenter_segments where name = 'city: Nice';
update segmenter_segments set actual_end = now() where name like 'city: C%' or name like 'city: K%';
delete from family.people where id >= 100;

-- Lists and priorities within a family.
create table family.listed (id int);
select segmenter_create_segment('stop', 'select id from family.listed', table_name => 'family.stop') is not null as made;
update segmenter_segments set is_suppression = true, guards = '{"allow_empty": true}' where name = 'stop';
insert into family.listed values (2), (5);
select segment, status, added from segmenter_refresh('stop');
update segmenter_segments set exclude = '["city: Oslo"]', guards = '{}' where name = 'city: Rome';
update family.people set city = 'Rome' where id between 20 and 24;
update family.people set city = 'Oslo' where id between 1 and 5;
select * from family.refresh('cities') where segment in ('city: Oslo', 'city: Rome');
select count(*) from family.wrong where id not in ('2', '5');
delete from family.listed;
select segment, status, removed from segmenter_refresh('stop');
select segment, reason from segmenter_due() where due and segment like 'cit%' order by segment;
select segment, status, added from segmenter_run() where segment in ('city: Oslo', 'city: Rome') order by segment;
table family.wrong;
-- Each leaves out the other.
update segmenter_segments set exclude = '["city: Rome"]' where name = 'city: Oslo';
select segment, status from family.refresh('cities') where segment in ('cities', 'city: Oslo', 'city: Rome');
update segmenter_segments set exclude = '[]' where name like 'city: %';

-- A segment that reads one of a family comes after it, and waits while the family fails.
select segmenter_create_segment('readers', 'select id from segmenter_members(''city: Oslo'')', '@daily', 'family.readers') is not null as made;
update segmenter_segments set actual_begin = now() - interval '3 days' where name in ('cities', 'readers');
select segment, status from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'readers');
alter table family.people rename to persons;
select segment, status from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'readers');
alter table family.persons rename to people;
select segment, status from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'readers');
select segment, status from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'readers');
-- What a family reads its segments read too, from the moment that its row is written.
create view family.reads as select segment, reads from segmenter_lineage where segment in ('cities', 'city: Oslo') and kind = 'segment' order by 1;
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{query,sql}', '"select id, email as note, ''city: '' || city as segment from family.people where id::text in (select id from segmenter_members(''readers''))"') where name = 'cities' returning name;
table family.reads;
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{query,sql}', '"select id, email as note, ''city: '' || city as segment from family.people where spent > 0"') where name = 'cities' returning name;
table family.reads;
-- A segment that is held rests; by hand it is refreshed.
update segmenter_segments set hold_until = now() + interval '1 hour' where name = 'city: Oslo';
select segment, status from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'city: Rome') order by segment;
select segment, status from family.refresh('cities') where segment = 'city: Oslo';
update segmenter_segments set hold_until = null where name = 'city: Oslo';
-- One with a schedule of its own is refreshed with its family in a run of both.
update segmenter_segments set refresh_cron = '@hourly', actual_begin = now() - interval '3 days' where name = 'city: Rome';
select segment, count(*) from segmenter_run(true) where segment in ('cities', 'city: Oslo', 'city: Rome') group by 1 order by 1;
update segmenter_segments set refresh_cron = null where name = 'city: Rome';

-- What a family is given is not given to its segments: it has no members to leave out, to keep or to hand over.
update segmenter_segments set guards = '{"max_change": 0.5}', exempt = '{"stop": "invoices"}', priority_group = 'g', priority = 1 where name = 'cities';
update segmenter_segments set description = 'towns' where name = 'cities';
update segmenter_segments set guards = '{}', exempt = '{}', priority_group = null, priority = null where name = 'cities';
update segmenter_segments set exclude = '["cities"]' where name = 'readers';
update segmenter_segments set exclude = '[]' where name = 'readers';
select segmenter_subscribe('ads', 'cities', 'towns') is not null as subscribed;
delete from segmenter_subscriptions where target = 'towns';
-- What is wrong is refused, or a WARNING while it can be made right later.
select * from segmenter_put_segment('a', refresh_params => '{"family": "nothing"}');
insert into segmenter_segments (name, table_name, refresh_params) values ('later', 'family.members', '{"family": "nothing"}');
select segment, status, detail from segmenter_refresh('later');
update segmenter_segments set refresh_params = '{"family": "city: Oslo"}' where name = 'later';
update segmenter_segments set refresh_params = '{"family": "later"}' where name = 'later';
update segmenter_segments set refresh_params = '{"family": " "}' where name = 'later';
update segmenter_segments set refresh_params = '{"family": {"name": "cities"}}' where name = 'later';
update segmenter_segments set table_name = 'family.stop', refresh_params = '{"family": "cities"}' where name = 'later';
update segmenter_segments set refresh_params = '{"family": "later"}' where name = 'cities';
set segmenter.force_retire = on;
delete from segmenter_segments where name = 'later';
reset segmenter.force_retire;
-- A family goes after its segments.
update segmenter_segments set actual_end = now() where name = 'cities';
update segmenter_segments set name = 'towns' where name = 'cities';
delete from segmenter_segments where name = 'cities';
select segmenter_drop_segment('cities');
-- It is none any more.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from family.people"}}' where name = 'cities';
select segment, status, detail from segmenter_refresh('city: Rome');
select step, verdict, detail from segmenter_explain('city: Rome', '3') where step = 'query';
select detail, hint from segmenter_doctor() where "check" = 'families';
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id", "family": true}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, 7 as segment", "family": true}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment, ''y'' as segment", "family": true}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id", "create": {}}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true, "create": {"guard": {}}}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true, "create": {"guards": {"max_members": "x"}}}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true}}', table_name => 'family.stop');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": 1}}', table_name => 'family.b');

select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true, "create": true}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true, "create": {"subscriptions": ["ads"]}}}', table_name => 'family.b');
select * from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, ''x'' as segment", "family": true, "create": {"subscriptions": [{"consumer": "ads", "params": {"mode": "all"}}]}}}', table_name => 'family.b');
-- Names that no segment can have, or that are long.
set client_min_messages = error;
select action from segmenter_put_segment('b', refresh_params => '{"query": {"sql": "select 1 as id, '' '' as segment union all select 2, repeat(''x'', 3000)", "family": true, "create": {}}}', table_name => 'family.b');
select status, detail from segmenter_refresh('b') where segment = 'b';
update segmenter_segments set actual_end = now() where name like 'xxx%';
select status, detail from segmenter_refresh('b');
-- With more segments than memory for the rows of each, their rows are kept together and divided later.
set maintenance_work_mem = '1MB';
create table family.many (id int primary key, note text, segment text);
insert into family.many select g, repeat('n', 600), 'many ' || g % 30 from generate_series(1, 3000) g;
select action from segmenter_put_segment('many', refresh_params => '{"query": {"sql": "select id, note, segment from family.many", "family": true, "create": {}}}', table_name => 'family.many_members');
create view family.many_wrong as
    with kept as (
        select s.name as segment, m.id, m.note from family.many_members m join segmenter_segments s on s.id = m.segment_id where m.actual_end = 'infinity'
    )
    (table kept except select segment, id::text, note from family.many) union all (select segment, id::text, note from family.many except table kept);
create function family.refresh_many() returns table (status text, segments bigint, added numeric, removed numeric, changed numeric) language sql as $$
    select status, count(*), sum(added), sum(removed), sum(changed) from segmenter_refresh('many') group by 1
$$;
select detail from segmenter_refresh('many') where segment = 'many';
-- What the rows of all take when half of the segments were refreshed, in bytes: with one relation for each it were 3 million.
update segmenter_segments set sources = '[{"name": "memory", "ready": "select sum(total_bytes) < 1500000 from pg_catalog.pg_backend_memory_contexts where name = ''segmenter relation''"}]' where name = 'many 2';
select status, detail from segmenter_refresh('many') where segment = 'many 2';
select count(*) as wrong from family.many_wrong;
update segmenter_segments set exclude = '["many 29"]' where name = 'many 0';
update family.many set segment = 'many ' || id % 33 where id % 10 = 0;
update family.many set note = 'short' where id <= 500;
delete from family.many where segment in ('many 7', 'many 8');
select * from family.refresh_many() order by 1;
update segmenter_segments set guards = '{"allow_empty": true}' where name in ('many 7', 'many 8');
select status, segments from family.refresh_many();
select count(*) as wrong from family.many_wrong;
select action from segmenter_put_segment('many', refresh_params => '{"incremental": {"changed": "select id from family.many where id % 3 = 0 or $1 < ''2000-01-01''", "sql": "select id, note, segment from family.many join changed using (id)", "family": true, "create": {}}}');
select segments from family.refresh_many();
update family.many set segment = 'many ' || (id + 1) % 33 where id % 3 = 0;
select segments from family.refresh_many();
select count(*) as wrong from family.many_wrong;
-- Of many segments the first are named.
select segmenter_drop_segment('many');
reset maintenance_work_mem;
-- One that has failed, or waits, while its family did not, is repeated alone, as others are.
create table family.few (id int, segment text);
insert into family.few select g, 'few ' || g % 3 from generate_series(1, 9) g;
select action from segmenter_put_segment('few', refresh_params => '{"query": {"sql": "select id, segment from family.few", "family": true, "create": {}}}', table_name => 'family.few_members', refresh_cron => '@yearly');
select segment, status from segmenter_refresh('few');
alter table family.few_members add constraint only_numbers check (id <> '10');
insert into family.few values (10, 'few 1');
update segmenter_segments set sources = '[{"name": "later", "ready": "select exists (select from family.few where id = 11)"}]' where name = 'few 2';
select segment, status from segmenter_refresh('few');
create view family.due as select segment, due, next_refresh > now() as is_later, reason from segmenter_due() where segment like 'few%' order by 1;
table family.due;
select segment, due, reason from segmenter_due(now() + interval '2 minutes') where segment = 'few 1';
update segmenter_segments set refresh_auto = false where name = 'few';
table family.due;
update segmenter_segments set refresh_auto = true where name = 'few';
select segment, status from segmenter_run() where segment like 'few%';
insert into family.few values (11, 'few 2');
select segment, status from segmenter_run() where segment like 'few%';
table family.due;

-- The end.
set client_min_messages = error;
set segmenter.force_retire = on;
delete from segmenter_subscriptions;
delete from segmenter_segments;
delete from segmenter_consumers;
truncate segmenter_outbox;
delete from segmenter_log;
reset segmenter.force_retire;
drop schema family cascade;
