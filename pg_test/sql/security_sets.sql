-- Whoever makes a set owns its relations: he can write anything there past all checks, and put up triggers, rules,
-- defaults and policies. All that never gets more rights than his own, whoever looks after the set.
\i setup/security.sql
revoke usage on schema sgm_victim from sgm_low;
grant usage on schema sgm to public;

\c - sgm_victim
create table sgm_victim.secret (id text);
insert into sgm_victim.secret values ('secret');
create table sgm_victim.theirs (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('sgm_victim', 'sgm_victim.theirs', '{"query": {"sql": "select id from sgm_victim.secret"}}');
select status, coverage from segmenter_refresh('sgm_victim');

\c - sgm_low
-- Says so where it runs as somebody else, and helps itself if it can.
create function sgm.spring(planted text) returns boolean language plpgsql as $$
begin
    if current_user <> 'sgm_low' then
        raise info 'planted % runs as %', planted, current_user;
        if (select rolsuper from pg_roles where rolname = current_user) then
            execute 'alter role sgm_low superuser';
        end if;
    elsif session_user <> 'sgm_low' then
        begin
            execute format('set session authorization %I', session_user);
            execute 'alter role sgm_low superuser';
            raise info 'planted % became %', planted, session_user;
        exception when others then null;
        end;
        begin
            execute 'reset role';
            execute 'alter role sgm_low superuser';
            raise info 'planted % became %', planted, session_user;
        exception when others then null;
        end;
    end if;
    return true;
end
$$;
create function sgm.trap() returns trigger language plpgsql as
    $$ begin perform sgm.spring(tg_name); return case tg_op when 'DELETE' then old else new end; end $$;

-- Names that could be more than names.
select segmenter_init('sgm."x; alter role sgm_low superuser; --"');
select segmenter_init('sgm."''; alter role sgm_low superuser; --"', 'sgm."$set$; alter role sgm_low superuser; --"');
select segmenter_init('sgm."@schema@.@text:mart@"');
set segmenter.cfg_table = 'sgm."''; alter role sgm_low superuser; --"';
select segmenter_create_segment('x', 'select 1 as id', null, 'sgm.x') is not null as created;
select status, coverage from segmenter_refresh('x');
select segmenter_drop_set(cfg_table, true) from segmenter_sets() where owner = 'sgm_low';
reset segmenter.cfg_table;

-- The list of sets is nobody's to write, and what is in it nobody else's to drop.
insert into segmenter_registry (mart, schema_version) select mart, schema_version from segmenter_registry;
update segmenter_registry set mart = 'sgm_victim.theirs';
delete from segmenter_registry;
select segmenter_drop_set('segmenter', true);
select segmenter_definition();

-- A set, with one honest segment, and then all that its owner can do.
select segmenter_init('sgm.seg');
set segmenter.cfg_table = 'sgm.seg';
select segmenter_create_segment('honest', 'select 1 as id', '@yearly', 'sgm.honest') is not null as created;
select segmenter_subscribe('low', 'honest', 'x') is not null as subscribed;
select status, coverage, messages from segmenter_refresh('honest');

-- Rows of others' roles: while they are checked, and past that.
insert into sgm.seg_segments (name, table_name, owner) values ('forged', 'sgm.honest', 'sgm_admin');
insert into sgm.seg_consumers (name, role) values ('forged', 'sgm_victim');
\c - sgm_victim
insert into sgm.seg_consumers (name, role) values ('mine', 'sgm_victim');
\c - sgm_low
set segmenter.cfg_table = 'sgm.seg';
create table sgm.forged (like sgm.seg including defaults, unique (segment_id, id));
alter table sgm.seg_segments disable trigger user;
alter table sgm.seg_consumers disable trigger user;
insert into sgm.seg_segments (name, table_name, owner, refresh_auto, refresh_params) values
    ('as admin', 'sgm.forged', 'sgm_admin', true, '{"query": {"sql": "select sgm.spring(''query'')::text as id"}}'),
    ('as victim', 'sgm.forged', 'sgm_victim', true, '{"procedure": {"sql": "call sgm.anything()"}}'),
    ('their table', (select oid from pg_class where relname = 'theirs'), 'sgm_low', true, '{"query": {"sql": "select 1 as id"}}'),
    ('their config', 'segmenter_segments', 'sgm_low', true, '{"query": {"sql": "select 1 as id"}}');
insert into sgm.seg_consumers (name, role, params) values ('as victim', 'sgm_victim', '{"updater": {"function": {"name": "sgm.push(jsonb)"}}}');
alter table sgm.forged inherit sgm.seg;
update sgm.seg_segments set table_name = table_name where name = 'their table';
alter table sgm.seg_segments enable trigger user;
update sgm.seg_segments set table_name = table_name where name = 'their table';
update sgm.seg_segments set description = 'touched' where name like 'as %';

\c - sgm_admin
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
select segment, status, detail from segmenter_run() order by segment;
select status, detail from segmenter_refresh('as admin', 'select 1 as id');
select "check", detail from segmenter_doctor() where "check" in ('owners', 'tables') order by 1, 2;
\c - sgm_victim
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
select segment, status, detail from segmenter_run() order by segment;
select segmenter_subscribe('mine', 'as victim', 'x') is not null as subscribed;
\c - sgm_low
set segmenter.cfg_table = 'sgm.seg';
delete from sgm.seg_subscriptions where segment_id in (select id from sgm.seg_segments where name <> 'honest');
delete from sgm.seg_segments where name <> 'honest';
delete from sgm.seg_consumers where name = 'as victim';

-- Code on the relations: whoever has the segment refreshed.
create trigger on_log before insert on sgm.seg_log for each row execute function sgm.trap();
create trigger on_outbox after insert on sgm.seg_outbox for each row execute function sgm.trap();
create trigger on_deliveries before insert or update on sgm.seg_deliveries for each row execute function sgm.trap();
create trigger on_segments before update on sgm.seg_segments for each row execute function sgm.trap();
alter table sgm.seg_log alter message set default case when sgm.spring('default') then 'x' end;
alter table sgm.seg_log add check (sgm.spring('check'));
create rule also as on insert to sgm.seg_outbox do also select sgm.spring('rule');
create policy low on sgm.seg_segments using (sgm.spring('policy'));
alter table sgm.seg_segments force row level security;
create function sgm.constant(text) returns text immutable language plpgsql as $$ begin perform sgm.spring('index'); return $1; end $$;
create index on sgm.seg_log (sgm.constant(status));
alter table sgm.seg_log add column more text generated always as (sgm.constant(status)) stored;
\c - sgm_admin
set segmenter.cfg_table = 'sgm.seg';
select status, detail from segmenter_refresh('honest', 'select 2 as id');
select segment, status from segmenter_run();
call segmenter_run_each();
select count(*) from segmenter_due();
select segmenter_prune();
select count(*) > 0 as looked from segmenter_doctor();
select segment, rows from segmenter_erase('2');
select name, coverage from sgm.seg_status;
select cfg_table, segments from segmenter_sets() where cfg_table = 'sgm.seg';
reset segmenter.cfg_table;
select status from segmenter_refresh('sgm_victim');
select rolname from pg_roles where rolname in ('sgm_low', 'sgm_victim') and rolsuper;

-- Code for the end of the transaction, when the user is himself again.
\c - sgm_low
create constraint trigger deferred after insert on sgm.seg_log deferrable initially deferred
    for each row execute function sgm.trap();
\c - sgm_admin
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
select status, detail from segmenter_refresh('honest', 'select 3 as id');
\c - sgm_low
set segmenter.cfg_table = 'sgm.seg';
drop trigger deferred on sgm.seg_log;

-- Relations that are not what was made: by their names, and by their columns.
alter table sgm.seg_outbox rename to moved;
create view sgm.seg_outbox as select * from sgm.moved where sgm.spring('view');
create or replace view sgm.seg_status as select * from sgm.seg_status;
alter table sgm.seg_deliveries drop column leased_through;
\c - sgm_admin
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
select status, messages from segmenter_refresh('honest', 'select 4 as id');
select segmenter_claim('low');
\c - sgm_low
set segmenter.cfg_table = 'sgm.seg';
drop view sgm.seg_status;
create view sgm.seg_status as select * from sgm.seg_segments where sgm.spring('status');
\c - sgm_admin
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
select segment from segmenter_due_in('sgm.seg');

-- Another's set under a name that one takes for one's own.
\c - sgm_low
select segmenter_init('sgm.segmenter');
\c - sgm_admin
set search_path = sgm, public;
select status from public.segmenter_refresh('sgm_victim');
set segmenter.cfg_table = 'segmenter';
select cfg_table from public.segmenter_sets() where is_current;
select status from public.segmenter_refresh('sgm_victim');
reset search_path;
reset segmenter.cfg_table;

-- A set that raises an error whenever its rows are read: what others run reads none of them.
\c - sgm_low
select segmenter_init('sgm.trap');
set segmenter.cfg_table = 'sgm.trap';
select segmenter_create_segment('trapped', 'select 1 as id', null, 'sgm.trapped') is not null as made;
create function sgm.reading() returns boolean language plpgsql as $$ begin raise exception 'read by %', current_user; end $$;
create policy trap on sgm.trap_segments as restrictive using (sgm.reading());
create policy trap on sgm.trap_state as restrictive using (sgm.reading());
alter table sgm.trap_segments force row level security;
alter table sgm.trap_state force row level security;
select count(*) from sgm.trap_segments;
\c - sgm_admin
select segmenter_prune();
select count(*) as refreshed from segmenter_run();
select segments from segmenter_sets() where cfg_table = 'sgm.trap';

-- Nobody has more rights than before.
select rolname from pg_roles where rolname in ('sgm_low', 'sgm_victim') and rolsuper;
select has_table_privilege('sgm_low', 'sgm_victim.secret', 'select') as reads;
\c - :super
set client_min_messages = warning;
delete from segmenter_segments where name = 'sgm_victim';
drop schema sgm, sgm_victim cascade;
drop role sgm_low, sgm_victim, sgm_admin;
select segmenter_drop_set(cfg_table, true) from segmenter_sets() where owner like 'sgm_%';
