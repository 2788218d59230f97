-- A database with everything that a dump has to take along. :schema is where the extension is,
-- :in_schema the clause of CREATE EXTENSION that puts it there. Where :on_set is defined, all is done on a set that is
-- in that schema, and the extension is in public.
\set ON_ERROR_STOP on
set client_min_messages = warning;
create schema if not exists :"schema";
create extension segmenter :in_schema;
set search_path = :"schema", public;
\if :{?on_set}
select segmenter_init(format('%I.segmenter', :'schema'));
\endif
grant usage on schema :"schema" to marketing, "Odd ""Role'", reader;

create schema shop;
create table shop.people (
    id int primary key, email text, phone text, country text, spent numeric(10, 2) not null, vip boolean not null
);
insert into shop.people
select g, 'p' || g || '@example.org', case when g % 3 > 0 then (1000000 + g)::text end,
    (array['in', 'cn', 'de'])[1 + g % 3], g % 97, g % 10 = 0
from generate_series(1, 1000) g;
grant usage on schema shop to marketing, "Odd ""Role'";
grant select on shop.people to marketing, "Odd ""Role'";

-- Every kind of table; columns in the order that people happen to choose.
create schema seg;
grant usage, create on schema seg to marketing;
create schema "We""ird.Schema'";
grant usage, create on schema "We""ird.Schema'" to "Odd ""Role'";
create table seg.latest (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), unique (id)
);
create table seg.extra (
    spent numeric(8, 2) check (spent >= 0), tag text default 'new' collate "C", twice numeric generated always as (spent * 2) stored,
    nr bigint generated always as identity,
    processed timestamp not null, actual_end timestamp not null, actual_begin timestamp not null,
    hash_phone varchar, hash_email varchar, id varchar not null, segment_id uuid not null
);
create unique index on seg.extra (id) where actual_end = 'infinity';
comment on table seg.extra is 'history, with columns of its own';
create table seg.shared_latest (like seg.latest including defaults, primary key (segment_id, id));
create table seg.shared_history (like seg.latest including defaults);
create unique index on seg.shared_history (id, segment_id) where actual_end = 'infinity';
create table seg.once (like seg.latest including defaults, unique (id));
create table seg.lost (like seg.latest including defaults, unique (id));
create table seg.called (like seg.latest including defaults, unique (id));
grant select on seg.latest to reader;

insert into segmenter_segments (name, description, context, table_name, refresh_auto, refresh_params, refresh_cron, refresh_timezone, guards) values
('latest', 'who lives in India', 'TASK-1', 'seg.latest', true, '{"query": {"sql": "select id, md5(email) as hash_email, md5(phone) as hash_phone from shop.people where country = ''in''"}}', null, null, '{"max_removed": 500}'),
('extra', null, null, 'seg.extra', true, '{"query": {"sql": "select id, md5(email) as hash_email, spent from shop.people where vip"}}', null, null, '{}'),
('in', null, null, 'seg.shared_latest', true, '{"query": {"sql": "select id from shop.people where country = ''in'' and vip"}}', null, null, '{}'),
('cn', null, null, 'seg.shared_latest', true, '{"query": {"sql": "select id from shop.people where country = ''cn'' and vip"}}', null, null, '{}'),
('spent', null, null, 'seg.shared_history', true, '{"query": {"sql": "select id, md5(email) as hash_email from shop.people where spent > 50"}}', null, null, '{}'),
('stingy', null, null, 'seg.shared_history', true, '{"query": {"sql": "select id, md5(email) as hash_email from shop.people where spent < 5"}}', null, null, '{}'),
('called', null, null, 'seg.called', true, '{"procedure": {"sql": "call shop.load_called()"}}', null, null, '{}'),
('nightly', 'on a schedule, table shared', null, 'seg.shared_history', true, '{"query": {"sql": "select id from shop.people where phone is null"}}', '@yearly', 'Europe/Berlin', '{"min_members": 1}'),
('once', 'retired', null, 'seg.once', true, '{"query": {"sql": "select id from shop.people where vip"}}', null, null, '{}'),
('lost', 'its table was dropped', null, 'seg.lost', true, '{"query": {"sql": "select id from shop.people"}}', null, null, '{}'),
('waits', 'sources', null, 'seg.shared_history', false, '{"incremental": {"changed": "select 1", "sql": "select 1"}}', null, null, '{}');
update segmenter_segments
set sources = '[{"table": "shop.people", "loaded_at": "at", "warn_after": "12 hours", "min_rows": 1}, {"name": "x", "ready": "select true"}]'
where name = 'waits';

select format($format$
create procedure shop.load_called() language sql as $$
    delete from seg.called where segment_id = (select id from %1$I.segmenter_segments where name = 'called' and actual_end = 'infinity')
        and not exists (select from shop.people p where p.id::varchar = called.id and p.spent = 10);
    insert into seg.called (segment_id, id)
    select s.id, p.id from shop.people p, %1$I.segmenter_segments s
    where p.spent = 10 and s.name = 'called' and s.actual_end = 'infinity'
    on conflict do nothing;
$$
$format$, :'schema') \gexec

-- Segments of other roles, one of them with names that nobody should choose.
set role marketing;
select segmenter_create_segment('German', 'select id, md5(email) as hash_email, spent from shop.people where country = ''de''', null, 'seg.german') is not null;
select count(*) from segmenter_refresh('German');
reset role;
set role "Odd ""Role'";
create table "We""ird.Schema'"."Ta'ble \ ;--$$	x" (
    "select" text, "Col""umn'" int, segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), constraint "Key'""" unique (id)
);
insert into segmenter_segments (name, description, table_name, refresh_auto, refresh_params) values (
    E'Rob"; drop table ''people''; -- \\ {{name}} $1 %s\tü\n\\.', E'\\N',
    '"We""ird.Schema''"."Ta''ble \ ;--$$	x"', true,
    jsonb_build_object('query', jsonb_build_object('sql', $q$select id, email as "select", 7 as "Col""umn'", E'\\ \t\n''"' as hash_email from shop.people where vip; -- "'$q$))
);
reset role;

-- A history: three runs, some of them not good.
select count(*) from segmenter_run();
update shop.people set spent = spent + 40 where id % 7 = 0;
update shop.people set vip = not vip where id % 25 = 0;
delete from shop.people where id % 50 = 1;
select count(*) from segmenter_run();
insert into shop.people select g, 'back' || g, null, 'in', 60, true from generate_series(1, 1000, 50) g;
select count(*) from segmenter_refresh('latest', 'select 1 as id, md5(''x'') as hash_email', force => true);
select count(*) from segmenter_run();
select count(*) from segmenter_refresh('German');
select count(*) from unnest('{kept out,readmitted}'::text[]) i (id), lateral segmenter_erase(i.id, keep_out => true);
select segmenter_readmit('readmitted');
update segmenter_segments set actual_end = now() where name = 'once';
drop table seg.lost;
set client_min_messages = error;
select count(*) from segmenter_refresh('lost');
select count(*) from segmenter_refresh('latest', 'select 1 as id where false');
select count(*) from segmenter_refresh('nobody');
reset client_min_messages;

insert into segmenter_consumers (name, description, role, params) values
('crm', 'the CRM', 'reader', '{"max_attempts": 3}'),
(E'Ads "1"\t\\.', null, '"Odd ""Role''"', '{"updater": {"http": {"url": "https://example.org/?a=%22b%22&c=(d)", "headers": {"x": "y"}, "secret": "env:S"}}}'),
('f', null, null, '{"updater": {"function": {"name": "crm.push(jsonb)"}}}');
insert into segmenter_consumers (name, actual_end) values ('gone', now());
insert into segmenter_subscriptions (consumer_id, segment_id, target, name, params, cron, timezone, status, external_id)
select c.id, s.id, 'target of ' || s.name, '{{consumer}}: {{name}} → {{target}}', '{"mode": "replace", "batch_size": 7, "fields": {"id": "user"}}',
    '@hourly', 'Asia/Tokyo', 'uploaded', E'ext\\1'
from segmenter_consumers c, segmenter_segments s
where c.name <> 'gone' and (s.name in ('latest', 'German', 'once') or s.name like 'Rob%');
update segmenter_subscriptions set actual_end = now() where segment_id = (select id from segmenter_segments where name = 'once');
-- More subscriptions than consumers, as it is in life: pg_restore -j begins with the largest table.
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 'target ' || g
from segmenter_consumers c, segmenter_segments s, generate_series(1, 300) g
where c.name = 'crm' and s.name = 'extra';
-- Rules of alerts, of roles with odd names too.
insert into segmenter_alerts (consumer_id, rule)
select c.id, r.rule::jsonb
from segmenter_consumers c, unnest(array['{"on": ["failed > 2", "late > 1 day"]}', '{"on": ["definition"], "flapping": false}']) r (rule)
where c.name = 'crm';
insert into segmenter_alerts (consumer_id, rule, owner_name)
select c.id, '{"on": ["refused"]}', 'Odd "Role''' from segmenter_consumers c where c.name = 'crm';
insert into segmenter_alert_states (alert_id, segment_id, subject, segment, state, reported, since, changes, seen)
select a.id, s.id, 'refresh', s.name, 'failed', 'ok', now(), array[now(), now() - interval '1 min'], 7
from segmenter_alerts a, segmenter_segments s where s.name = 'latest';
insert into segmenter_outbox (consumer_id, subscription_id, segment_id, operation, part, parts, members, payload)
select u.consumer_id, u.id, u.segment_id, o, 1, 1, 2, jsonb_build_object('operation', o, 'members', '[{"id": "\\.\n"}]'::jsonb)
from segmenter_subscriptions u, unnest('{create,add,remove}'::text[]) o
where u.segment_id is not null
order by u.target, u.consumer_id, o;
insert into segmenter_deliveries (subscription_id, delivered_through, lease, leased_until, attempts, next_attempt_at, last_error, delivered_at)
select subscription_id, min(id), gen_random_uuid(), now() + interval '1 hour', 2, now(), E'line\nline', now()
from segmenter_outbox group by subscription_id;
insert into segmenter_withheld (subscription_id, id, member, hash_email)
select u.id, w.id, w.member, 'e' from segmenter_subscriptions u, (values ('1', '{"id": "1"}'::jsonb), ('ж', null)) w (id, member) order by u.id limit 6;
select segmenter_report_audiences('crm', '[{"external_id": "ext\\1", "target": "target 1", "size": 5, "match_rate": 0.5}, {"external_id": "ж"}]');
-- A rolled back entry leaves a gap in the numbers.
begin; select count(*) from segmenter_refresh('extra'); rollback;
insert into segmenter_log (action, status, message) values ('note', 'ok', E'by hand \\. \x01');

-- What a DBA may have granted and taken.
grant select on segmenter_log to reader with grant option;
revoke update (cron) on segmenter_subscriptions from public;
grant delete on segmenter_subscriptions to marketing;
grant insert on segmenter_log to marketing;
revoke execute on function segmenter_run(boolean) from public;
grant execute on function segmenter_run(boolean) to reader;
vacuum analyze;
