-- The mart as a plain role reads it: only members of segments that it may see, at a cost that does not have
-- PostgreSQL compile the query, however many tables there are.
create schema mart;
create role mart_owner;
create role mart_other;
grant usage, create on schema mart to mart_owner, mart_other;
set role mart_owner;
select count(segmenter_create_segment('mart ' || i, 'select g as id from generate_series(1, 30) g', table_name => 'mart.m' || i))
from generate_series(1, 50) i;
select count(*) filter (where r.status = 'ok') as refreshed
from (select name from segmenter_segments where name like 'mart %' offset 0) s
cross join lateral segmenter_refresh(s.name) r;
set role mart_other;
select segmenter_create_segment('mart other', 'select 5 as id union all select 6', table_name => 'mart.other') is not null as created;
select status, coverage from segmenter_refresh('mart other');

-- What the planner expects must stay below jit_above_cost (100,000) with hundreds of tables: with the cost of a
-- look-up for each row it was 2500 a table.
create function mart.cost(query text) returns float language plpgsql as $$
declare
    plan json;
begin
    execute 'explain (format json) ' || query into plan;
    return (plan -> 0 -> 'Plan' ->> 'Total Cost')::float;
end $$;
set role mart_owner;
select count(*) from segmenter;
select count(distinct segment_id) as segments from segmenter where id = '5';
select mart.cost('select count(*) from segmenter') < 5000 as is_cheap, mart.cost('select * from segmenter where id = ''5''') < 5000 as is_cheap_by_id;
set role mart_other;
select id from segmenter order by id;
select mart.cost('select count(*) from segmenter') < 5000 as is_cheap;
reset role;
select count(*) from segmenter where segment_id in (select id from segmenter_segments where name like 'mart %');

-- By parallel workers, through a view of another role, and with a prepared statement that outlives a change of role.
set role mart_owner;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
set max_parallel_workers_per_gather = 2;
create function mart.plan() returns setof text language plpgsql as 'begin return query explain select count(*) from segmenter; end';
select count(*) > 0 as is_parallel from mart.plan() line where line ~ 'Gather';
select count(*) from segmenter;
reset parallel_setup_cost;
reset parallel_tuple_cost;
reset min_parallel_table_scan_size;
reset max_parallel_workers_per_gather;
prepare seen as select count(*) from segmenter;
execute seen;
create view mart.seen as select count(*) from segmenter;
grant select on mart.seen to mart_other;
set role mart_other;
execute seen;
select * from mart.seen;
reset role;

-- Rows of a segment in another table than its own are no members, and a segment that is retired stays visible.
set role mart_owner;
\set VERBOSITY terse
insert into mart.m1 (segment_id, id) select id, 'planted' from segmenter_segments where name = 'mart 2';
\set VERBOSITY default
alter table mart.m1 drop constraint segmenter_own_segment;
insert into mart.m1 (segment_id, id) select id, 'planted' from segmenter_segments where name = 'mart 2';
select count(*) from segmenter where id = 'planted';
delete from mart.m1 where id = 'planted';
update segmenter_segments set actual_end = now() where name = 'mart 3';
select count(*) from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name = 'mart 3';
reset role;

-- In a set of a role, too.
set role mart_owner;
select segmenter_init('mart.seg');
set segmenter.cfg_table = 'mart.seg';
select segmenter_create_segment('mart set', 'select 1 as id union all select 2', table_name => 'mart.in_set') is not null as created;
select status, coverage from segmenter_refresh('mart set');
select count(*), mart.cost('select count(*) from mart.seg') < 1000 as is_cheap from mart.seg;
reset segmenter.cfg_table;
grant select on mart.seg to mart_other;
set role mart_other;
select count(*) from mart.seg;
reset role;

set client_min_messages = error;
set role mart_owner;
select segmenter_drop_set('mart.seg', force => true);
reset role;
delete from segmenter_log where segment_name like 'mart %';
delete from segmenter_segments where name like 'mart %';
drop schema mart cascade;
drop role mart_owner, mart_other;
