-- What a role may not write to, it locks nothing of through Segmenter; and users' SQL is restricted unless the
-- session is its owner's own.
\i setup/security.sql
grant usage on schema sgm to public;

\c - sgm_victim
create table sgm_victim.people (segment_id uuid, id text);
create table sgm_victim.theirs (like segmenter including defaults, unique (segment_id, id));
insert into segmenter_segments (id, name, table_name, refresh_params)
values ('00000000-0000-0000-0000-00000000000a', 'sgm_victim', 'sgm_victim.theirs', '{"query": {"sql": "select 1 as id"}}');
select status, coverage from segmenter_refresh('sgm_victim');
insert into segmenter_segments (name, table_name) values ('sgm_victim too', 'sgm_victim.theirs');
grant select, insert, update on sgm_victim.theirs to sgm_low;

-- Rows of one's own set that name others' tables; a policy that looks for locks while they are read.
\c - sgm_low
create function sgm.locks(relations text default 'sgm_victim.people,sgm_victim.theirs') returns text language sql as $$
    select string_agg(distinct l.relation::regclass::text || ' ' || l.mode, ', ') from pg_locks l
    where l.pid = pg_backend_pid() and l.relation::regclass::text = any (string_to_array(relations, ','))
$$;
create function sgm.spy() returns boolean language plpgsql as $$
begin
    if sgm.locks() is not null then
        raise info 'held while rows are read: %', sgm.locks();
    end if;
    return true;
end
$$;
select segmenter_init('sgm.seg');
alter table sgm.seg_segments disable trigger user;
-- (An erasure goes by the ids.)
insert into sgm.seg_segments (id, name, table_name, refresh_params)
select ('00000000-0000-0000-0000-00000000000' || v.n)::uuid, v.name, to_regclass(v.relation)::oid, '{"query": {"sql": "select 1 as id"}}'
from (values (1, 'people', 'sgm_victim.people'), (2, 'catalog', 'pg_catalog.pg_class'), (3, 'config', 'segmenter_segments')) v (n, name, relation);
insert into sgm.seg_segments (id, name, table_name, owner, refresh_params)
values ('00000000-0000-0000-0000-000000000004', 'forged', 'sgm_victim.theirs'::regclass, 'sgm_victim', '{"query": {"sql": "select 1 as id"}}');
insert into sgm.seg_segments (id, name, table_name, actual_end) values ('00000000-0000-0000-0000-000000000005', 'retired', 'sgm_victim.theirs'::regclass, now());
insert into sgm.seg_consumers (name, role) values ('low', 'sgm_low');
insert into sgm.seg_subscriptions (id, consumer_id, segment_id, target, name)
select '00000000-0000-0000-0000-0000000000aa', c.id, s.id, 'x', 'x' from sgm.seg_consumers c, sgm.seg_segments s where s.name = 'people';
-- Only a segment that was refreshed is handed over.
insert into sgm.seg_state (segment_id, refreshes) values ('00000000-0000-0000-0000-000000000001', 1);
alter table sgm.seg_segments enable trigger user;
drop policy segmenter_member on sgm.seg_segments;
create policy spy on sgm.seg_segments using (sgm.spy());
alter table sgm.seg_segments force row level security;
set segmenter.cfg_table = 'sgm.seg';
\set VERBOSITY terse
begin;
select segment, status, detail from segmenter_run() order by segment;
-- The schema of the extension is left out of what is said.
set client_min_messages = error;
select n, status, regexp_replace(detail, '\S+\.segmenter_segments', 'segmenter_segments') as detail
from (values (1, 'people'), (2, 'catalog'), (3, 'config'), (4, 'forged')) v (n, name), segmenter_refresh(v.name) order by n;
reset client_min_messages;
select sgm.locks();
rollback;
select segmenter_resync('00000000-0000-0000-0000-0000000000aa');
delete from sgm.seg_subscriptions;
delete from sgm.seg_segments where name = 'catalog' or name = 'config';
select segmenter_erase('1');
delete from sgm.seg_segments where name <> 'retired';
select segmenter_erase('1');
reset segmenter.cfg_table;

-- In the extension's own set: rows are checked, retired ones too.
\set VERBOSITY default
insert into segmenter_segments (name, table_name, actual_end) values ('sgm ghost', (select c.oid from pg_class c where c.oid = 'sgm_victim.people'::regclass), now());
create table sgm.mine (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, actual_end) values ('sgm ghost', 'sgm.mine', now());
update segmenter_segments set table_name = 'sgm_victim.people'::regclass where name = 'sgm ghost';
-- Changed otherwise, it needs no right on the table.
update segmenter_segments set description = 'retired' where name = 'sgm ghost';
select segmenter_drop_segment('sgm ghost');
drop table sgm.mine;

-- The id of a segment that is gone, with rows that are still there.
\c - sgm_victim
select segmenter_drop_segment('sgm_victim');
\c - :super
delete from segmenter_log where segment_name = 'sgm_victim';
\c - sgm_low
insert into segmenter_segments (id, name, table_name, actual_end)
values ('00000000-0000-0000-0000-00000000000a', 'sgm heir', 'sgm_victim.theirs', now());
\c - sgm_victim
insert into segmenter_segments (id, name, table_name, refresh_params)
values ('00000000-0000-0000-0000-00000000000a', 'sgm_victim', 'sgm_victim.theirs', '{"query": {"sql": "select 1 as id"}}');
select status, coverage from segmenter_refresh('sgm_victim');

-- Rights that are taken back.
\c - sgm_low
insert into segmenter_segments (name, table_name, refresh_params)
values ('sgm guest', 'sgm_victim.theirs', '{"query": {"sql": "select 2 as id"}}');
select status, coverage from segmenter_refresh('sgm guest');
select segmenter_subscribe('sgm guest', 'sgm guest', 'sgm') is not null as subscribed;
\c - sgm_victim
select segmenter_drop_segment(name) from segmenter_segments where name like 'sgm_victim%' order by name;
revoke insert, update on sgm_victim.theirs from sgm_low;
\c - sgm_low
\set VERBOSITY terse
begin;
select status, detail from segmenter_refresh('sgm guest');
select segment, status, detail from segmenter_run();
select sgm.locks('sgm_victim.theirs');
rollback;
select segmenter_erase('2');
select segmenter_resync(id) from segmenter_subscriptions where target = 'sgm';
create table sgm.mine (like segmenter including defaults, unique (id));
-- It leaves the table that it may only read, which stays where it is.
\c - sgm_victim
delete from sgm_victim.theirs;
\c - sgm_low
begin;
update segmenter_segments set table_name = 'sgm.mine' where name = 'sgm guest';
select mode from pg_locks where relation = 'sgm_victim.theirs'::regclass and pid = pg_backend_pid() and mode ~ 'Exclusive';
commit;
select status, coverage from segmenter_refresh('sgm guest');
-- A table of its own, whose owner has taken the rights back: its members can still be erased.
\c - sgm_victim
create table sgm_victim.given (like segmenter including defaults, unique (id));
\c - :super
grant sgm_victim to sgm_low;
\c - sgm_low
insert into segmenter_segments (name, table_name, owner, refresh_params)
values ('sgm given', 'sgm_victim.given', 'sgm_low', '{"query": {"sql": "select 3 as id"}}');
select status, coverage from segmenter_refresh('sgm given');
\c - :super
revoke sgm_victim from sgm_low;
\c - sgm_low
select status, detail from segmenter_refresh('sgm given');
select segment, rows from segmenter_erase('3');

-- Users' SQL, where the current role is its owner and the session is not.
\c - sgm_low
create function sgm.climb() returns text language plpgsql as $$
begin
    execute 'set role ' || quote_ident(session_user);
    return 'became ' || current_user;
exception when insufficient_privilege then
    return sqlerrm;
end
$$;
create procedure sgm.load() language plpgsql as $$
declare
    said text := sgm.climb();
begin
    delete from sgm.climbed;
    insert into sgm.climbed (segment_id, id) select s.id, said from segmenter_segments s where s.name = 'sgm climbing';
end
$$;
create table sgm.climbed (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('sgm climbing', 'sgm.climbed', '{"query": {"sql": "select sgm.climb() as id"}}');
create function sgm.refresh() returns text language sql security definer as $$ select status from segmenter_refresh('sgm climbing') $$;
\c - sgm_admin
set role sgm_low;
select status from segmenter_refresh('sgm climbing');
select id from sgm.climbed;
reset role;
set session authorization sgm_low;
select status from segmenter_refresh('sgm climbing');
select id from sgm.climbed;
reset session authorization;
select sgm.refresh();
select id from sgm.climbed;

-- Code on a set that was given to a superuser.
\c - sgm_low
alter table sgm.seg_segments no force row level security;
delete from sgm.seg_segments;
set segmenter.cfg_table = 'sgm.seg';
select segmenter_create_segment('honest', 'select 1 as id', null, 'sgm.honest') is not null as created;
create function sgm.on_log() returns trigger language plpgsql as $$
begin
    begin
        create temporary table planted ();
        raise info 'not restricted';
    exception when insufficient_privilege then
        raise info '%', sqlerrm;
    end;
    return new;
end
$$;
create trigger on_log before insert on sgm.seg_log for each row execute function sgm.on_log();
\c - sgm_admin
reassign owned by sgm_low to sgm_admin;
select segmenter_adopt_set('sgm.seg');
set segmenter.cfg_table = 'sgm.seg';
select status from segmenter_refresh('honest');
select segmenter_drop_set('sgm.seg', true);
\i setup/security_end.sql
