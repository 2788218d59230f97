-- Whose rows are whose: config, members, log, messages and deliveries are seen and changed by members
-- of the role that they belong to.
\i setup/security.sql
create role sgm_group;
create role sgm_member login in role sgm_group;
create role sgm_noinherit login noinherit in role sgm_group;
create schema sgm_group authorization sgm_group;

\c - sgm_victim
create table sgm_victim.own (like segmenter including defaults, unique (id));
create table sgm_victim.shared (like segmenter including defaults, unique (segment_id, id));
create table sgm_victim.shared_too (like segmenter including defaults, unique (segment_id, id));
create table sgm_victim.unregistered (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_victim', 'sgm_victim.own', '{"query": {"sql": "select g as id, ''secret'' as hash_email from generate_series(1, 3) g"}}'),
    ('sgm_shared', 'sgm_victim.shared', '{"query": {"sql": "select g as id, ''secret'' as hash_email from generate_series(1, 3) g"}}');
select segment, status, added from segmenter_refresh('sgm_victim');
select segment, status, added from segmenter_refresh('sgm_shared');
insert into segmenter_consumers (name, role) values ('sgm_consumer', 'sgm_victim');
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 'sgm_target' from segmenter_consumers c, segmenter_segments s where c.name = 'sgm_consumer' and s.name = 'sgm_victim';
\c - sgm_admin
insert into segmenter_outbox (consumer_id, subscription_id, segment_id, operation, payload)
select consumer_id, id, segment_id, 'add', '{"members": ["secret"]}' from segmenter_subscriptions where target = 'sgm_target';
insert into segmenter_deliveries (subscription_id) select id from segmenter_subscriptions where target = 'sgm_target';
insert into segmenter_handovers (subscription_id, has_audience) select id, true from segmenter_subscriptions where target = 'sgm_target';
insert into segmenter_attempts (segment_id, refreshes, status) select id, 0, 'failed' from segmenter_segments where name = 'sgm_victim' on conflict do nothing;
select id as segment from segmenter_segments where name = 'sgm_victim' \gset
select id as shared from segmenter_segments where name = 'sgm_shared' \gset
select id as consumer from segmenter_consumers where name = 'sgm_consumer' \gset
select id as subscription from segmenter_subscriptions where target = 'sgm_target' \gset
create view sgm.counts as
select (select count(*) from segmenter_segments where name like 'sgm%') as segments,
    (select count(*) from segmenter_consumers where name like 'sgm%') as consumers,
    (select count(*) from segmenter_subscriptions where target like 'sgm%') as subscriptions,
    (select count(*) from segmenter) as members,
    (select count(*) from segmenter_log) as log,
    (select count(*) from segmenter_outbox) as outbox,
    (select count(*) from segmenter_deliveries) as deliveries,
    (select count(*) from segmenter_handovers) as handovers,
    (select count(*) from segmenter_state) as states,
    (select count(*) from segmenter_attempts) as attempts,
    (select count(*) from segmenter_definitions) as definitions,
    (select count(*) from segmenter_status) as status;
alter view sgm.counts set (security_invoker = true);
grant select on sgm.counts to public;
grant usage on schema sgm to public;

-- what each sees
\c - sgm_victim
select * from sgm.counts;
\c - sgm_low
select * from sgm.counts;
-- not through a function that the planner could put first either
create function sgm.peek(text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise info 'saw %', $1; return true; end $$;
select name from segmenter_segments where sgm.peek(name);
select hash_email from segmenter where sgm.peek(hash_email);
select message from segmenter_log where sgm.peek(segment_name);
select name from segmenter_status where sgm.peek(name);
select payload from segmenter_outbox where sgm.peek(payload::text);
copy (select * from segmenter_segments) to stdout;
copy segmenter_segments to stdout;
select * from sgm_victim.own;
set row_security = off;
select count(*) from segmenter_segments;
reset row_security;

-- what each may change
\set VERBOSITY terse
update segmenter_segments set description = 'mine' where name = 'sgm_victim';
delete from segmenter_segments where name = 'sgm_victim';
update segmenter_consumers set description = 'mine' where name = 'sgm_consumer';
delete from segmenter_consumers;
update segmenter_subscriptions set status = 'failed';
delete from segmenter_subscriptions;
select * from sgm.counts;
insert into segmenter_segments (id, name, table_name) values (:'segment', 'sgm_taken', 'sgm_victim.own')
    on conflict (id) do update set owner = 'sgm_low';
merge into segmenter_segments s using (select :'segment'::uuid as id) n on n.id = s.id when matched then delete when not matched then do nothing;
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'consumer', :'segment', 'sgm_mine');
insert into segmenter_log (action, status) values ('refresh', 'ok');
update segmenter_log set status = 'ok';
delete from segmenter_log;
insert into segmenter_outbox (consumer_id, subscription_id, segment_id, operation, payload) values (:'consumer', :'subscription', :'segment', 'delete', '{}');
update segmenter_outbox set operation = 'delete';
delete from segmenter_outbox;
insert into segmenter_deliveries (subscription_id) values (:'subscription');
update segmenter_deliveries set delivered_through = 1000;
delete from segmenter_deliveries;
insert into segmenter_handovers (subscription_id) values (:'subscription');
update segmenter_handovers set has_audience = false;
delete from segmenter_handovers;
insert into segmenter_state (segment_id) values (:'segment');
update segmenter_state set checkpoint = null;
delete from segmenter_state;
insert into segmenter_attempts (segment_id, refreshes) values (:'segment', 0);
update segmenter_attempts set status = 'failed';
delete from segmenter_attempts;
insert into segmenter_definitions (segment_id, version, changed) values (:'segment', 9, '{}');
update segmenter_definitions set changed_by = 'sgm_victim';
delete from segmenter_definitions;
insert into segmenter (segment_id, id) values (:'segment', '9');
update segmenter set hash_email = 'mine';
delete from segmenter;
update segmenter_status set name = 'mine';
truncate segmenter_segments, segmenter_consumers, segmenter_subscriptions, segmenter_log, segmenter_outbox, segmenter_deliveries, segmenter_handovers, segmenter_state, segmenter_attempts, segmenter_definitions;
truncate segmenter;
select nextval('segmenter_log_id_seq');
select setval('segmenter_outbox_id_seq', 1);
create trigger mine before insert on segmenter_segments for each row execute function suppress_redundant_updates_trigger();
create rule mine as on insert to segmenter_segments do also notify mine;
create policy mine on segmenter_segments using (true);
create index mine on segmenter_segments (sgm.peek(name));
alter table segmenter_segments disable row level security;
alter table segmenter inherit sgm_victim.own;
create table sgm.mine (id uuid references segmenter_segments);
create table sgm.mine (primary key (id)) inherits (segmenter);
alter function segmenter_refresh security definer;
comment on table segmenter is 'mine';
\set VERBOSITY sqlstate
vacuum (analyze) segmenter_log;
\set VERBOSITY default

-- another role's name
create table sgm.own (like segmenter including defaults, unique (id));
create table sgm.shared (like segmenter including defaults, unique (segment_id, id));
\set VERBOSITY default
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', 'sgm_victim');
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', 'sgm_admin');
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', 'pg_execute_server_program');
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', '99999');
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', '-');
insert into segmenter_segments (name, table_name, owner) values ('sgm_low', 'sgm.own', null);
insert into segmenter_segments (name, table_name) values ('sgm_low', 'sgm.own') on conflict do nothing;
select name, owner from segmenter_segments;
update segmenter_segments set owner = 'sgm_victim' where name = 'sgm_low';
update segmenter_segments set owner = 'sgm_group' where name = 'sgm_low';
update segmenter_segments set id = gen_random_uuid() where name = 'sgm_low';
insert into segmenter_consumers (name, role) values ('sgm_low', 'sgm_victim');
insert into segmenter_consumers (name) values ('sgm_low');
insert into segmenter_consumers (name, role) values ('sgm_low', 'sgm_low');
update segmenter_consumers set role = 'sgm_victim' where name = 'sgm_low';
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 'sgm_low' from segmenter_consumers c, segmenter_segments s where c.name = 'sgm_low' and s.name = 'sgm_low';
update segmenter_subscriptions set segment_id = :'segment' where target = 'sgm_low';
select * from sgm.counts;

-- Another role's table. It takes its owner to bring a table into the mart, and the right to read and
-- write it to keep a segment in one that is there already.
-- tries a command, and takes it back
create function sgm.try(command text) returns text language plpgsql as $$
begin
    execute command;
    raise exception 'took it back' using errcode = 'ZZZZZ';
exception
    when sqlstate 'ZZZZZ' then return 'WENT THROUGH';
    when others then return sqlstate;
end
$$;
create function sgm.register(tab text) returns table (inserted text, updated text) language sql as $$
    select sgm.try(format('insert into segmenter_segments (name, table_name) values (''sgm_foreign'', %L)', tab)),
        sgm.try(format('update segmenter_segments set table_name = %L where name = ''sgm_low''', tab))
$$;
create view sgm.view as table sgm.own;
create temporary table temporary (like segmenter including defaults, unique (id));
select tab, r.* from unnest('{
    sgm_victim.unregistered, sgm_victim.own, sgm_victim.shared, sgm_victim.shared_too,
    segmenter, segmenter_log, segmenter_segments, pg_authid, pg_class, sgm.view, pg_temp.temporary}'::text[]) tab, sgm.register(tab) r;
-- … in a script like pg_dump's either
set check_function_bodies = off;
select tab, r.* from unnest('{sgm_victim.unregistered, sgm_victim.own, sgm_victim.shared, sgm_victim.shared_too}'::text[]) tab, sgm.register(tab) r;
reset check_function_bodies;
-- … and some right to the table is not enough
\c - sgm_victim
grant select on sgm_victim.shared to sgm_low;
\c - sgm_low
select * from sgm.register('sgm_victim.shared');
\c - sgm_victim
grant insert, update on sgm_victim.shared to sgm_low;
\c - sgm_low
select * from sgm.register('sgm_victim.shared');
select inhrelid::regclass from pg_inherits where inhrelid::regclass::text like 'sgm%' order by 1;

-- Members under another segment's name, in a table of one's own
set client_min_messages = error;
update segmenter_segments set table_name = 'sgm.shared' where name = 'sgm_low';
insert into sgm.shared (segment_id, id, hash_email) values (:'segment', 'forged', 'forged');
create table sgm.heir () inherits (sgm.shared);
insert into sgm.heir (segment_id, id, hash_email) values (:'segment', 'forged too', 'forged');
\c - sgm_victim
select id, hash_email from segmenter where segment_id = :'segment' order by 1;

-- The name of a segment that was
\c - sgm_admin
delete from segmenter_subscriptions where target = 'sgm_target';
delete from segmenter_segments where name in ('sgm_victim', 'sgm_shared');
\c - sgm_low
create table sgm.heritage (like segmenter including defaults, unique (id));
select set_config('sgm.segment', :'segment', false) is not null as known;
do $$
begin
    execute format('insert into segmenter_segments (id, name, table_name) values (%L, ''sgm_heir'', ''sgm.heritage'')', current_setting('sgm.segment'));
exception when others then null;
end
$$;
select count(*) from segmenter_log where segment_name in ('sgm_victim', 'sgm_shared');
select count(*) from segmenter_outbox;

-- Members of a role have what the role has
\c - sgm_admin
delete from segmenter_segments where name like 'sgm%' and name <> 'sgm_low';
grant create on schema sgm_group to sgm_noinherit;
\c - sgm_member
create table sgm_group.members (like segmenter including defaults, unique (id));
alter table sgm_group.members owner to sgm_group;
create function sgm_group.who() returns text language sql as $$ select current_user || ' for ' || session_user $$;
insert into segmenter_segments (name, table_name, owner, refresh_auto, refresh_params)
values ('sgm_group', 'sgm_group.members', 'sgm_group', true, '{"query": {"sql": "select sgm_group.who() as id"}}');
select name, owner from segmenter_segments;
select segment, status, added, detail from segmenter_run();
select id from segmenter;
\c - sgm_noinherit
select name, owner from segmenter_segments;
select segment, status, added, removed, detail from segmenter_run();
select id from segmenter where actual_end = 'infinity';
update segmenter_segments set description = 'ours' where name = 'sgm_group';
\c - sgm_low
select segment, status from segmenter_run();
select segment, status, detail from segmenter_refresh('sgm_group');
select segment, status, detail from segmenter_refresh('sgm_group', dry_run => true);

-- The owner of a segment is dropped
\c - :super
create role sgm_leaver login;
grant create, usage on schema sgm_group to sgm_leaver;
\c - sgm_leaver
create table sgm_group.leaver (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params)
values ('sgm_leaver', 'sgm_group.leaver', true, '{"query": {"sql": "select 1 as id"}}');
\c - :super
reassign owned by sgm_leaver to sgm_group;
drop owned by sgm_leaver;
drop role sgm_leaver;
select segment, status, detail from segmenter_run() where segment like 'sgm%';
select name, owner::text like 'sgm%' as owned, last_status, last_error from segmenter_status s join segmenter_segments g using (name) where name like 'sgm_l%' order by 1;
select error ->> 'sqlstate' as sqlstate from segmenter_log where segment_name = 'sgm_leaver';
\c - sgm_member
select name from segmenter_segments;
update segmenter_segments set owner = 'sgm_group' where name = 'sgm_leaver';
\c - :super
update segmenter_segments set owner = 'sgm_group' where name = 'sgm_leaver';
select segment, status, added from segmenter_refresh('sgm_leaver');

delete from segmenter_outbox where payload = '{"members": ["secret"]}';
\i setup/security_end.sql
