-- Registering segment tables: which are refused and why, and when a table joins and leaves the
-- mart: at a new table_name, when a segment is retired, revived and deleted.
\i setup/columns.sql
create schema tables;
create table tables.model (:columns);
create procedure tables.try(table_name text, name text default 's') language plpgsql as $$
declare
    hint text;
begin
    insert into segmenter_segments (name, table_name) values (name, table_name::regclass);
    raise info 'accepted';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    raise info '[%] %', sqlstate, concat_ws(E'\nHINT:  ', replace(regexp_replace(sqlerrm, 'pg_temp_\d+', 'pg_temp'),
        (select extnamespace::regnamespace || '.' from pg_extension where extname = 'segmenter'), '(schema).'), nullif(hint, ''));
end $$;
-- A table like the model, but for something.
create procedure tables.but(change text) language plpgsql as $$
begin
    create table tables.t (like tables.model including all);
    create unique index t_id_key on tables.t (id);
    execute 'alter table tables.t ' || change;
    call tables.try('tables.t');
    drop table tables.t;
    delete from segmenter_segments where segmenter_segments.name = 's';
end $$;

-- Columns that lack, or are not what they must be.
call tables.but('drop column segment_id');
call tables.but('drop column hash_phone');
call tables.but('rename id to "ID"');
call tables.but('alter hash_email type text');
call tables.but('alter hash_email type varchar(64)');
call tables.but('alter id type int using 1');
call tables.but('alter segment_id type text');
call tables.but('alter actual_begin type timestamptz');
call tables.but('alter processed type timestamp(0)');
call tables.but('alter actual_end drop not null');
call tables.but('alter segment_id drop not null');
call tables.but('drop column hash_phone, add column hash_phone varchar generated always as (upper(id)) stored');
call tables.but('alter id type varchar collate "C"');
-- These are as good as the model.
call tables.but('alter id set not null');
call tables.but('add column more int, add primary key (id)');
call tables.but('alter actual_begin drop default');
call tables.but('set unlogged');

-- An unlogged one: the doctor reports it for as long as it is.
create unlogged table tables.unlogged (like tables.model including all, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values ('tables unlogged', 'tables.unlogged', '{"query": {"sql": "select 1 as id"}}');
select status, added, detail from segmenter_refresh('tables unlogged');
create view tables.doctor as select status, detail, hint from segmenter_doctor() where "check" = 'tables' and detail like '%unlogged%';
select * from tables.doctor;
alter table tables.unlogged set logged;
select * from tables.doctor;
alter table tables.unlogged set unlogged;
select count(*) from tables.doctor;
select segmenter_drop_segment('tables unlogged', true);

-- No index that tells members apart.
create table tables.t (like tables.model including all);
call tables.try('tables.t');
create index on tables.t (id);
create unique index on tables.t (id, hash_email);
create unique index on tables.t (segment_id);
create unique index on tables.t (id) where actual_end > 'infinity';
create unique index on tables.t (id) where actual_end = '9999-12-31';
create unique index on tables.t ((id || ''));
alter table tables.t add exclude (id with =);
call tables.try('tables.t');
-- More columns stored in the index, or another order of both, do no harm.
create unique index on tables.t (id, segment_id) include (hash_email) where actual_end = 'infinity';
call tables.try('tables.t');
delete from segmenter_segments;
drop table tables.t;

-- What is no ordinary table of the user's own.
create temp table temporary (like tables.model including all, unique (id));
create view tables.a_view as table tables.model;
create materialized view tables.a_matview as table tables.model;
create table tables.partitioned (like tables.model including all, unique (segment_id, id)) partition by hash (segment_id);
create table tables.partition partition of tables.partitioned for values with (modulus 1, remainder 0);
create sequence tables.a_sequence;
create type tables.a_type as (segment_id uuid, id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp, actual_end timestamp, processed timestamp);
create table tables.typed of tables.a_type (segment_id not null, actual_begin not null, actual_end not null, processed not null, unique (id));
create table tables.of_an_extension (like tables.model including all, unique (id));
alter extension segmenter add table tables.of_an_extension;
call tables.try('temporary');
call tables.try('tables.a_view');
call tables.try('tables.a_matview');
call tables.try('tables.partitioned');
call tables.try('tables.partition');
call tables.try('tables.a_sequence');
call tables.try('tables.typed');
call tables.try('tables.of_an_extension');
call tables.try('segmenter');
call tables.try('segmenter_log');
call tables.try('segmenter_status');
call tables.try('pg_catalog.pg_class');
call tables.try('information_schema.tables');
alter extension segmenter drop table tables.of_an_extension;

-- What depends on nothing else may still be a parent, or a child of another table.
create table tables.parent (id varchar, more int);
create table tables.child (like tables.model including all, more int, unique (id)) inherits (tables.parent);
call tables.try('tables.child');
select inhparent::regclass from pg_inherits where inhrelid = 'tables.child'::regclass order by 1;
delete from segmenter_segments;
select inhparent::regclass from pg_inherits where inhrelid = 'tables.child'::regclass order by 1;

-- A table of one segment takes no other; one that is shared takes many.
create table tables.own (like tables.model including all, unique (id));
create table tables.shared (like tables.model including all, unique (segment_id, id));
call tables.try('tables.own', 'one');
call tables.try('tables.own', 'two');
call tables.try('tables.shared', 'two');
call tables.try('tables.shared', 'three');
create view tables.mart as
select c.relname, (select string_agg(k.conname, ', ') from pg_constraint k where k.conrelid = c.oid and k.contype = 'c') as checks
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'segmenter'::regclass;
select * from tables.mart order by 1;

-- Rows of somebody else in a table that is to be one's own.
create table tables.used (like tables.model including all, unique (id));
insert into tables.used values (gen_random_uuid(), '1');
call tables.try('tables.used', 'four');
truncate tables.used;
call tables.try('tables.used', 'four');

-- Moving to another table: at once while there is no row, else after the rows.
create table tables.next (like tables.model including all, unique (id) include (hash_email));
update segmenter_segments set table_name = 'tables.next' where name = 'one';
select * from tables.mart order by 1;
select status, added from segmenter_refresh('one', 'select 1 as id union all select 2');
do $$
declare
    segment uuid := (select id from segmenter_segments where name = 'one');
    hint text;
begin
    begin
        update segmenter_segments set table_name = 'tables.own' where name = 'one';
    exception when others then
        get stacked diagnostics hint = pg_exception_hint;
        raise info '[%] %', sqlstate, concat_ws(E'\nHINT:  ', sqlerrm, replace(hint, segment::text, '<the segment>'));
    end;
end $$;
insert into tables.own table tables.next;
delete from tables.next;
update segmenter_segments set table_name = 'tables.own' where name = 'one';
select status, added, coverage from segmenter_refresh('one', 'select 1 as id union all select 2');
-- To a table that does not fit: nothing changes.
update segmenter_segments set table_name = 'tables.model' where name = 'four';
update segmenter_segments set table_name = 'tables.own' where name = 'four';
select table_name from segmenter_segments where name = 'four';
select * from tables.mart order by 1;
-- From a shared table, while the others stay; and to it.
select status, added from segmenter_refresh('two', 'select 1 as id');
select status, added from segmenter_refresh('three', 'select 1 as id');
delete from tables.shared s using segmenter_segments g where g.id = s.segment_id and g.name = 'two';
update segmenter_segments set table_name = 'tables.next' where name = 'two';
select status, added from segmenter_refresh('three', 'select 1 as id union all select 2');
select * from tables.mart order by 1;

-- Retired, its table stays in the mart with all that was; nobody refreshes it or takes its table.
update segmenter_segments set actual_end = now() where name = 'one';
select count(*) from segmenter m join segmenter_segments s on s.id = m.segment_id and s.name = 'one';
select status, detail from segmenter_refresh('one', 'select 1 as id');
select count(*) from segmenter_status where name = 'one';
call tables.try('tables.own', 'five');
select * from tables.mart order by 1;
-- Revived, it goes on where it was.
update segmenter_segments set actual_end = 'infinity' where name = 'one';
select status, added, removed, coverage from segmenter_refresh('one', 'select 2 as id union all select 3');
-- A retired segment leaves its rows behind no more than another.
update segmenter_segments set actual_end = now() where name = 'one';
\set VERBOSITY terse
update segmenter_segments set table_name = 'tables.of_an_extension' where name = 'one';
\set VERBOSITY default

-- Deleted, its table leaves the mart and keeps its rows; a shared one leaves with the last.
delete from segmenter_segments where name = 'one';
delete from segmenter_segments where name = 'two';
select * from tables.mart order by 1;
select count(*) from tables.own;
truncate tables.own;
call tables.try('tables.own', 'five');
call tables.try('tables.shared', 'six');
delete from segmenter_segments where name = 'three';
select * from tables.mart order by 1;
delete from segmenter_segments where name = 'six';
select * from tables.mart order by 1;

-- A table may be renamed and put elsewhere: the segment follows.
alter table tables.own rename to renamed;
create schema tables_too;
alter table tables.renamed set schema tables_too;
select name, table_name from segmenter_status order by 1;
select segment, status, added, detail from segmenter_refresh('five', 'select 1 as id');

-- Only who could alter a table brings it into the mart. A shared table that is there takes others'
-- segments too; whether they may write to it is the table's own affair.
create role tables_user;
create table tables.theirs (like tables.model including all, unique (id));
grant usage on schema tables, tables_too to tables_user;
grant all on tables.theirs, tables.shared to tables_user;
set role tables_user;
call tables.try('tables.theirs', 'theirs');
call tables.try('tables.shared', 'theirs');
call tables.try('segmenter_outbox', 'theirs');
reset role;
alter table tables.theirs owner to tables_user;
set role tables_user;
call tables.try('tables.theirs', 'theirs');
select name, owner, table_name from segmenter_segments;
update segmenter_segments set table_name = 'tables_too.renamed';
reset role;
call tables.try('tables.shared', 'seven');
select status, added, detail from segmenter_refresh('seven', 'select 1 as id');
set role tables_user;
call tables.try('tables.shared', 'eight');
select status, added, detail from segmenter_refresh('eight', 'select 1 as id');
reset role;
revoke all on tables.shared from tables_user;
set role tables_user;
select status, added, detail from segmenter_refresh('eight', 'select 2 as id');
-- Who may not write to a table any more locks nothing of it: it stays in the mart when the segment has gone.
reset role;
alter table tables.theirs owner to current_user;
set role tables_user;
select segmenter_drop_segment('theirs');
reset role;
select * from tables.mart order by 1;

delete from segmenter_segments;
delete from segmenter_log;
drop table temporary;
set client_min_messages = warning;
drop schema tables, tables_too cascade;
drop role tables_user;
