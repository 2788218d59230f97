-- What members of pg_monitor see of other roles' segments: figures and statuses, and never members, queries, texts
-- of errors, answers or payloads. A doctor that sees less than all says so.
\set VERBOSITY default
create role mon_owner;
create role mon_other;
create role mon_watch in role pg_monitor;
create role mon_none;
create role mon_crm;
create schema mon;
grant usage, create on schema mon to mon_owner, mon_other;
create table mon.texts (text text);
grant select on mon.texts to mon_owner;
set role mon_owner;
select segmenter_create_segment('mon well', 'select g as id from generate_series(1, 3) g', '@daily', 'mon.well') is not null as created;
select segmenter_create_segment('mon broken', 'select text::int as id from mon.texts', '* * * * *', 'mon.broken') is not null as created;
set role mon_other;
select segmenter_create_segment('mon other', 'select 1 as id', table_name => 'mon.other') is not null as created;
reset role;
insert into segmenter_consumers (name, role, subscribers, params) values
    ('mon crm', 'mon_crm', '{mon_owner}', '{"updater": {"http": {"url": "https://example.org/?key=secret-key"}}}');
update segmenter_segments set description = 'secret-description', context = 'secret-context' where name ~ '^mon';
set role mon_owner;
select segmenter_subscribe('mon crm', 'mon well', 't', '{"fields": ["id"]}', 'mon_crm') is not null as subscribed;
reset role;
insert into mon.texts values ('secret-value');
set client_min_messages = error;
select segment, status from unnest('{mon well,mon broken,mon other}'::text[]) n, lateral segmenter_refresh(n);
update segmenter_deliveries set last_error = 'secret-answer', last_receipt = '{"a": "secret-receipt"}', attempts = 1;
reset client_min_messages;

-- The whole of what it sees.
set role mon_watch;
\x
select id is not null as id, name, description, table_name, context, refresh_auto, refresh_params, refresh_cron, last_refresh is not null as last_refresh,
    last_status, last_error, next_refresh is not null as next_refresh, coverage, added, removed, changed, update_consumer, update_target, update_name,
    update_params, update_cron, update_status, pending_messages, last_delivery, last_receipt, delivery_error
from segmenter_status where name ~ '^mon';
\x
select name, last_status from segmenter_status where name = 'mon broken';
select segment, refresh_cron, due, reason from segmenter_due(now() + interval '1 year') where segment ~ '^mon';
select "check", status, detail from segmenter_doctor() where "check" in ('segments', 'refreshes', 'consumers', 'owners') or detail ~ 'mon' order by 1, 3;
select count(*) from (select s::text as text from segmenter_status s union all select d::text from segmenter_doctor() d union all select d::text from segmenter_due() d) t where text ~ 'secret';
select (select count(*) from segmenter) as members, (select count(*) from segmenter_segments) as segments, (select count(*) from segmenter_log) as log,
    (select count(*) from segmenter_outbox) as outbox, (select count(*) from segmenter_consumers) as consumers, (select count(*) from segmenter_deliveries) as deliveries;
select status, detail from segmenter_refresh('mon well');
select segment from segmenter_run();
-- Beside a membership in an owner: its own segments with all columns, each once.
reset role;
grant mon_other to mon_watch;
set role mon_watch;
select name, refresh_params, description, coverage from segmenter_status where name ~ '^mon' order by name;
reset role;
revoke mon_other from mon_watch;
-- Without the rights of the role, which INHERIT gives.
create role mon_noinherit noinherit in role pg_monitor;
set role mon_noinherit;
select count(*) from segmenter_status where name ~ '^mon';
reset role;
drop role mon_noinherit;

-- A role that is no member of anything, and one that owns a part.
set role mon_none;
select count(*) from segmenter_status where name ~ '^mon';
select count(*) from segmenter_due() where segment ~ '^mon';
select count(*) from segmenter_figures_in((select mart from segmenter_registry order by owner_name nulls first limit 1));
select "check", status, detail, hint from segmenter_doctor() where "check" in ('segments', 'refreshes', 'due', 'clock', 'audiences', 'summary');
set role mon_other;
select "check", status, detail from segmenter_doctor() where "check" in ('segments', 'refreshes', 'summary');
reset role;
-- No policy hides anything from BYPASSRLS.
alter role mon_none bypassrls;
set role mon_none;
select name, refresh_params is not null as refresh_params, next_refresh is not null as next_refresh from segmenter_status where name ~ '^mon' order by name;
select "check", status, detail from segmenter_doctor() where "check" in ('segments');
reset role;

-- Roles that are gone, and tables that were given away.
create role mon_leaver;
grant usage, create on schema mon to mon_leaver;
set role mon_leaver;
select segmenter_create_segment('mon left', 'select 1 as id', table_name => 'mon.left') is not null as created;
reset role;
update segmenter_consumers set role = 'mon_leaver' where name = 'mon crm';
reassign owned by mon_leaver to mon_owner;
select "check", status, detail, hint from segmenter_doctor() where "check" = 'roles';
drop owned by mon_leaver;
drop role mon_leaver;
select "check", status, detail, hint from segmenter_doctor() where "check" in ('roles', 'tables');
update segmenter_segments set owner = 'mon_owner' where name = 'mon left';
update segmenter_consumers set role = 'mon_crm' where name = 'mon crm';
select "check", status, detail from segmenter_doctor() where "check" = 'roles';
set role mon_owner;
select status, added from segmenter_refresh('mon left');
reset role;

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name ~ '^mon';
delete from segmenter_segments where name ~ '^mon';
delete from segmenter_outbox;
delete from segmenter_log;
drop schema mon cascade;
drop owned by mon_owner, mon_other, mon_watch, mon_none, mon_crm;
drop role mon_owner, mon_other, mon_watch, mon_none, mon_crm;
