-- A set whose definition has another version than those that the library knows: it does not work on what
-- it may not understand. The version of the extension alone makes no difference.
create schema version;
create table version.people (id int primary key, email text);
select segmenter_watch('version.people');
select segmenter_create_segment('version', 'select id from version.people', null, 'version.members') is not null as made;
select extversion as installed from pg_extension where extname = 'segmenter' \gset
select schema_version from segmenter_registry where mart = 'segmenter'::regclass \gset

update pg_extension set extversion = '1.1.99' where extname = 'segmenter';
select status, added from segmenter_refresh('version');
update pg_extension set extversion = :'installed' where extname = 'segmenter';

update segmenter_registry set schema_version = 1000 where mart = 'segmenter'::regclass;
-- The library's own version is left out of what is said.
create function version.try(statement text) returns text language plpgsql as $$
declare
    why text; hint text; code text;
begin
    execute statement;
    return 'it went well';
exception when others then
    get stacked diagnostics why = message_text, hint = pg_exception_hint, code = returned_sqlstate;
    return format('%s, %s [%s] %s', statement, regexp_replace(why, 'library \d+\.\d+\.\d+', 'library …'), code, hint);
end $$;
select version.try(statement)
from unnest(array[
    'select * from segmenter_refresh(''version'')',
    'select * from segmenter_run()',
    'select * from segmenter_status',
    'update segmenter_segments set table_name = table_name where name = ''version''',
    'select segmenter_subscribe(''crm'', ''version'', ''mail'')',
    'select * from segmenter_claim(''crm'')',
    'select * from segmenter_doctor()'
]) statement;
-- Whoever writes in a watched table is not held up, and what he writes is not lost.
insert into version.people values (1), (2);
select ids from segmenter_changes where source = 'version.people'::regclass;
-- What there is can be read.
select count(*) from segmenter;
select count(*) from segmenter_log where segment_name = 'version';

update segmenter_registry set schema_version = :schema_version where mart = 'segmenter'::regclass;
select status, added from segmenter_refresh('version');

-- A set of a user that was not migrated: its members and its status can be read.
create schema version_old;
select segmenter_init('version_old.mart');
update segmenter_registry set schema_version = 1 where mart = 'version_old.mart'::regclass;
select count(*) from version_old.mart;
select count(*) from version_old.mart_status;
set segmenter.cfg_table = 'version_old.mart';
select version.try('select * from segmenter_run()');
reset segmenter.cfg_table;
select cfg_table, segments from segmenter_sets();
select "check", status, detail, hint from segmenter_doctor() where "check" = 'sets';
-- It has what it needs already, so migrating it meets what is there.
\set VERBOSITY terse
select segmenter_migrate_set('version_old.mart');
\set VERBOSITY default
update segmenter_registry set schema_version = :schema_version where mart = 'version_old.mart'::regclass;
select segmenter_migrate_set('version_old.mart');
select segmenter_drop_set('version_old.mart');
drop schema version_old;

delete from segmenter_segments where name = 'version';
select segmenter_unwatch('version.people');
delete from segmenter_changes where source = 'version.people'::regclass;
set client_min_messages = warning;
drop schema version cascade;
