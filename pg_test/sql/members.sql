-- segmenter_members, segmenter_current, segmenter_overlap and segmenter_venn, and segments that read these.
\i setup/schema.sql
\i setup/columns.sql
\set VERBOSITY terse
set client_min_messages = warning;
create schema members;
create table members.people (id int primary key, email text, city text);
insert into members.people select g, 'h' || g, case when g % 2 = 0 then 'Oslo' else 'Rome' end from generate_series(1, 12) g;
create function members.segment(name text, query text, history boolean default true) returns void language sql as $$
    select segmenter_create_segment(name, query, null, 'members.' || quote_ident(name), history)
$$;
select members.segment('small', 'select id, email as hash_email from members.people where id <= 6');
select members.segment('even', 'select id from members.people where id % 2 = 0');
select members.segment('latest', 'select id from members.people where id <= 3', history => false);
select members.segment('none', 'select id from members.people where false');
select segment, status, coverage from segmenter_refresh('small') union all select segment, status, coverage from segmenter_refresh('even')
    union all select segment, status, coverage from segmenter_refresh('latest') union all select segment, status, coverage from segmenter_refresh('none');
create table members.times (name text, at timestamptz);
insert into members.times values ('first', clock_timestamp());

-- As the long form, and set algebra.
select id, hash_email, hash_phone, actual_end from segmenter_members('small') order by id::int;
select count(*) as differ from (
    (select id, hash_email, hash_phone, actual_begin, actual_end from segmenter_members('even')
        except all select id, hash_email, hash_phone, actual_begin, actual_end from members.even where actual_end = 'infinity')
    union all
    (select id, hash_email, hash_phone, actual_begin, actual_end from members.even where actual_end = 'infinity'
        except all select id, hash_email, hash_phone, actual_begin, actual_end from segmenter_members('even'))
) d;
select id from segmenter_members('small') intersect select id from segmenter_members(at => null, name => 'even') order by id;
select (segmenter_members('latest')).id order by 1;
select segment, count(*) from segmenter_current where segment in ('small', 'even', 'latest', 'none') group by segment order by segment;
select count(*) as differ from (
    (select s.name, m.* from segmenter m join segmenter_segments s on s.id = m.segment_id where m.actual_end = 'infinity' and s.actual_end = 'infinity'
        except all select * from segmenter_current)
    union all
    (select * from segmenter_current
        except all select s.name, m.* from segmenter m join segmenter_segments s on s.id = m.segment_id where m.actual_end = 'infinity' and s.actual_end = 'infinity')
) d;
-- The mart is read once, not once for each segment, however few of these the planner expects.
create function members.plan(query text) returns jsonb language plpgsql as $$
declare plan jsonb;
begin
    execute 'explain (format json) ' || query into plan;
    return plan;
end
$$;
select members.plan('select count(*) from segmenter_current')::text ~ '"Join Type": "(Left|Right)"' as is_read_once;

-- At a time.
select pg_sleep(0.01);
update members.people set email = 'changed' where id = 1;
delete from members.people where id in (2, 3);
insert into members.people values (0, 'h0', 'Oslo');
select segment, status, added, removed, changed from segmenter_refresh('small') union all select segment, status, added, removed, changed from segmenter_refresh('even');
insert into members.times values ('second', clock_timestamp());
select t.name, array_agg(m.id || coalesce(' ' || m.hash_email, '') order by m.id::int) from members.times t, segmenter_members('small', t.at) m group by t.name order by t.name;
select count(*) from segmenter_members('small', '2000-01-01');
select array_agg(id order by id::int) from segmenter_members('small', now() + interval '1 day');
select id from segmenter_members('small', 'infinity');
select id from segmenter_members('small', '-infinity');
-- Without history only what is still known.
select segment, status, added, removed from segmenter_refresh('latest');
select t.name, array_agg(m.id order by m.id) from members.times t, segmenter_members('latest', t.at) m group by t.name order by t.name;
\set VERBOSITY default
select id from segmenter_members('latest', '2000-01-01');
\set VERBOSITY terse
insert into members.people values (2, 'h2', 'Oslo');
select segment, status, added, removed from segmenter_refresh('latest');
select t.name, array_agg(m.id order by m.id) from members.times t, segmenter_members('latest', t.at) m where t.name = 'second' group by t.name;
select array_agg(id order by id) from segmenter_members('latest', now());

-- Overlap and regions, compared with joins and with groups.
select segment, other, members, other_members, common, round(share, 3) as share, round(jaccard, 3) as jaccard from segmenter_overlap('{small, even, none, latest}');
select * from segmenter_venn('{small, even, none, latest}');
select segment, other, members, other_members, common from segmenter_overlap('{small, even}', (select at from members.times where name = 'first'));
select * from segmenter_venn('{even, small}', (select at from members.times where name = 'first'));
select * from segmenter_venn('{small}');
select * from segmenter_overlap('{small}');
select * from segmenter_venn('{}');
select * from segmenter_venn('{none}');
with m as materialized (select * from segmenter_current where segment in ('small', 'even', 'latest', 'none')),
    pairs as (
        select a.segment, b.segment as other, count(*) as common
        from m a join m b on b.id = a.id and a.segment < b.segment group by 1, 2
    ), regions as (
        select segments, count(*) as members from (select array_agg(segment order by segment) as segments from m group by id) r group by segments
    )
select
    (select count(*) from (select segment, other, common from segmenter_overlap('{even, latest, none, small}') where common > 0 except all select * from pairs) d) as other_pairs,
    (select count(*) from (select * from pairs except all select segment, other, common from segmenter_overlap('{even, latest, none, small}')) d) as missing_pairs,
    (select count(*) from (select * from segmenter_venn('{even, latest, none, small}') except all select * from regions) d) as other_regions,
    (select count(*) from (select * from regions except all select * from segmenter_venn('{even, latest, none, small}')) d) as missing_regions,
    (select sum(members) from segmenter_venn('{even, latest, none, small}')) = (select count(distinct id) from m) as add_up;
-- More segments than one word has bits.
select members.segment('n' || g, format('select id from generate_series(%s, 100) id', g)) from generate_series(1, 70) g;
select count(*) filter (where status = 'ok') from generate_series(1, 70) g, lateral segmenter_refresh('n' || g) r;
select count(*), sum(common), min(common), max(common) from segmenter_overlap(array(select 'n' || g from generate_series(1, 70) g));
select count(*), sum(members), max(cardinality(segments)) from segmenter_venn(array(select 'n' || g from generate_series(1, 70) g));
select count(segmenter_drop_segment('n' || g, true)) from generate_series(1, 70) g;

-- Wrong arguments.
select * from segmenter_members('nobody');
select * from segmenter_members(null);
select * from segmenter_overlap('{small, nobody}');
select * from segmenter_overlap('{small, even, small}');
select * from segmenter_venn('{small, null}');
select * from segmenter_venn(null);
select * from segmenter_overlap(null);

-- A segment that reads members by a name reads that segment: through views, functions, in any form of a call.
select members.segment('direct', 'select id from segmenter_members(''small'') where id <> ''1''');
select members.segment('by name', 'select m.id from segmenter_members(at => now() - interval ''1 hour'', name => ''small''::varchar) m');
create view members.of_view as select id from segmenter_members('even');
create function members.of_function() returns setof varchar stable language sql as $$ select id from segmenter_members('latest') $$;
create function members.of_body() returns setof varchar stable begin atomic select id from members.of_view; select id from segmenter_members('none'); end;
select members.segment('nested', 'select id from members.of_view union select members.of_function() union select members.of_body()');
select members.segment('current', 'select id from segmenter_current c where c.segment = ''small'' and exists (select from segmenter_current e where e.segment in (''even'', ''none'') and e.id = c.id)');
select segment, reads, kind, via from segmenter_lineage where kind = 'segment' and segment in ('direct', 'by name', 'nested', 'current') order by 1, 2, 4;
-- It is refreshed after them, waits for them, and keeps them.
update segmenter_segments set refresh_auto = true where name in ('small', 'direct', 'current', 'even', 'none');
select segment, status from segmenter_run() where segment in ('direct', 'small', 'current', 'even', 'none');
update segmenter_segments set guards = '{"min_members": 100}' where name = 'small';
select status from segmenter_refresh('small');
select segment, status, detail from segmenter_refresh('direct') union all select segment, status, detail from segmenter_refresh('current');
update segmenter_segments set guards = '{}' where name = 'small';
select segmenter_drop_segment('small');
update segmenter_segments set actual_end = now() where name = 'even';
update segmenter_segments set name = 'tiny' where name = 'small';
-- A table that several segments share: only the one that is named.
create table members.shared (:columns);
create unique index on members.shared (segment_id, id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params) values
    ('one', 'members.shared', '{"query": {"sql": "select 1 as id"}}'), ('two', 'members.shared', '{"query": {"sql": "select 2 as id"}}');
select members.segment('of one', 'select id from segmenter_members(''one'')');
select reads, kind from segmenter_lineage where segment = 'of one';
-- What is not known is said, and after all others.
\set VERBOSITY default
select members.segment('open', 'select id from segmenter_members(''sma'' || ''ll'')');
select members.segment('all of them', 'select distinct id from segmenter_current where segment <> ''small''');
select members.segment('mart', 'select distinct id from segmenter where actual_end = ''infinity''');
\set VERBOSITY terse
select detail, hint from segmenter_doctor() where "check" = 'lineage' order by detail;
update segmenter_segments set sources = '[{"segment": "small"}]' where name = 'open';
select count(*) from segmenter_doctor() where "check" = 'lineage';
-- An incremental segment does not notice what changes in members that it reads.
select segmenter_watch('members.people');
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["members.people"], "sql": "select c.id from changed c join segmenter_members(''small'') m on m.id = c.id::text"}}' where name = 'open';
select segmenter_unwatch('members.people');

-- The rights of the table, and no others.
create role members_reader;
create role members_other;
grant usage on schema members to members_reader, members_other;
grant select on members.small to members_reader;
grant select (id, segment_id, actual_end) on members.even to members_reader;
set role members_reader;
select count(*) from segmenter_members('small');
select count(*) from segmenter_members('even');
select count(*) from segmenter_members('none');
select segment, other, common from segmenter_overlap('{small, even}');
select segment, other, common from segmenter_overlap('{small, none}');
select count(*) from segmenter_current;
reset role;
alter table members.small enable row level security;
create policy one on members.small for select to members_reader using (id = current_setting('app.person', true));
set role members_reader;
set app.person = '4';
select id from segmenter_members('small');
select * from segmenter_venn('{small, even}');
set row_security = off;
select id from segmenter_members('small');
reset row_security;
reset app.person;
set role members_other;
select count(*) from segmenter_members('small');
select * from segmenter_venn('{even, small}');
reset role;
alter table members.small disable row level security;

-- Another set has its own.
select segmenter_init('members.seg');
set segmenter.cfg_table = 'members.seg';
select members.segment('other', 'select id from members.people where id = 5');
select status from segmenter_refresh('other');
select id from segmenter_members('other');
select id from segmenter_members('small');
select segment, id from members.seg_current;
reset segmenter.cfg_table;
drop view members.seg_current;
set segmenter.cfg_table = 'members.seg';
select id from segmenter_members('other');
reset segmenter.cfg_table;
select segmenter_drop_set('members.seg', force => true);

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = error;
drop schema members cascade;
drop role members_reader, members_other;
