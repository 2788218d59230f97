-- Members and tables that are large or odd: what cannot be stored is named and keeps no other back, and a table
-- that can never be refreshed is refused when it is registered.
\set VERBOSITY default
\i setup/columns.sql
create schema odd;
create table odd.p (id text, email text);
insert into odd.p select g::text, 'e' || g from generate_series(1, 3) g;
select segmenter_create_segment('odd h', 'select id, email as hash_email from odd.p', table_name => 'odd.h') is not null as created;
select segmenter_create_segment('odd l', 'select id, email as hash_email from odd.p', table_name => 'odd.l', history => false) is not null as created;
-- An id of random digits, which no index has room for.
create function odd.long(bytes int) returns text language sql as $$
    select left(string_agg(encode(sha512(convert_to(g::text, 'UTF8')), 'base64'), ''), bytes) from generate_series(1, 1 + bytes / 80) g
$$;
insert into odd.p values (odd.long(3000), 'long'), (odd.long(2600), 'fits');
select segment, status, added, detail from unnest('{odd h,odd l}'::text[]) n, lateral segmenter_refresh(n);
select num_received, num_invalid, coverage, message ~ 'an id is at most' as is_said from segmenter_log where segment_name ~ '^odd' order by id;
-- Again, with nothing else to do; with rows without an id; with several; by a join; and by an incremental pass.
insert into odd.p values (null, 'none'), (odd.long(90000), 'longer');
set client_min_messages = error;
select status, added, removed, coverage, replace(detail, odd.long(40), '(id)') as detail from segmenter_refresh('odd h');
set maintenance_work_mem = '1MB';
select segmenter_create_segment('odd joined', 'select g::text as id from generate_series(1, 60000) g union all select odd.long(3000)', table_name => 'odd.joined') is not null as created;
select status, added, coverage from segmenter_refresh('odd joined');
select status, added, removed, replace(detail, odd.long(40), '(id)') as detail from segmenter_refresh('odd joined');
reset maintenance_work_mem;
select segmenter_watch('odd.p', 'id');
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["odd.p"], "sql": "select id, email as hash_email from odd.p join changed using (id)"}}' where name = 'odd l';
select status, coverage from segmenter_refresh('odd l');
insert into odd.p values (odd.long(3500), 'yet another'), ('4', 'e4');
select status, added, removed, coverage, replace(detail, odd.long(40), '(id)') as detail from segmenter_refresh('odd l');
reset client_min_messages;

-- Ids of a fixed length cannot be too long; empty and odd ones are ids as others.
select segmenter_create_segment('odd ids', $$select unnest(array['', ' ', E'\t\n', '''', '"', E'\\', '{}', '%', U&'\00e9', U&'e\0301', '(null)', '\N', '-1'])$$ || ' as id', table_name => 'odd.ids') is not null as created;
select status, added, coverage from segmenter_refresh('odd ids');
select status, added, removed, coverage from segmenter_refresh('odd ids');
select segmenter_create_segment('odd numbers', 'select g as id from generate_series(1, 3) g', table_name => 'odd.numbers') is not null as created;
select status, added from segmenter_refresh('odd numbers');

-- Too many columns.
select format('create table odd.wide (%s, unique (segment_id, id), %s)', :'columns', string_agg(format('c%s int', g), ', ')) as command from generate_series(1, 828) g \gset
:command;
-- hash_email and hash_phone are two of the 830.
insert into segmenter_segments (name, table_name, refresh_params) values ('odd wide', 'odd.wide', '{"procedure": {"sql": "call odd.load()"}}');
create procedure odd.load() language sql as $$ delete from odd.wide $$;
select status, detail from segmenter_refresh('odd wide');
alter table odd.wide add c829 int;
select status, detail from segmenter_refresh('odd wide');
create table odd.wider (like odd.wide including all);
insert into segmenter_segments (name, table_name) values ('odd wider', 'odd.wider');
\set VERBOSITY sqlstate
insert into segmenter_segments (name, table_name) values ('odd wider', 'odd.wider');
\set VERBOSITY default

-- A table made like the mart has its check, too: it goes.
create table odd.like_all (like segmenter including all, unique (id));
select conname from pg_constraint where conrelid = 'odd.like_all'::regclass and contype = 'c';
insert into segmenter_segments (name, table_name, refresh_params) values ('odd like', 'odd.like_all', '{"query": {"sql": "select 1 as id"}}');
select status, added from segmenter_refresh('odd like');
select count(*) from pg_constraint where conrelid = 'odd.like_all'::regclass and contype = 'c' and conname ~ 'no_row';
-- One that was registered before that is named.
alter table odd.like_all add constraint segmenter_holds_no_row check (false) no inherit not valid;
select status, detail from segmenter_refresh('odd like');
update segmenter_segments set table_name = table_name where name = 'odd like';
select status from segmenter_refresh('odd like');

set client_min_messages = error;
delete from segmenter_segments where name ~ '^odd';
delete from segmenter_log;
drop schema odd cascade;
