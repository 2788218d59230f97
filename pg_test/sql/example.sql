-- The contract's example, typed as it stands: the first refresh fills the table, a second one
-- writes nothing, and a small change rewrites only the rows it concerns.
create schema crm;
create table crm.people (id int primary key, hash_email text, hash_phone text, vip boolean not null);
insert into crm.people
select i, 'e' || i, case when i % 3 > 0 then 'p' || i end, i % 2 = 0 from generate_series(1, 2000) i;

create table public.test_segment (
	segment_id 		uuid 		not null,
	id 				varchar 	null,
	hash_email 		varchar 	null,
	hash_phone 		varchar 	null,
	actual_begin 	timestamp 	not null 	default now(),
	actual_end 		timestamp 	not null 	default 'infinity',
	processed 		timestamp 	not null 	default now(),
	constraint test_segment_id_key unique (id)
);
create index on test_segment using btree(id);
insert into segmenter_segments (name, table_name, refresh_params)
values ('test', 'public.test_segment', '{"query": {"sql": "select id, hash_email, hash_phone from crm.people where vip"}}');
select * from segmenter_refresh('test') \gset

\echo :segment :status :added :removed :changed :coverage :messages
select :'elapsed'::interval > '0' as took_time;

-- Exactly what the query gives, all of it since the same moment, and seen through the mart too.
select id, hash_email, hash_phone from test_segment
except all
select id::text, hash_email, hash_phone from crm.people where vip;
select id::text, hash_email, hash_phone from crm.people where vip
except all
select id, hash_email, hash_phone from test_segment;
select
    count(*),
    count(distinct actual_begin) as begins,
    bool_and(actual_begin = processed and actual_end = 'infinity') as since_then,
    bool_and(timezone('UTC', clock_timestamp()) - actual_begin between '0' and '1 minute') as just_now
from test_segment;
select s.name, count(*)
from segmenter m
join segmenter_segments s on s.id = m.segment_id
where m.actual_end = 'infinity' and m.tableoid = 'test_segment'::regclass
group by s.name;

-- What a refresh wrote: the counters of this transaction, and the rows that are not where they were.
create table crm.image (id varchar primary key, was_at tid, was_by xid);
create function crm.look() returns void language sql as $$
    truncate crm.image;
    insert into crm.image select id, ctid, xmin from public.test_segment;
    select pg_stat_force_next_flush()
$$;
create view crm.written as
select
    pg_stat_get_xact_tuples_inserted('test_segment'::regclass) as inserted,
    pg_stat_get_xact_tuples_updated('test_segment'::regclass) as updated,
    pg_stat_get_xact_tuples_deleted('test_segment'::regclass) as deleted,
    (
        select count(*)
        from test_segment t
        full join crm.image i on i.id = t.id
        where (t.ctid, t.xmin) is distinct from (i.was_at, i.was_by)
    ) as rewritten;

-- Nothing changed: nothing is written.
select crm.look();
begin;
select segment, status, added, removed, changed, coverage, messages, detail from segmenter_refresh('test');
select * from crm.written;
commit;

-- 1 % changed: only those rows are written. 4 e-mails change, 2 people join and 3 leave, and one
-- loses the phone and has it back before the refresh.
update crm.people set hash_email = 'new' || id where id in (10, 20, 30, 40);
insert into crm.people values (3001, 'e3001', null, true), (3002, null, null, true);
update crm.people set vip = false where id in (50, 60);
delete from crm.people where id = 70;
update crm.people set hash_phone = null where id = 80;
update crm.people set hash_phone = 'p80' where id = 80;
begin;
select segment, status, added, removed, changed, coverage, messages, detail from segmenter_refresh('test');
select * from crm.written;
commit;
select t.id, t.hash_email, t.hash_phone, t.actual_end = 'infinity' as actual, t.actual_end = t.processed as just_ended,
    t.actual_begin = t.processed as just_begun
from test_segment t
left join crm.image i on i.id = t.id
where (t.ctid, t.xmin) is distinct from (i.was_at, i.was_by)
order by t.id;
select crm.look();
begin;
select segment, status, added, removed, changed, coverage, messages, detail from segmenter_refresh('test');
select * from crm.written;
rollback;

-- The log tells of all three and what they were done with; the rolled back one never was.
select
    action, status, segment_name, num_received, num_invalid, added, removed, changed, coverage, message, error,
    run_id is not null as has_run, elapsed > '0' as took_time, processed > now() - interval '1 minute' as just_now,
    params -> 'refresh_params' as refresh_params, params ->> 'role' = current_user as by_me, params -> 'force' as force
from segmenter_log
where segment_name = 'test'
order by id;

delete from segmenter_segments where name = 'test';
delete from segmenter_log where segment_name = 'test';
set client_min_messages = warning;
drop schema crm cascade;
drop table test_segment;
