-- Publications of tables that Segmenter makes and writes to: a publication for all tables (as tools that
-- capture changes make it) keeps nothing from being updated and deleted.
set client_min_messages = warning;
create schema pub;
create table pub.people (id int primary key, email text);
insert into pub.people select g, 'e' || g from generate_series(1, 5) g;
-- Tables that Segmenter makes, and one that was made without an identity.
select segmenter_create_segment('pub_h', 'select id, email as hash_email from pub.people', table_name => 'pub.h') is not null as made;
select segmenter_create_segment('pub_l', 'select id, email as hash_email from pub.people', table_name => 'pub.l', history => false) is not null as made;
create table pub.own (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('pub_own', 'pub.own', '{"query": {"sql": "select id from pub.people"}}');
select segmenter_watch('pub.people');
-- PostgreSQL warns that wal_level is too low for subscribers.
set client_min_messages = error;
create publication pub_all for all tables;
set client_min_messages = warning;

select segment, status, added from segmenter_refresh('pub_h')
union all select segment, status, added from segmenter_refresh('pub_l')
union all select segment, status, added from segmenter_refresh('pub_own');
delete from pub.people where id = 5;
update pub.people set email = 'new' where id = 1;
select segment, status, removed, changed from segmenter_refresh('pub_h')
union all select segment, status, removed, changed from segmenter_refresh('pub_l');
select segment, rows, status from segmenter_erase('2') where segment in ('pub_h', 'pub_l') order by 1;
select segmenter_prune();
-- A table that was made by hand fails alone, and the doctor says what to do.
set client_min_messages = error;
select segment, status, detail from segmenter_refresh('pub_own');
select status, detail, hint from segmenter_doctor() where "check" = 'replication';
alter table pub.own replica identity full;
select segment, status, removed from segmenter_refresh('pub_own');
select status, detail from segmenter_doctor() where "check" = 'replication';

-- A list of columns does not go with the identity.
drop publication pub_all;
create publication pub_columns for table pub.h (segment_id, id);
select status, detail from segmenter_doctor() where "check" = 'replication';
drop publication pub_columns;
create publication pub_schema for tables in schema pub;
alter table pub.l replica identity default;
select status, detail from segmenter_doctor() where "check" = 'replication';
drop publication pub_schema;
-- One that publishes inserts only asks for nothing.
create publication pub_inserts for table pub.l with (publish = 'insert');
select status, detail from segmenter_doctor() where "check" = 'replication';
drop publication pub_inserts;
-- Every relation of a set that is updated or deleted from has an identity.
select c.relname, c.relreplident
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and (c.relname = 'segmenter_changes' or c.oid = 'segmenter'::regclass)
order by 1;

select segmenter_unwatch('pub.people');
delete from segmenter_log where segment_name like 'pub\_%';
delete from segmenter_segments where name like 'pub\_%';
set client_min_messages = error;
drop schema pub cascade;
