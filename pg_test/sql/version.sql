-- Objects of another version than the library's: it does not work on what it may not understand.
create schema version;
create table version.people (id int primary key, email text);
select segmenter_watch('version.people');
select segmenter_create_segment('version', 'select id from version.people', null, 'version.members') is not null as made;
select extversion as installed from pg_extension where extname = 'segmenter' \gset

update pg_extension set extversion = '0.1' where extname = 'segmenter';
-- The library's own version is left out of what is said.
create function version.try(statement text) returns text language plpgsql as $$
declare
    why text; hint text; code text;
begin
    execute statement;
    return 'it went well';
exception when others then
    get stacked diagnostics why = message_text, hint = pg_exception_hint, code = returned_sqlstate;
    return format('%s, %s [%s] %s', statement, regexp_replace(why, 'at \d+\.\d+\.\d+$', 'at …'), code, hint);
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

update pg_extension set extversion = :'installed' where extname = 'segmenter';
select status, added from segmenter_refresh('version');

delete from segmenter_segments where name = 'version';
select segmenter_unwatch('version.people');
delete from segmenter_changes where source = 'version.people'::regclass;
set client_min_messages = warning;
drop schema version cascade;
