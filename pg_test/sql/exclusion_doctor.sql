-- What the doctor says of lists: late ones, with what waits for them; and those that have no effect.
create schema lists;
create table lists.people (id text);
insert into lists.people values ('1'), ('2'), ('3');
create function lists.doctor() returns table (status text, detail text, hint text) language sql as $$
    select status, detail, hint from segmenter_doctor() where "check" = 'exclusion'
$$;
select count(segmenter_create_segment('lists ' || name, 'select id from lists.people', table_name => 'lists.' || name))
from unnest('{out,a,b}'::text[]) name;
select * from lists.doctor();
-- Healthy: a suppression list that others go by, a group of two, a list that is named.
update segmenter_segments set is_suppression = true, refresh_params = '{"query": {"sql": "select id from lists.people where id = ''3''"}}' where name = 'lists out';
select status, coverage from segmenter_refresh('lists out');
select count(*) from unnest('{a,b}'::text[]) n, lateral segmenter_refresh('lists ' || n);
update segmenter_segments set priority_group = 'lists', priority = 1 where name = 'lists a';
select * from lists.doctor();
update segmenter_segments set priority_group = 'lists', priority = 2 where name = 'lists b';
select * from lists.doctor();

-- A list that was never refreshed, that failed, that was refused.
select segmenter_create_segment('lists new', 'select id from lists.people where id = ''2''', table_name => 'lists.new') is not null as created;
update segmenter_segments set exclude = '["lists new"]' where name = 'lists b';
select * from lists.doctor();
select count(*) from segmenter_refresh('lists new');
select * from lists.doctor();
set client_min_messages = error;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'lists out';
select status from segmenter_refresh('lists out');
select * from lists.doctor();
select status, detail from segmenter_refresh('lists a');
select status, detail from segmenter_refresh('lists b');
-- Those that wait for it are counted, in one line.
select status, detail from segmenter_doctor() where "check" = 'refreshes' and detail like '%"lists %';
begin;
select segmenter_create_segment('lists late', 'select id from lists.people', table_name => 'lists.late') is not null as created;
update segmenter_segments set exclude = '["lists late"]' where name = 'lists new';
select status, detail from segmenter_refresh('lists new');
select status, detail from segmenter_doctor() where "check" = 'refreshes' and detail like '%"lists %';
update segmenter_segments set is_suppression = false where name = 'lists out';
select status, detail from segmenter_refresh('lists b');
select status, detail from segmenter_doctor() where "check" = 'refreshes' and detail like '%"lists %';
rollback;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from lists.people"}}', guards = '{"max_members": 2}' where name = 'lists out';
select status from segmenter_refresh('lists out');
select * from lists.doctor();
update segmenter_segments set guards = '{}' where name = 'lists out';
select status from segmenter_refresh('lists out');
select * from lists.doctor();
-- A schedule whose time has passed: five minutes ago.
update segmenter_segments set refresh_auto = true, refresh_cron = '* * * * *' where name = 'lists out';
update segmenter_state set started_at = started_at - interval '5 min', ended_at = ended_at - interval '5 min' where segment_id = (select id from segmenter_segments where name = 'lists out');
select status, regexp_replace(detail, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', '(time)') as detail from lists.doctor();
select status from segmenter_refresh('lists out');
select * from lists.doctor();

-- A suppression list that all are exempt from, and an exemption that has no effect.
update segmenter_segments set exempt = '{"lists out": "why not"}' where name in ('lists a', 'lists b', 'lists new');
select * from lists.doctor();
update segmenter_segments set is_suppression = false where name = 'lists out';
select * from lists.doctor();
reset client_min_messages;

-- A role that sees one of the segments is told of that one; names of others' segments are no part of it.
create role lists_reader;
grant usage on schema lists to lists_reader;
alter table lists.new owner to lists_reader;
update segmenter_segments set owner = 'lists_reader', exempt = '{}' where name = 'lists new';
grant select on lists.people to lists_reader;
set client_min_messages = error;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'lists new';
select status from segmenter_refresh('lists new');
set role lists_reader;
select * from lists.doctor();
reset role;

update segmenter_segments set exclude = '[]', exempt = '{}', is_suppression = false, priority_group = null, priority = null;
select count(segmenter_drop_segment(name, true)) from segmenter_segments where name like 'lists %';
delete from segmenter_log where segment_name like 'lists %';
drop schema lists cascade;
drop role lists_reader;
