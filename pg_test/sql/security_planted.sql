-- Code that somebody planted where others may come across it: operators and functions in a schema of
-- the search_path, conditions on a table of the mart, triggers on a table that another's segment uses.
-- It never runs with the rights of whoever comes across it.
\i setup/schema.sql
\i setup/security.sql
grant create on schema :schema to sgm_low;

\c - sgm_low
-- Says so where it does not run as its owner, and helps itself if it can.
create function sgm.spring(planted text) returns void language plpgsql as $$
begin
    if current_user operator(pg_catalog.<>) 'sgm_low' then
        raise info 'planted % runs as %', planted, current_user;
        reset transaction_read_only;
        if (select rolsuper from pg_catalog.pg_roles where rolname operator(pg_catalog.=) current_user) then
            execute 'alter role sgm_low superuser';
        end if;
    end if;
exception when others then
    raise info 'planted % as %: %', planted, current_user, sqlerrm;
end
$$;
grant usage on schema sgm to public;
-- where PostgreSQL has these for text only, those for varchar fit better
create function :schema.sgm_equal(varchar, varchar) returns boolean language plpgsql as
    $$ begin perform sgm.spring('='); return $1::text operator(pg_catalog.=) $2::text; end $$;
create function :schema.sgm_differ(varchar, varchar) returns boolean language plpgsql as
    $$ begin perform sgm.spring('<>'); return $1::text operator(pg_catalog.<>) $2::text; end $$;
create operator :schema.= (leftarg = varchar, rightarg = varchar, function = :schema.sgm_equal);
create operator :schema.<> (leftarg = varchar, rightarg = varchar, function = :schema.sgm_differ);
create function :schema.lower(varchar) returns text language plpgsql as
    $$ begin perform sgm.spring('lower'); return pg_catalog.lower($1::text); end $$;
create function :schema.quote_ident(varchar) returns text language plpgsql as
    $$ begin perform sgm.spring('quote_ident'); return pg_catalog.quote_ident($1::text); end $$;
create function :schema.uuid_hash_extended(uuid, int) returns bigint language plpgsql as
    $$ begin perform sgm.spring('uuid_hash_extended'); return 0; end $$;
create function :schema.segmenter_run_step(uuid, varchar, text[], uuid) returns text language plpgsql as
    $$ begin perform sgm.spring('segmenter_run_step'); return 'ok'; end $$;
create function :schema.sgm_exists(uuid, text) returns boolean language plpgsql as
    $$ begin perform sgm.spring('uuid = text'); return true; end $$;
create operator :schema.= (leftarg = uuid, rightarg = text, function = :schema.sgm_exists);

\c - sgm_victim
set search_path = pg_catalog;
create table sgm_victim.people (id varchar, email varchar, login varchar);
insert into sgm_victim.people values ('1', 'A', 'A'), ('2', 'B', 'B');
create table sgm_victim.sgm_careful (like :schema.segmenter including defaults);
create unique index on sgm_victim.sgm_careful (id) where actual_end = 'infinity';
create table sgm_victim.sgm_careless (like :schema.segmenter including defaults, unique (id));
insert into :schema.segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('sgm_careful', 'sgm_victim.sgm_careful', true, '{"query": {"sql": "select p.id, p.email as hash_email from sgm_victim.people p"}}'),
    ('sgm_careless', 'sgm_victim.sgm_careless', false, '{"query": {"sql": "select id, lower(email) as hash_email from sgm_victim.people where email = login and id <> login"}}');

-- our own statements
select segment, status, added, removed, changed, coverage from :schema.segmenter_refresh('sgm_careful');
update sgm_victim.people set email = 'C' where id operator(pg_catalog.=) '1'::text;
select segment, status, added, removed, changed, coverage from :schema.segmenter_refresh('sgm_careful');
\c - sgm_admin
set search_path = pg_catalog;
update sgm_victim.people set email = 'D', id = '3' where id operator(pg_catalog.=) '1'::text;
select segment, status, added, removed, changed, coverage from :schema.segmenter_run() where segment operator(pg_catalog.=) 'sgm_careful';
call :schema.segmenter_run_each();
select name, coverage from :schema.segmenter_status where name operator(pg_catalog.=) 'sgm_careful';
update :schema.segmenter_segments set context = 'x' where name operator(pg_catalog.=) 'sgm_careful';
-- the statements of a segment's owner: his own SQL, with names as short as he likes
\c - sgm_victim
set search_path = pg_catalog;
set client_min_messages = error;
select count(*) from :schema.segmenter_refresh('sgm_careless');
\c - sgm_admin
set search_path = pg_catalog;
set client_min_messages = error;
update :schema.segmenter_segments set owner = 'sgm_admin' where name operator(pg_catalog.=) 'sgm_careless';
select count(*) from :schema.segmenter_refresh('sgm_careless');
select rolsuper from pg_roles where rolname operator(pg_catalog.=) 'sgm_low';
alter role sgm_low nosuperuser;
delete from :schema.segmenter_segments where name operator(pg_catalog.=) any ('{sgm_careful,sgm_careless}');
revoke create on schema :schema from sgm_low;
drop operator :schema.= (varchar, varchar);
drop operator :schema.<> (varchar, varchar);
drop operator :schema.= (uuid, text);
drop function :schema.sgm_equal, :schema.sgm_differ, :schema.lower(varchar), :schema.quote_ident(varchar),
    :schema.uuid_hash_extended(uuid, int), :schema.segmenter_run_step(uuid, varchar, text[], uuid), :schema.sgm_exists;

-- Conditions of a table that PostgreSQL works out while it plans: looking after that table's segment
-- plans nothing over it as anybody but its owner. (Reading the mart does: see docs/security.md.)
\c - sgm_low
create function sgm.constant(planted text) returns boolean language plpgsql immutable as
    $$ begin perform sgm.spring(planted); return true; end $$;
create table sgm.sgm_index (like segmenter including defaults, unique (id));
create table sgm.sgm_check (like segmenter including defaults, unique (id));
create table sgm.sgm_statistics (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_index', 'sgm.sgm_index', '{"query": {"sql": "select 1 as id"}}'),
    ('sgm_check', 'sgm.sgm_check', '{"query": {"sql": "select 1 as id"}}'),
    ('sgm_statistics', 'sgm.sgm_statistics', '{"query": {"sql": "select 1 as id"}}');
set client_min_messages = error;
create index on sgm.sgm_index (hash_email) where sgm.constant('predicate');
create index on sgm.sgm_index ((sgm.constant('expression')));
alter table sgm.sgm_check add check (sgm.constant('check'));
create statistics sgm.statistics on (sgm.constant('statistics')), id from sgm.sgm_statistics;
select count(*) from segmenter_refresh('sgm_index');
select count(*) from segmenter_refresh('sgm_check');
select count(*) from segmenter_refresh('sgm_statistics');
analyze sgm.sgm_statistics;
\c - sgm_admin
set client_min_messages = error;
update segmenter_segments set table_name = table_name, description = 'x' where name in ('sgm_check', 'sgm_index');
select count(*) > 0 from segmenter_status;
select segment, status from segmenter_refresh('sgm_check');
select rolsuper from pg_roles where rolname = 'sgm_low';
alter role sgm_low nosuperuser;
delete from segmenter_segments where name like 'sgm%';

-- A segment of a superuser's on somebody else's table: what that table does when it is written must
-- not be done by the superuser.
\c - sgm_low
create table sgm.sgm_trap (like segmenter including defaults, unique (id));
create table sgm.sgm_trap_later (like segmenter including defaults, unique (id));
create table sgm.sgm_trap_owner (like segmenter including defaults, unique (id));
create function sgm.row() returns trigger language plpgsql as $$ begin perform sgm.spring(tg_table_name); return new; end $$;
create trigger trap before insert on sgm.sgm_trap for each row execute function sgm.row();
create trigger trap before insert on sgm.sgm_trap_owner for each row execute function sgm.row();
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_trap_owner', 'sgm.sgm_trap_owner', '{"query": {"sql": "select 1 as id"}}');
\c - sgm_admin
set client_min_messages = error;
create function sgm.quietly(command text) returns void language plpgsql as
    $$ begin execute command; exception when others then null; end $$;
select sgm.quietly($$insert into segmenter_segments (name, table_name, refresh_params) values ('sgm_trap', 'sgm.sgm_trap', '{"query": {"sql": "select 1 as id"}}')$$);
select sgm.quietly($$insert into segmenter_segments (name, table_name, refresh_params) values ('sgm_trap_later', 'sgm.sgm_trap_later', '{"query": {"sql": "select 1 as id"}}')$$);
select sgm.quietly($$update segmenter_segments set owner = 'sgm_admin' where name = 'sgm_trap_owner'$$);
\c - sgm_low
create trigger trap before insert on sgm.sgm_trap_later for each row execute function sgm.row();
\c - sgm_admin
set client_min_messages = error;
select count(*) from segmenter_refresh('sgm_trap');
select count(*) from segmenter_refresh('sgm_trap_later');
select count(*) from segmenter_refresh('sgm_trap_owner');
select rolsuper from pg_roles where rolname = 'sgm_low';
alter role sgm_low nosuperuser;

\i setup/security_end.sql
