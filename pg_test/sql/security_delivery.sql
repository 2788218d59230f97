-- Who may claim, acknowledge and see what is handed over.
\i setup/schema.sql
\set VERBOSITY terse
create role sgd_owner;
create role sgd_crm;
create role sgd_ads;
create role sgd_member in role sgd_crm;
create schema sgd authorization sgd_owner;
set role sgd_owner;
create table sgd.people (id int, email text);
insert into sgd.people values (1, 'secret one'), (2, 'secret two');
select segmenter_create_segment('sgd', 'select id, email as hash_email from sgd.people', table_name => 'sgd.members') as segment \gset
reset role;
insert into segmenter_consumers (name, role) values ('sgd_crm', 'sgd_crm'), ('sgd_ads', 'sgd_ads'), ('sgd_nobody', null);
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, :'segment', c.name from segmenter_consumers c where c.name ~ '^sgd';
select id as crm from segmenter_subscriptions where target = 'sgd_crm' \gset
select id as ads from segmenter_subscriptions where target = 'sgd_ads' \gset
set role sgd_owner;
select status, messages from segmenter_refresh('sgd');

-- A consumer claims its own, and no others.
set role sgd_crm;
select message_id, lease, operation from segmenter_claim('sgd_crm') \gset
select :'operation' as operation;
select * from segmenter_claim('sgd_ads');
select * from segmenter_claim('sgd_nobody');
set role sgd_ads;
select * from segmenter_claim('sgd_crm');
\set VERBOSITY sqlstate
select segmenter_ack(:'lease', :message_id);
select segmenter_nack(:'lease', :message_id, 'mine');
select segmenter_retry(:'crm');
select segmenter_skip(:'crm');
select segmenter_resync(:'crm');
\set VERBOSITY terse
-- Who owns the segment acts for no consumer, but has a say in its subscriptions.
set role sgd_owner;
select * from segmenter_claim('sgd_crm');
\set VERBOSITY sqlstate
select segmenter_ack(:'lease', :message_id);
\set VERBOSITY terse
select segmenter_retry(:'ads');
-- A member of the role does as the role.
set role sgd_member;
select segmenter_ack(:'lease', :message_id);
select message_id, lease from segmenter_claim('sgd_crm', 1) \gset
set role sgd_crm;
select segmenter_ack(:'lease', :message_id, '{"external_id": "x"}');
select segmenter_resync(:'crm');

-- What a consumer sees: its own consumer, subscriptions and cursor; not the outbox, not the members.
set role sgd_crm;
select name from segmenter_consumers where name ~ '^sgd';
select target, external_id from segmenter_subscriptions where target ~ '^sgd';
select count(*) from segmenter_deliveries;
select count(*) from segmenter_outbox where payload::text ~ 'secret';
select count(*) from segmenter where hash_email ~ 'secret';
select count(*) from segmenter_log where segment_name = 'sgd';
select count(*) from segmenter_status where name = 'sgd';
select count(*) from sgd.members;
update segmenter_subscriptions set params = '{"fields": ["id", "spent"]}' where id = :'crm';
update segmenter_deliveries set delivered_through = 1000000;
delete from segmenter_outbox;
insert into segmenter_outbox (consumer_id, subscription_id, segment_id, operation, payload) values (:'crm', :'crm', :'segment', 'add', '{}');
-- Nobody makes a consumer of a role he is not a member of, or sends messages where he may not.
set role sgd_ads;
insert into segmenter_consumers (name, role) values ('sgd_forged', 'sgd_crm');
insert into segmenter_consumers (name) values ('sgd_forged');
select segmenter_subscribe('sgd_mine', 'sgd', 'x');
insert into segmenter_consumers (name, role, params) values ('sgd_http', 'sgd_ads', '{"updater": {"http": {"url": "http://127.0.0.1:1/"}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "http://user@127.0.0.1/"}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "file:///etc/passwd"}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "http://x/", "headers": {"X-A": "b\r\nHost: evil"}}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "http://x/", "headers": {"Host": "evil"}}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "http://x/", "timeout": "soon"}}}');
insert into segmenter_consumers (name, role, params) values ('sgd_bad', 'sgd_ads', '{"updater": {"http": {"url": "http://x/", "timeout": "-1 s"}}}');
set segmenter.http_allow = 'http://127.0.0.1';
set segmenter.outbox_retention = 0;
reset role;
set segmenter.http_allow = 'nowhere';
set segmenter.http_allow = 'https://api.example.com/v1/, http://127.0.0.1:8080';
reset segmenter.http_allow;

-- A type whose values are shown by code of its owner: it runs with the table owner's rights, restricted.
create role sgd_trap;
create schema sgd_trap authorization sgd_trap;
create table sgd_trap.ran (as_whom text, restricted boolean);
grant insert on sgd_trap.ran to sgd_trap, sgd_owner;
set role sgd_trap;
create type sgd_trap.mood as enum ('good', 'bad');
create function sgd_trap.show(sgd_trap.mood) returns json language plpgsql as $$
begin
    perform set_config('sgd.ran_as', current_user, false);
    return to_json('shown by ' || current_user);
end
$$;
create cast (sgd_trap.mood as json) with function sgd_trap.show(sgd_trap.mood);
grant usage on schema sgd_trap to sgd_owner;
reset role;
alter table sgd.members add mood sgd_trap.mood default 'good';
update segmenter_subscriptions set params = '{"fields": ["id", "mood"]}' where id = :'ads';
select segment, status, messages from segmenter_run() where segment = 'sgd';
select payload -> 'members' as members from segmenter_outbox where subscription_id = :'ads' and operation = 'replace';
select current_setting('sgd.ran_as', true) = current_user as leaked;

-- Planted names and operators in the caller's path change nothing.
create schema sgd_path;
create table sgd_path.segmenter_outbox (id int);
create table sgd_path.segmenter_deliveries (id int);
create function sgd_path.jsonb_agg(jsonb) returns jsonb language sql as 'select ''"planted"''::jsonb';
set search_path = sgd_path, :schema, public, pg_catalog;
insert into sgd.people values (3, 'secret three');
select status, messages from :schema.segmenter_refresh('sgd');
select count(*) from :schema.segmenter_outbox where payload::text ~ 'planted';
select count(*) > 0 as claimed from :schema.segmenter_claim('sgd_crm', 100);
reset search_path;

set client_min_messages = error;
delete from segmenter_subscriptions where segment_id = :'segment';
delete from segmenter_consumers where name ~ '^sgd';
delete from segmenter_segments where name = 'sgd';
delete from segmenter_outbox;
delete from segmenter_log where segment_name = 'sgd';
drop schema sgd_path, sgd, sgd_trap cascade;
drop owned by sgd_owner, sgd_crm, sgd_ads, sgd_member, sgd_trap;
drop role sgd_member, sgd_owner, sgd_crm, sgd_ads, sgd_trap;
