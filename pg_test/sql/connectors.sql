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
