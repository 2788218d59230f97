-- Connections to platforms are foreign servers, their secrets user mappings; connectors are data.
\i setup/schema.sql
create schema connectors;
set search_path = connectors, :schema, public;
create role connectors_marketing;
create role connectors_other;
grant usage on schema connectors, :schema to connectors_marketing, connectors_other;

select name, description, is_builtin from segmenter_connectors order by name collate "C";

-- Options of a server are checked against the spec of its connector.
\set VERBOSITY verbose
create server ads foreign data wrapper segmenter_http;
create server ads foreign data wrapper segmenter_http options (connector 'nosuch');
drop server ads;
create server ads foreign data wrapper segmenter_http options (connector 'nosuch', timeout 'soon');
create server ads foreign data wrapper segmenter_http options (connector 'meta');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account '1');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', versoin 'v26.0');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_acount 'act_1');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', customer_file_source 'friends');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', access_token 'top secret');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', url 'ftp://x');
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', timeout 'soon');
create server ads foreign data wrapper segmenter_http options (connector 'webhook');
\set VERBOSITY terse
create server ads foreign data wrapper segmenter_http options (connector 'meta', ad_account 'act_1', version 'v26.0');
create user mapping for connectors_marketing server ads options (access_token '');
create user mapping for connectors_marketing server ads options (acess_token 'top secret');
drop user mapping for connectors_marketing server ads;

-- A consumer that cannot be served yet is written with a WARNING that says what is missing.
create table members (id text, hash_email text, hash_phone text, city text);
insert into members
select n::text, encode(sha256(n::text::bytea), 'hex'), case when n > 2 then encode(sha256(('+' || n)::bytea), 'hex') end, 'Ulm'
from generate_series(1, 3) n;
insert into members values ('4', 'nobody@example.com', '5', 'Ulm');
\set VERBOSITY default
insert into segmenter_consumers (name, role, params) values ('meta', 'connectors_marketing', '{"updater": {"server": "nosuch"}}');
update segmenter_consumers set params = '{"updater": {"server": "ads"}}' where name = 'meta';
grant usage on foreign server ads to connectors_marketing;
update segmenter_consumers set params = '{"updater": {"server": "ads"}}' where name = 'meta';
create user mapping for connectors_marketing server ads options (access_token_expires 'never');
update segmenter_consumers set params = '{"updater": {"server": "ads"}}' where name = 'meta';
alter user mapping for connectors_marketing server ads options (add access_token 'top secret');
update segmenter_consumers set params = '{"updater": {"server": "ads"}}' where name = 'meta';
alter server ads options (add url 'http://127.0.0.1:9/v');
set segmenter.http_allow = 'http://127.0.0.1:9';
update segmenter_consumers set params = '{"updater": {"server": "ads"}}' where name = 'meta';
insert into segmenter_consumers (name, params) values ('wrong', '{"updater": {"server": ""}}');
insert into segmenter_consumers (name, params) values ('wrong', '{"updater": {"server": 5}}');

-- What a subscription asks for must be what the connector can do.
select segmenter_put_segment('connectors vip', 'select id, hash_email, hash_phone, city from connectors.members', table_name => 'connectors.vip') is not null as put;
select segmenter_subscribe('meta', 'connectors vip', 'ads', '{"fields": ["id", "city"]}', 'connectors_marketing');
select segmenter_subscribe('meta', 'connectors vip', 'ads', '{"batch_size": 20000}', 'connectors_marketing');
select segmenter_subscribe('meta', 'connectors vip', 'ads', consumer_role => 'connectors_marketing') as subscription \gset
create server lists foreign data wrapper segmenter_http options (connector 'vk');
create user mapping for connectors_marketing server lists options (client_id 'c', client_secret 'top secret');
grant usage on foreign server lists to connectors_marketing;
set client_min_messages = error;
insert into segmenter_consumers (name, role, params) values ('vk', 'connectors_marketing', '{"updater": {"server": "lists"}}');
reset client_min_messages;
select segmenter_subscribe('vk', 'connectors vip', 'ads', consumer_role => 'connectors_marketing');
select segmenter_subscribe('vk', 'connectors vip', 'ads', '{"fields": {"hash_email": "hash_email"}}', 'connectors_marketing') as vk \gset

-- The requests that would be made: what is no hash is not among them, and secrets are masked.
select status, added from segmenter_refresh('connectors vip');
select step, method, url, headers, jsonb_pretty(body::jsonb) as body from segmenter_render(:'subscription');
delete from members where id in ('1', '4');
select status, removed from segmenter_refresh('connectors vip');
select step, method, url, body from segmenter_render(:'subscription') where step = 'remove';
select step, method, url, regexp_replace(headers::text, 'segmenter-[0-9]+-', 'segmenter-N-') as headers from segmenter_render(:'vk');
-- Who may act for the consumer sees it.
set role connectors_other;
-- The message has the id, which is another one in each run.
\set VERBOSITY sqlstate
select * from segmenter_render(:'subscription');
\set VERBOSITY default
set role connectors_marketing;
select distinct step from segmenter_render(:'subscription') order by step;
reset role;
\set VERBOSITY terse
select * from segmenter_render('00000000-0000-0000-0000-000000000000');
\set VERBOSITY default
select segmenter_subscribe('puller', 'connectors vip', 'ads') as pulled \gset
select * from segmenter_render(:'pulled');
-- A URL without a connector.
set client_min_messages = error;
insert into segmenter_consumers (name, params) values ('url', '{"updater": {"http": {"url": "https://crm.example.com/in", "headers": {"Authorization": "top secret"}, "secret": "top secret"}}}');
reset client_min_messages;
select segmenter_subscribe('url', 'connectors vip', 'ads', '{"fields": ["id"]}') as url \gset
select status from segmenter_refresh('connectors vip');
select step, method, url, headers - 'webhook-id' - 'idempotency-key' as headers, body::jsonb ->> 'operation' as operation
from segmenter_render(:'url');

-- An audience that is gone by what the platform has said: a resync creates it again.
create view state as
select u.status, u.external_id, d.progress, d.last_error
from segmenter_subscriptions u join segmenter_deliveries d on d.subscription_id = u.id
join segmenter_consumers c on c.id = u.consumer_id and c.name = 'meta';
create procedure is_gone(is_it boolean) language sql as $$
    update segmenter_deliveries d
    set progress = jsonb_build_object('message', d.delivered_through + 1, 'gone', is_it), last_error = 'it failed', delivered_at = now(),
        delivered_through = (select max(o.id) from segmenter_outbox o where o.subscription_id = d.subscription_id and o.operation = 'create')
    from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id
    where u.id = d.subscription_id and c.name = 'meta';
    update segmenter_subscriptions u set status = 'failed', external_id = '238'
    from segmenter_consumers c where c.id = u.consumer_id and c.name = 'meta';
$$;
call is_gone(false);
select segmenter_resync(:'subscription');
table state;
select step, url from segmenter_render(:'subscription');
call is_gone(true);
select segmenter_resync(:'subscription');
table state;
select step, url from segmenter_render(:'subscription');
-- Requested by the consumer, also where nothing waits any more.
call is_gone(true);
set role connectors_marketing;
select segmenter_resync(:'subscription');
reset role;
select status from segmenter_refresh('connectors vip');
table state;
select step, url from segmenter_render(:'subscription');
call is_gone(true);
select count(segmenter_skip(:'subscription')) from generate_series(1, 5);
set role connectors_marketing;
select segmenter_resync(:'subscription');
reset role;
select status from segmenter_refresh('connectors vip');
table state;
select step, url from segmenter_render(:'subscription');
-- By a schedule no other audience is made.
call is_gone(true);
update segmenter_subscriptions set params = params || '{"resync_cron": "* * * * *"}' where id = :'subscription';
update segmenter_handovers set replaced_at = now() - interval '2 days' where subscription_id = :'subscription';
select status from segmenter_refresh('connectors vip');
select status, external_id from state;
select step, url from segmenter_render(:'subscription');
-- The end of a subscription that is not delivered.
call is_gone(true);
update segmenter_subscriptions set actual_end = now() where id = :'subscription';
select segment, messages from segmenter_run();
select status, detail, hint from segmenter_doctor() where "check" = 'deliveries';
\set VERBOSITY sqlstate
select segmenter_resync(:'subscription');
\set VERBOSITY default
drop procedure is_gone;
drop view state;

-- A message of several parts knows the first one and all members, also when delivered parts are deleted.
insert into segmenter_connectors (name, spec) values ('parts', '{
    "hosts": {"api": "https://x.example"}, "fields": {"hash_email": {"as": "email"}},
    "operations": {"create": "none", "default": [{"name": "send", "url": "/{message.first_id}/{message.total}/{message.part}"}]}}');
create server parts foreign data wrapper segmenter_http options (connector 'parts');
create user mapping for connectors_marketing server parts;
grant usage on foreign server parts to connectors_marketing;
set client_min_messages = error;
insert into segmenter_consumers (name, role, params) values ('parts', 'connectors_marketing', '{"updater": {"server": "parts"}}');
reset client_min_messages;
insert into members select n::text, encode(sha256(n::text::bytea), 'hex') from generate_series(5, 8) n;
select segmenter_subscribe('parts', 'connectors vip', 'ads', '{"batch_size": 3}', 'connectors_marketing') as parts \gset
select status from segmenter_refresh('connectors vip');
select min(id) as create, min(id) filter (where operation = 'add') as first, max(id) as last from segmenter_outbox where subscription_id = :'parts' \gset
create view parts as
select split_part(r.url, '/', 4)::bigint - f.first as first, split_part(r.url, '/', 5) as total, split_part(r.url, '/', 6) as part
from (select u.id, (select min(o.id) from segmenter_outbox o where o.subscription_id = u.id and o.operation = 'add') as first
    from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id and c.name = 'parts') f
cross join lateral segmenter_render(f.id) r;
table parts;
-- Without what was kept it is what is left.
delete from segmenter_outbox where id in (:create, :first);
update segmenter_deliveries set delivered_through = :first where subscription_id = :'parts';
table parts;
update segmenter_deliveries set progress = jsonb_build_object('message', :first, 'first', :first, 'total', 6) where subscription_id = :'parts';
select first = :first - (select min(o.id) from segmenter_outbox o where o.subscription_id = :'parts') as is_first, total, part from parts;
-- What another operation has left behind.
insert into members select n::text, encode(sha256(n::text::bytea), 'hex') from generate_series(11, 15) n;
select status from segmenter_refresh('connectors vip');
select first = :first - (select min(o.id) from segmenter_outbox o where o.subscription_id = :'parts') as is_first, total, part from parts;
drop view parts;
-- A message that cannot be sent.
update segmenter_connectors set spec = jsonb_set(spec, '{operations,default,0,url}', '"/{external_id}"') where name = 'parts';
do $$
declare
    hint text;
begin
    perform segmenter_render(u.id) from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id and c.name = 'parts';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    raise notice '% %: %', sqlstate, regexp_replace(sqlerrm, '[0-9]+', 'N'), hint;
end $$;
set client_min_messages = error;
delete from segmenter_subscriptions where id = :'parts';
delete from segmenter_consumers where name = 'parts';
reset client_min_messages;
drop server parts cascade;
delete from segmenter_connectors where name = 'parts';
-- Values that PostgreSQL takes and a parser does not: an error, and no message without its members.
begin;
create server hook foreign data wrapper segmenter_http options (connector 'webhook', url 'http://127.0.0.1:9/v');
create user mapping for connectors_marketing server hook options (secret 'top secret');
grant usage on foreign server hook to connectors_marketing;
insert into segmenter_consumers (name, role, params) values ('hook', 'connectors_marketing', '{"updater": {"server": "hook"}}');
create table odd (id text, value jsonb);
insert into odd values ('1', '1'), ('2', '1e400');
set client_min_messages = error;
select segmenter_put_segment('connectors odd', 'select id, value from connectors.odd', table_name => 'connectors.odds', refresh => true) is not null as put;
select segmenter_subscribe('hook', 'connectors odd', 'ads', '{"fields": ["id", "value"]}', 'connectors_marketing') as odd \gset
select status from segmenter_refresh('connectors odd');
create function render(subscription uuid) returns text language plpgsql as $$
begin
    return (select left(string_agg(body::jsonb ->> 'members', '; '), 60) from segmenter_render(subscription));
exception when others then
    return regexp_replace(sqlerrm, 'message [0-9]+', 'message N');
end $$;
select render(:'odd');
update odd set value = (repeat('[', 200) || repeat(']', 200))::jsonb where id = '2';
select status from segmenter_refresh('connectors odd');
select segmenter_resync(:'odd') > 0 as is_resynced;
select render(:'odd');
rollback;

-- Connectors are data: a spec is checked when it is written.
insert into segmenter_connectors (name, spec) values ('mine', '{}');
insert into segmenter_connectors (name, spec) values ('mine', '[]');
insert into segmenter_connectors (name, spec) values (' ', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/a"}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": []}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/{options.list}"}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "secrets": {"key": {}}, "operations": {"add": [{"name": "add", "url": "/{secrets.key}"}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "https://evil.example/"}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/a", "body": {"json": {"$loop": []}}}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "templates": {"a": {"$use": "a"}}, "operations": {"add": [{"name": "add", "url": "/a", "body": {"json": {"$use": "a"}}}]}}');
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/a"}]}, "colour": "red"}');
insert into segmenter_connectors (name, spec, is_builtin) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/a"}]}}', true);
insert into segmenter_connectors (name, spec) values ('mine', '{"hosts": {"api": "https://x.example"}, "operations": {"add": [{"name": "add", "url": "/a"}]}}');
create server mine foreign data wrapper segmenter_http options (connector 'mine');
delete from segmenter_connectors where name = 'mine';
update segmenter_connectors set name = 'yours' where name = 'mine';
delete from segmenter_connectors where name = 'meta';
update segmenter_connectors set description = 'ours' where name = 'meta';
drop server mine;
delete from segmenter_connectors where name = 'mine';
-- What comes with Segmenter stays, however it is written.
truncate segmenter_connectors;
insert into segmenter_connectors (name, spec) select name, spec from segmenter_connectors where name = 'meta'
on conflict (name) do update set spec = excluded.spec;
select count(*) from segmenter_connectors where is_builtin;
-- A spec cannot be small and its templates large.
insert into segmenter_connectors (name, spec)
select 'bomb', jsonb_build_object('hosts', '{"api": "https://x.example"}'::jsonb, 'operations', '{"add": [{"name": "add", "url": "/a"}]}'::jsonb,
    'templates', jsonb_object_agg('t' || n, case when n = 30 then '"x"' else jsonb_build_array(
        jsonb_build_object('$use', 't' || n + 1), jsonb_build_object('$use', 't' || n + 1)) end))
from generate_series(1, 30) n;
-- A server has no tables.
create server plain foreign data wrapper segmenter_http options (connector 'vk');
create foreign table plain (id int) server plain options (secret 'top secret');
create foreign table plain (id int) server plain;
select * from plain;
import foreign schema x from server plain into connectors;
drop server plain cascade;
-- The validator by hand.
select segmenter_http_validator(null, 'pg_foreign_server'::regclass);
select segmenter_http_validator('{{connector=vk,timeout=1 s},{NULL,x}}', 'pg_foreign_server'::regclass);
select segmenter_http_validator('{connector=vk,secret=top secret}', 0);
select segmenter_http_validator('{connector=vk}', null);
-- The doctor names what cannot be used.
revoke usage on foreign server ads from connectors_marketing;
select detail, hint from segmenter_doctor() where "check" = 'consumers' and status <> 'ok' and detail like '%meta%cannot%';

set client_min_messages = error;
delete from segmenter_subscriptions where consumer_id in (select id from segmenter_consumers where name in ('meta', 'vk', 'url', 'puller'));
delete from segmenter_consumers where name in ('meta', 'vk', 'url', 'puller');
delete from segmenter_segments where name = 'connectors vip';
delete from segmenter_log where segment_name = 'connectors vip';
drop schema connectors cascade;
drop server ads cascade;
drop server lists cascade;
revoke usage on schema :schema from connectors_marketing, connectors_other;
drop role connectors_marketing, connectors_other;
