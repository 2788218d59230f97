-- The guards: each refuses a change that is too much, says so with the figures, changes nothing and
-- lets it pass when forced. An emptied segment is refused unless that is allowed.
\i setup/columns.sql
create schema guards;
create table guards.people (id int, email text);
insert into guards.people select i, 'e' || i from generate_series(1, 10) i;
create table guards.segment (:columns, unique (id));
insert into segmenter_segments (name, table_name, refresh_params)
values ('guards', 'guards.segment', '{"query": {"sql": "select id, email as hash_email from guards.people"}}');

-- Refreshes under the guards given; every guard is inclusive.
create function guards.refresh(guards jsonb, query text default null, force boolean default false, dry_run boolean default false)
returns table (status text, added bigint, removed bigint, changed bigint, coverage bigint, messages bigint, detail text) language sql as $$
    update segmenter_segments set guards = refresh.guards where name = 'guards';
    select r.status, r.added, r.removed, r.changed, r.coverage, r.messages, r.detail from segmenter_refresh('guards', query, dry_run, force) r
$$;
create function guards.first(n int) returns text language sql as $$
    select format('select id, email as hash_email from guards.people where id <= %s', n)
$$;

-- The first load has no members before: only the limits on numbers hold.
select * from guards.refresh('{"max_members": 9}');
select * from guards.refresh('{"min_members": 11}');
select * from guards.refresh('{"max_added": 9}');
select * from guards.refresh('{"max_change": 0, "max_removed": 0, "max_added": 10, "min_members": 10, "max_members": 10}');
create table guards.image as select ctid as was_at, xmin as was_by, * from guards.segment;

select * from guards.refresh('{"max_removed": 3}', guards.first(6));
select * from guards.refresh('{"min_members": 7}', guards.first(6));
select * from guards.refresh('{"max_change": 0.39}', guards.first(6));
select * from guards.refresh('{"max_added": 0}', 'select id, email as hash_email from guards.people union all select 11, null');
select * from guards.refresh('{"max_members": 10}', 'select id, email as hash_email from guards.people union all select 11, null');
select * from guards.refresh('{"max_change": 0.2}', 'select id, case when id > 3 then email end as hash_email from guards.people');
-- One added, one removed and two changed of ten.
select * from guards.refresh('{"max_change": 0.3}', 'select id + 1 as id, case when id > 2 then ''e'' || id + 1 end as hash_email from guards.people');
-- Every reason is told at once.
select * from guards.refresh('{"min_members": 5, "max_removed": 1, "max_change": 0.5}', guards.first(2));

-- Emptying.
select * from guards.refresh('{}', guards.first(0));
select * from guards.refresh('{"allow_empty": false}', guards.first(0));

-- Nothing of this was changed, and the log has the figures.
select count(*) as rewritten
from guards.segment s
full join guards.image i using (id)
where (s.ctid, s.xmin) is distinct from (i.was_at, i.was_by);
select status, num_received, num_invalid, added, removed, changed, coverage, message, error ->> 'sqlstate' as sqlstate, params -> 'force' as force
from segmenter_log
where segment_name = 'guards'
order by id;
select last_status, last_error, coverage, added, removed, changed from segmenter_status where name = 'guards';

-- A dry run asks the guards too, and leaves no trace.
select * from guards.refresh('{"max_removed": 3}', guards.first(6), dry_run => true);
select * from guards.refresh('{"max_removed": 3}', guards.first(6), force => true, dry_run => true);
select count(*) from guards.segment where actual_end = 'infinity';

-- Forced, it passes, and the log says that it was. What is wrong with a query is never forced.
select * from guards.refresh('{"max_removed": 3, "max_change": 0}', guards.first(6), force => true);
select * from guards.refresh('{}', 'select 1 as id union all select 1', force => true);
select * from guards.refresh('{}', guards.first(0), force => true);
select status, removed, coverage, params -> 'force' as force from segmenter_log where segment_name = 'guards' order by id desc limit 3;

-- An empty segment may stay empty; within the limits, and with emptying allowed, all is well.
select * from guards.refresh('{}', guards.first(0));
select * from guards.refresh('{"max_added": 10}');
select * from guards.refresh('{"max_removed": 4, "min_members": 6, "max_change": 0.4}', guards.first(6));
select * from guards.refresh('{"allow_empty": true}', guards.first(0));
select * from guards.refresh('{"allow_empty": true, "min_members": 1}', guards.first(0));

-- What is unusual by the segment's own past: seven refreshes suffice for a judgement.
truncate guards.segment;
delete from segmenter_log;
create function guards.sized(n int) returns text language sql as $$
    select format('select i as id, ''e'' as hash_email from generate_series(1, %s) i', n)
$$;
select * from guards.refresh('{"unusual": {"runs": 6}}');
select * from guards.refresh('{"unusual": {"deviations": "many"}}');
select * from guards.refresh('{"unusual": true}');
select * from guards.refresh('{"unusual": {}}', guards.sized(100));
select r.* from unnest('{102,99,101,103,98}'::int[]) with ordinality s(n, nr), guards.refresh('{"unusual": {}}', guards.sized(s.n)) r order by nr;
\echo too few before it
select * from guards.refresh('{"unusual": {}}', guards.sized(160), dry_run => true);
select * from guards.refresh('{"unusual": {}}', guards.sized(100));
select * from guards.refresh('{"unusual": {}}', guards.sized(160));
select * from guards.refresh('{"unusual": {"deviations": 50}}', guards.sized(160), dry_run => true);
select * from guards.refresh('{"unusual": {}}', guards.sized(104), dry_run => true);
select * from guards.refresh('{"unusual": {"only_tell": true}}', guards.sized(160), dry_run => true);
\echo the same number, others
select * from guards.refresh('{"unusual": {}}', 'select -i as id, ''e'' as hash_email from generate_series(1, 100) i');
\echo forced, and back again
select * from guards.refresh('{"unusual": {}}', guards.sized(160), force => true);
select * from guards.refresh('{"unusual": {}}', guards.sized(161));
select * from guards.refresh('{"unusual": {}}', guards.sized(99));
select status, message from segmenter_log where segment_name = 'guards' order by id desc limit 4;

delete from segmenter_segments where name = 'guards';
delete from segmenter_log;
set client_min_messages = warning;
drop schema guards cascade;
