-- Values that are no hashes in columns that are named as if they were.
create schema nh;
create table nh.people (id int primary key, email text, phone text);
insert into nh.people select g, 'p' || g || '@example.org', '+7912345670' || g from generate_series(1, 4) g;
create view nh.hashed as
select id, segmenter_hash(segmenter_email(email)) as hash_email, segmenter_hash(segmenter_phone(phone), 'md5') as hash_phone from nh.people;
select segmenter_put_segment('plain', 'select id, email as hash_email, phone as hash_phone from nh.people', table_name => 'nh.plain');
select segmenter_put_segment('hashed', 'select id, hash_email, hash_phone from nh.hashed', table_name => 'nh.hashed_people');
select segment, status from segmenter_refresh('hashed');
select segment, status from segmenter_refresh('plain', dry_run => true);
select segment, status from segmenter_refresh('plain');
-- Of whom it is said already, it is not said again; the doctor goes on.
select segment, status from segmenter_refresh('plain');
select status, detail, hint from segmenter_doctor() where "check" = 'hashes';
insert into nh.people values (5, null, null), (6, 'p6@example.org', null);
select segment, status, added from segmenter_refresh('plain');
-- Other columns of that name, of other types and of a domain; short values, and one that is long enough.
create domain nh.hash as text;
alter table nh.plain add hash_google nh.hash, add hash_binary bytea, add hash_number int, add hashed text;
select segment, status from segmenter_refresh('plain', $$select 7 as id, 'short' as hash_email, 'x'::nh.hash as hash_google, '\x01'::bytea as hash_binary, 1 as hash_number, 'a@b' as hashed
    union all select 8, rpad('', 22, 'x'), rpad('', 21, 'x'), null, null, null$$);
-- An incremental pass, and a procedure.
update segmenter_segments set refresh_params = $${"incremental": {"changed": "select id from nh.people where id > 4 and $1 is not null", "full_cron": "@yearly",
    "sql": "select p.id, email as hash_email from nh.people p join changed using (id)"}}$$ where name = 'plain';
set client_min_messages = error;
select segment, status from segmenter_refresh('plain');
reset client_min_messages;
update nh.people set email = 'new' where id = 6;
select segment, status, changed from segmenter_refresh('plain');
create procedure nh.load() language plpgsql as $$
begin
    delete from nh.plain;
    insert into nh.plain (segment_id, id, hash_email) select s.id, '1', 'by hand' from segmenter_segments s where name = 'plain';
end
$$;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call nh.load()"}}' where name = 'plain';
select segment, status from segmenter_refresh('plain');
-- Mended.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, hash_email, hash_phone from nh.hashed"}}' where name = 'plain';
select segment, status from segmenter_refresh('plain');
select status, detail from segmenter_doctor() where "check" = 'hashes';
-- A preview and a diff say nothing of it: nobody is changed.
select members from segmenter_preview('select 1 as id, ''a'' as hash_email');
select count(*) from segmenter_diff('plain', 'select 1 as id, ''a'' as hash_email');
delete from segmenter_segments where name in ('plain', 'hashed');
delete from segmenter_log where segment_name in ('plain', 'hashed');
drop schema nh cascade;
