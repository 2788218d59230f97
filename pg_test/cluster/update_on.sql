-- How a set goes on: its segments are refreshed, with and without changes, its messages are handed over and delivered, a
-- person is erased. Prints what comes of it, which does not depend on the version. As update.sql. The log may be truncated
-- at any moment: see forget().
\i :dir/update_set.sql
\pset null (null)
-- Without what differs in two runs; the SQLSTATE stands for an error.
create function plain_detail(detail text) returns text language sql as $$
    select coalesce('error ' || substring(detail from '\[(\w{5})\]$'), detail)
$$;
select coalesce(max(id), 0) as message from :outbox \gset
select coalesce(max(id), 0) as entry from :log \gset
-- How incremental refreshes went since an entry of the log.
select quote_literal(format($$
    select l.segment_name, l.status, l.params #>> '{incremental,pass}', (l.params #>> '{incremental,reason}') = 'full_cron', l.params #>> '{incremental,missed}'
    from %s l where l.action = 'refresh' and l.params ? 'incremental' and l.id > $1 order by 1, l.id
$$, :'log')) as passes \gset
create function sorted(members jsonb) returns text language sql as $$
    select coalesce(string_agg(m::text, ',' order by m::text), '') from jsonb_array_elements(members) m
$$;
-- The messages since, by consumer.
create view messages as
select o.id, c.name as consumer, o.operation, o.part, o.parts, o.members, left(sorted(o.payload -> 'members'), 150) as beginning, md5(sorted(o.payload -> 'members')) as all
from :outbox o join :consumers c on c.id = o.consumer_id where o.id > :message;
-- When segments are due: times of retries as minutes since the last attempt, which are the same in two runs.
create function dues() returns table (segment text, due boolean, reason text, next_refresh timestamptz, minutes numeric) language sql as $$
    select segment, due, reason, case when reason not like 'retry%' then next_refresh end,
        case when reason like 'retry%' then round(extract(epoch from next_refresh - last_refresh) / 60) end
    from segmenter_due() order by 1
$$;
create function passes(entry bigint, out segment text, out status text, out pass text, out by_cron boolean, out missed text)
returns setof record language sql as :passes;

select forget();
\echo == a run, of what is due
select segment, status, added, removed, changed, coverage, messages, plain_detail(detail) from segmenter_run() order by 1;
select * from passes(:entry);
select coalesce(max(id), 0) as entry from :log \gset
select * from dues();
select forget();
\echo == messages of the run
select consumer, operation, part, parts, members, beginning, "all" from messages order by consumer, id;
select coalesce(max(id), 0) as message from :outbox \gset
select forget();
\echo == the next run finds nothing to hand over
select segment, status, added, removed, changed, coverage, messages, plain_detail(detail) from segmenter_run() order by 1;
select * from passes(:entry);
select coalesce(max(id), 0) as entry from :log \gset
select consumer, operation, part, parts, members, beginning, "all" from messages where id > :message order by consumer, id;

select forget();
\echo == each segment is refreshed, with what has changed
create table refreshed as select s.name as segment, r.status, added, removed, changed, coverage, messages, plain_detail(detail) as detail
from (select name from :segments where actual_end = 'infinity' order by name) s, segmenter_refresh(s.name) r;
select * from refreshed order by 1;
\echo == passes
select * from passes(:entry);
select coalesce(max(id), 0) as entry from :log \gset
select forget();
\echo == and again, with other changes
update people set email = 'later ' || id, at = clock_timestamp() where id in ('80', '81', '90');
insert into people values ('501', 'p501', null, true), ('502', 'p502', null, false);
insert into gone values ('100');
delete from people where id = '100';
truncate refreshed;
insert into refreshed select s.name, r.status, added, removed, changed, coverage, messages, plain_detail(detail)
from (select name from :segments where actual_end = 'infinity' order by name) s, segmenter_refresh(s.name) r;
select * from refreshed order by 1;
-- (Whether one is full that is due every second depends on how fast this is.)
select * from passes(:entry) where segment !~ ', full$';
select forget();
\echo == messages of the refreshes
select consumer, operation, part, parts, members, beginning, "all" from messages where id > :message order by consumer, id;
select forget();
\echo == due
select * from dues();

select forget();
\echo == leases of before
select l.consumer, m.message_id = l.message_id from leases l, segmenter_claim(l.consumer) m where l.consumer in ('half', 'leased') order by 1;
select consumer, count(segmenter_ack(lease, message_id, '{"external_id": "still"}')::text) from (select * from leases where consumer in ('half', 'leased') order by consumer, message_id offset 0) l group by 1 order by 1;
select forget();
\echo == deliveries
select c.name, m.message_id is not null as is_there, m.operation, m.part, m.attempt, m.external_id from :consumers c, lateral (select * from segmenter_claim(c.name, 2, '0.1 s')) m order by c.name, m.message_id;
select pg_sleep(0.2);
select segmenter_retry(u.id) from :subscriptions u join :consumers c on c.id = u.consumer_id where c.name in ('stuck', 'nacked') order by c.name;
select name, deliver(name) from (select name from :consumers order by name offset 0) c order by 1;
select name, update_consumer, update_status, pending_messages, last_receipt, plain_detail(delivery_error) is null from :status where update_target is not null order by 1, 2;
select c.name, u.status, u.external_id, d.attempts, d.last_error, d.next_attempt_at is null from :subscriptions u join :consumers c on c.id = u.consumer_id left join :deliveries d on d.subscription_id = u.id order by 1;

select forget();
\echo == a person is erased
select coalesce(max(id), 0) as message from :outbox \gset
delete from people where id = '10';
select segment, rows, messages from segmenter_erase('10') order by 1;
select consumer, operation, part, parts, members, beginning, "all" from messages where id > :message order by consumer, id;
select forget();
\echo == nothing is left of the person in messages of before
select count(*) from :outbox o, jsonb_array_elements(o.payload -> 'members') m
where o.id <= :message and (m ->> 'id' = '10' or m ->> 'key' = '10' or m ->> 'hash_email' in (md5('p10@example.org'), md5('new 10')));
select count(*) from :mart where id = '10';
select forget();
\echo == what the figures are then
select name, last_status, coverage, added, removed, changed from :status group by 1, 2, 3, 4, 5, 6 order by 1;
