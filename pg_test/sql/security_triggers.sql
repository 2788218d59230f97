-- The trigger functions work with the rights of the extension's owner. They are of use on relations
-- of sets only: on a table of somebody else's they would be told whatever he likes.
\i setup/security.sql

\c - sgm_victim
create table sgm_victim.sgm_victim (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('sgm_victim', 'sgm_victim.sgm_victim', '{"query": {"sql": "select 1 as id"}}');
select status, added from segmenter_refresh('sgm_victim');
create table sgm_victim.unregistered (like segmenter including defaults, unique (id));

-- not by calling them
\c - sgm_low
select segmenter_check_segment();
select segmenter_register_segment();
select segmenter_check_consumer();
select segmenter_check_subscription();

-- and not on other tables
create table sgm.forged (id uuid, name text, table_name regclass, owner regrole, actual_end timestamptz default 'infinity');
create trigger forged after insert or update or delete on sgm.forged for each row execute function segmenter_register_segment();
create table sgm.forged_consumer (name text, role regrole, params jsonb);
create trigger forged before insert or update on sgm.forged_consumer for each row execute function segmenter_check_consumer();
create function sgm.quietly(command text) returns void language plpgsql as
    $$ begin execute command; exception when others then null; end $$;
set client_min_messages = error;
-- which is no relation of a set
insert into sgm.forged values (gen_random_uuid(), 'forged', 'sgm_victim.unregistered', 'sgm_victim');
insert into sgm.forged_consumer values ('forged', 'sgm_victim', '{}');
-- another's table brought into the mart
select sgm.quietly($$insert into sgm.forged values (gen_random_uuid(), 'forged', 'sgm_victim.unregistered', 'sgm_victim')$$);
-- another's table taken out of it: its segment is known from the table's constraint
set check_function_bodies = off;
select sgm.quietly($$insert into sgm.forged
    select substring(pg_get_constraintdef(oid) from '[0-9a-f-]{36}')::uuid, 'forged', conrelid, 'sgm_victim'
    from pg_constraint where conrelid = 'sgm_victim.sgm_victim'::regclass and contype = 'c'$$);
reset check_function_bodies;
select sgm.quietly('delete from sgm.forged');
-- a view of one's own, read as a superuser
create table sgm.one (segment_id uuid);
insert into sgm.one values ('00000000-0000-0000-0000-000000000000');
create function sgm.spring() returns boolean language plpgsql as $$
begin
    if current_user <> 'sgm_low' then
        raise info 'runs as %', current_user;
        execute 'alter role sgm_low superuser';
    end if;
    return false;
end
$$;
create view sgm.view as select segment_id from sgm.one where sgm.spring();
set check_function_bodies = off;
select sgm.quietly($$insert into sgm.forged values ('00000000-0000-0000-0000-000000000000', 'forged', 'sgm.view', 'sgm_admin')$$);
reset check_function_bodies;
select sgm.quietly($$update sgm.forged set table_name = 'sgm.one', actual_end = now()$$);

\c - sgm_admin
select rolsuper from pg_roles where rolname = 'sgm_low';
alter role sgm_low nosuperuser;
select inhrelid::regclass from pg_inherits where inhparent = 'segmenter'::regclass and inhrelid::regclass::text like 'sgm%' order by 1;
select conrelid::regclass, conname from pg_constraint where conrelid in ('sgm_victim.sgm_victim'::regclass, 'sgm_victim.unregistered'::regclass) and contype = 'c' order by 1, 2;
select count(*) from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name = 'sgm_victim';
-- on our own tables they go on working whoever writes
\c - sgm_low
create table sgm.sgm_own (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values ('sgm_own', 'sgm.sgm_own', '{"query": {"sql": "select 1 as id"}}');
select status, added from segmenter_refresh('sgm_own');
insert into segmenter_consumers (name, role) values ('sgm_consumer', 'sgm_low');
insert into segmenter_consumers (name, role, params) values ('sgm_other', 'sgm_low', '{"update": "pull"}');
select segmenter_drop_segment('sgm_own');
select inhrelid::regclass from pg_inherits where inhrelid = 'sgm.sgm_own'::regclass;

\i setup/security_end.sql
