-- What is written into the config and cannot work is said when it is written: an error where it is wrong whatever
-- comes, a WARNING where what it refers to may follow.
create schema written;
create role written_owner;
create role written_consumer;
grant usage, create on schema written to written_owner;
create table written.orders (id int, loaded_at timestamptz, note text);
grant select on written.orders to written_owner;
set role written_owner;
select segmenter_create_segment('written', 'select 1 as id', table_name => 'written.segment') is not null as created;
create function written.refresh(params jsonb) returns void language sql as $$
    update segmenter_segments set refresh_params = params where name = 'written'
$$;
create function written.source(source jsonb) returns void language sql as $$
    update segmenter_segments set sources = jsonb_build_array(source) where name = 'written'
$$;

-- Queries: not SQL, nothing, unknown names, columns that the table cannot take. The line and the column are named.
select written.refresh('{"query": {"sql": "selekt 1"}}');
select written.refresh('{"query": {"sql": ""}}');
select written.refresh('{"query": {"sql": "select id from orders"}}');
select written.refresh(jsonb_build_object('query', jsonb_build_object('sql', E'select id\nfrom written.orders\nwhere id = any (array[1, 2)')));
select written.refresh('{"query": {"sql": "select id, nothing from written.orders"}}');
select written.refresh('{"query": {"sql": "select id, true as other from written.orders"}}');
select written.refresh('{"query": {"sql": "select note from written.orders"}}');
select written.refresh('{"query": {"sql": "select written_missing(id) as id from written.orders"}}');
select written.refresh('{"query": {"sql": "delete from written.orders returning id"}}');
select written.refresh('{"procedure": {"sql": "call written.nothing()"}}');
select written.refresh('{"procedure": {"sql": "select 1"}}');
select written.refresh('{"incremental": {"changed": "select id from written.nothing where at > $1", "sql": "select id from changed", "full_cron": "@daily"}}');
select written.refresh('{"incremental": {"changed": "select id from written.orders where loaded_at > $1", "sql": "select id from unchanged", "full_cron": "@daily"}}');

-- The row is written; one that works is written without a word, and so are changes of other columns.
update segmenter_segments set description = 'still wrong' where name = 'written' returning refresh_params -> 'incremental' ->> 'sql' as sql;
select written.refresh('{"query": {"sql": "select id from written.orders"}}');
insert into segmenter_segments (name, table_name, refresh_params) values ('written too', 'written.segment', '{"query": {"sql": "select 1 as id from written.nothing"}}');
select segmenter_create_segment('written third', 'select 1 as id', table_name => 'written.third') is not null as created;
begin;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from written.nothing"}}' where name = 'written third';
rollback;

-- With the rights of the segment's owner: what it may read is known at a refresh only, so this is no warning.
reset role;
revoke select on written.orders from written_owner;
set role written_owner;
select written.refresh('{"query": {"sql": "select id, 1 as one from written.orders"}}');
select written.refresh('{"query": {"sql": "select 1 as id"}}');
reset role;
grant select on written.orders to written_owner;
set role written_owner;

-- An automatic segment without a refresher.
update segmenter_segments set refresh_params = '{}' where name = 'written';
update segmenter_segments set refresh_auto = true where name = 'written';
update segmenter_segments set refresh_auto = false where name = 'written';
select written.refresh('{"query": {"sql": "select 1 as id"}}');

-- Sources.
select written.source('{"table": "written.nothing", "min_rows": 1}');
select written.source('{"table": "written.orders", "loaded_at": "loaded", "error_after": "1 day"}');
select written.source('{"table": "written.orders", "min_rows": 1, "filter": "id = any (array[1)"}');
select written.source('{"name": "orders", "ready": "select count(*) from written.orders"}');
select written.source('{"name": "orders", "ready": "selekt true"}');
select written.source('{"table": "written.orders", "loaded_at": "loaded_at", "error_after": "10 minuten"}');
select written.source('{"table": "written.orders"}');
select written.source('{"table": "written.orders", "loaded_at": "loaded_at", "min_rows": 1, "filter": "id > 0"}');

-- A limit that only warns keeps nothing back, not even where nothing was loaded yet.
select written.source('{"table": "written.orders", "loaded_at": "loaded_at", "warn_after": "1 day"}');
select status, detail from segmenter_refresh('written');
select written.source('{"table": "written.orders", "loaded_at": "loaded_at", "warn_after": "1 day", "error_after": "2 days"}');
select status, detail from segmenter_refresh('written');
-- An error names its source; an answer is one row.
reset role;
insert into written.orders values (1, now(), 'x'), (2, now(), 'y');
set role written_owner;
select written.source('{"table": "written.orders", "loaded_at": "note", "error_after": "1 day"}');
select status, detail from segmenter_refresh('written');
select written.source('{"name": "orders", "ready": "select true from written.orders"}');
select status, detail from segmenter_refresh('written');
update segmenter_segments set sources = '[]' where name = 'written';

-- Names, targets and the names of audiences.
update segmenter_segments set name = ' ' where name = 'written';
update segmenter_segments set name = 'written third' where name = 'written';
update segmenter_segments set actual_end = actual_begin - interval '1 day' where name = 'written';
select segmenter_subscribe('written crm', 'written', '');
select segmenter_subscribe(' ', 'written', 'mail');
select segmenter_subscribe('written crm', 'written', 'mail') is not null as subscribed;
update segmenter_subscriptions set target = E' \t' where target = 'mail';
update segmenter_subscriptions set name = '' where target = 'mail';
update segmenter_subscriptions set name = '{{nmae}} for {{consumer}}' where target = 'mail';
update segmenter_subscriptions set name = '{{name}} for {{consumer}}' where target = 'mail';
update segmenter_subscriptions set actual_end = actual_begin - interval '1 day', name = 'x' where target = 'mail';

-- What subscriptions refer to stays, and says why.
reset role;
delete from segmenter_segments where name = 'written';
delete from segmenter_consumers where name = 'written crm';
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select id, '00000000-0000-0000-0000-000000000001', 'x' from segmenter_consumers where name = 'written crm';
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select '00000000-0000-0000-0000-000000000002', id, 'x' from segmenter_segments where name = 'written';
set role written_owner;

-- A consumer that did not exist: its name may be misspelt, or that of a retired one.
select segmenter_subscribe('written crn', 'written', 'mail') is not null as subscribed;
update segmenter_consumers set actual_end = now() where name = 'written crn';
select segmenter_subscribe('written crn', 'written third', 'mail') is not null as subscribed;
insert into segmenter_consumers (name, role) values ('written spare', 'written_owner');
update segmenter_consumers set name = 'written crm' where name = 'written spare';

-- Functions of consumers.
reset role;
insert into segmenter_consumers (name, params) values ('written f1', '{"updater": {"function": {"name": "written.push(jsonb)"}}}');
update segmenter_consumers set role = 'written_consumer' where name = 'written f1';
grant usage on schema written to written_consumer;
create function written.push(message jsonb, number int) returns jsonb language sql as 'select $1';
update segmenter_consumers set params = '{"updater": {"function": {"name": "written.push(jsonb, int)"}}}' where name = 'written f1';
create function written.push(message jsonb) returns jsonb language sql as 'select $1';
update segmenter_consumers set params = '{"updater": {"function": {"name": "written.push(jsonb)"}}}' where name = 'written f1';
update segmenter_consumers set params = '{"updater": {"http": {"url": "https://nowhere.example.com", "timeout": "-1 s"}}}' where name = 'written f1';
update segmenter_consumers set params = '{"updater": {"http": {"url": "https://nowhere.example.com"}}}' where name = 'written f1';
update segmenter_consumers set actual_end = now() where name = 'written f1';

-- Values of wrong types, in the words of JSON.
update segmenter_segments set guards = '{"min_members": -1}' where name = 'written';
update segmenter_segments set guards = '{"max_change": "30%"}' where name = 'written';
update segmenter_segments set guards = '{"max_added": "10"}' where name = 'written';
update segmenter_segments set guards = '{"max_removed": 1.5}' where name = 'written';
update segmenter_segments set refresh_params = '{"incremental": {"watch": "written.orders", "sql": "select 1 as id"}}' where name = 'written';
update segmenter_segments set refresh_params = '{"query": {"sql": 5}}' where name = 'written';
update segmenter_segments set sources = '[{"table": 5, "min_rows": 1}]' where name = 'written';
update segmenter_subscriptions set params = '{"mode": 1}' where target = 'mail';
update segmenter_subscriptions set params = '{"mode": "all"}' where target = 'mail';
update segmenter_subscriptions set params = '{"batch_size": 99999999999999}' where target = 'mail';
update segmenter_consumers set params = '{"max_attempts": 99999999999999}' where name = 'written crm';
update segmenter_consumers set params = '{"updater": {"http": {"url": 5}}}' where name = 'written crm';
update segmenter_consumers set params = '{"updater": {"http": {"url": "https://x", "timeout": "soon"}}}' where name = 'written crm';

-- The function that creates says what is wrong, and creates nothing.
set role written_owner;
select segmenter_create_segment('written x', 'select id from people', table_name => 'written.x');
select segmenter_create_segment('written x', E'select id from written.orders\nwhere id = any (array[1, 2)', table_name => 'written.x');
select segmenter_create_segment('written', 'select 1 as id', table_name => 'written.x');
select segmenter_create_segment('written x', 'select 1 as id', table_name => 'written.segment');
reset role;
create schema written_closed;
grant usage on schema written_closed to written_owner;
set role written_owner;
select set_config('search_path', 'written_closed, ' || current_setting('search_path'), false) is not null as is_set;
select segmenter_create_segment('written x', 'select 1 as id');
reset search_path;
select segmenter_subscribe('written crm', 'written', 'mail');
select status, detail from segmenter_refresh('written', 'select id from people');
reset role;
set segmenter.http_allow = 'https://x.example.com, api.example.com';
set segmenter.timezone = 'Mars';

set client_min_messages = error;
delete from segmenter_outbox where consumer_id in (select id from segmenter_consumers where name like 'written %');
delete from segmenter_subscriptions where consumer_id in (select id from segmenter_consumers where name like 'written %');
delete from segmenter_consumers where name like 'written %';
delete from segmenter_log where segment_name like 'written%' or segment_name = ' ';
delete from segmenter_segments where name like 'written%';
drop schema written, written_closed cascade;
drop role written_owner, written_consumer;
