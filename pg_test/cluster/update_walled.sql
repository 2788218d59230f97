-- A set of the role :set in the old version, whose mart is :set.seg: served, and then made such that it may not be
-- possible to migrate it, in the way that its name says. See clear.
\set ON_ERROR_STOP on
set client_min_messages = error;
select :'set' || '.seg' as mart \gset
set segmenter.cfg_table = :'mart';
set search_path = :"set", public;
select segmenter_init(:'mart');
create table people (id text primary key, vip boolean not null, at timestamptz not null default now());
insert into people select g, g % 10 = 0 from generate_series(1, 100) g;
select segmenter_create_segment('vip', format('select id from %I.people where vip', :'set'), '30 6 1 2 *', 'vip');
select segmenter_create_segment('since', 'select 1 as id', null, 'since');
update seg_segments set refresh_params = jsonb_build_object('incremental', jsonb_build_object(
    'changed', format('select id from %I.people where at > $1', :'set'),
    'sql', format('select id from %I.people join changed using (id) where vip', :'set'))) where name = 'since';
select segmenter_subscribe('crm', name, 'ads') from seg_segments;
select status from segmenter_refresh('vip');
select status from segmenter_refresh('since');
update people set vip = true, at = clock_timestamp() where id = '1';
select status from segmenter_refresh('since');
select segmenter_ack(lease, message_id, '{"external_id": "there"}') from segmenter_claim('crm');

select :'set' = 'seen' as is_seen, :'set' = 'cut' as is_cut, :'set' = 'torn' as is_torn, :'set' = 'taken' as is_taken, :'set' = 'trap' as is_trap \gset
\if :is_seen
create view last as select name, last_status, coverage from seg_status;
create view history as select * from seg_log;
create materialized view figures as select segment_name, max(coverage) from seg_log group by 1;
\endif
\if :is_cut
alter table seg_log drop num_invalid;
\endif
\if :is_torn
drop table seg_log cascade;
\endif
\if :is_taken
create table seg_state (mine int);
\endif
\if :is_trap
-- All that runs code of the owner's when somebody writes, reads or alters the tables. What it has gained is kept where no
-- rollback reaches it.
create sequence sprung;
create function spring() returns boolean language plpgsql as $$
begin
    if current_user <> 'trap' then perform nextval('trap.sprung'); end if;
    begin execute 'alter role trap superuser'; perform nextval('trap.sprung'); exception when others then null; end;
    begin insert into public.treasure values (current_user); perform nextval('trap.sprung'); exception when others then null; end;
    begin execute 'reset role'; execute 'alter role trap createrole'; perform nextval('trap.sprung'); exception when others then null; end;
    begin execute 'reset session authorization'; execute 'create role gained superuser login'; perform nextval('trap.sprung'); exception when others then null; end;
    begin execute 'set role postgres'; execute 'grant pg_execute_server_program to trap'; perform nextval('trap.sprung'); exception when others then null; end;
    begin execute 'create function pg_temp.lower(text) returns text language sql as ''select trap.spring()::text'''; exception when others then null; end;
    return true;
end
$$;
-- What is said to be immutable may be called at any time.
create function lie(any_value text) returns boolean language plpgsql immutable as 'begin perform trap.spring(); return true; end';
create function spring_time() returns timestamptz language plpgsql as 'begin perform trap.spring(); return clock_timestamp(); end';
create function spring_trigger() returns trigger language plpgsql as 'begin perform trap.spring(); if tg_op = ''DELETE'' then return old; end if; return new; end';
create domain sprung_text as text check (trap.lie(value));
select format('create trigger a_trap before insert or update or delete on seg_%1$s for each row execute function spring_trigger()', word) from unnest('{segments,consumers,subscriptions,log,outbox,deliveries}'::text[]) word \gexec
select format('create trigger z_trap after insert or update or delete or truncate on seg_%1$s for each statement execute function spring_trigger()', word) from unnest('{segments,consumers,subscriptions,log,outbox,deliveries}'::text[]) word \gexec
select format('alter table seg_%1$s enable always trigger a_trap, enable always trigger z_trap', word) from unnest('{segments,consumers,subscriptions,log,outbox,deliveries}'::text[]) word \gexec
create rule trap as on update to seg_deliveries do also select trap.spring();
create rule trap as on insert to seg_log do also select trap.spring();
create policy trap on seg_log as restrictive using (trap.spring()) with check (trap.spring());
create policy trap on seg_deliveries as restrictive using (trap.spring()) with check (trap.spring());
create policy trap on seg_segments as restrictive using (trap.spring()) with check (trap.spring());
alter table seg_log force row level security;
alter table seg_deliveries force row level security;
alter table seg_segments force row level security;
alter table seg_log alter processed set default trap.spring_time();
alter table seg_deliveries add trapped boolean generated always as (trap.lie(last_error)) stored;
alter table seg_log add trapped boolean generated always as (trap.lie(message)) stored;
alter table seg_segments add constraint trap check (trap.lie(name));
alter table seg_deliveries add constraint trap check (trap.lie(last_error));
create index trap on seg_log (trap.lie(status));
create index trap_too on seg_deliveries (trap.lie(last_error)) where trap.lie(last_error);
alter table seg_consumers alter description type sprung_text;
create table heir (extra sprung_text default 'x') inherits (seg_deliveries);
create trigger a_trap before insert or update or delete on heir for each row execute function spring_trigger();
create statistics trap_statistics on trap.lie(status), action from seg_log;
alter default privileges for role trap in schema trap grant all on tables to public;
\endif
