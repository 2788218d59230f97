-- The demo, played by bin/demo in a private PostgreSQL. psql echoes the statements that a user of
-- Segmenter would write; what only sets the stage goes unseen, between \set ECHO none and queries.

\set ECHO none
\set SHOW_CONTEXT never
\pset pager off
\pset footer off
set client_min_messages = warning;

drop database if exists demo with (force);
create database demo;
alter database demo set timezone = 'UTC';
select 'create role marketing login' where to_regrole('marketing') is null \gexec
\c demo
set client_min_messages = warning;
\ir shop.sql

-- All that Segmenter needs of a superuser.
create extension segmenter;
-- The team that owns the segments: it may read the shop, and has a schema of its own.
create schema authorization marketing;
grant usage on schema shop to marketing;
grant select on all tables in schema shop to marketing;

\c - marketing
set client_min_messages = warning;

\echo
\echo 'Segmenter keeps groups of customers up to date inside PostgreSQL. You write a group once, as a'
\echo 'query. Segmenter keeps its members in a table, with their history, writes only what changed,'
\echo 'tells who came and who left, and does not let a broken load empty it.'
\echo
\echo '1. Here is a shop, with contacts as people leave them. The date is Monday, 2 March 2026.'
\echo
\set ECHO queries
select c.id, name, email, phone, consent, count(o) as orders, sum(total) as spent
from shop.customers c left join shop.orders o on o.customer_id = c.id
where c.id between 'C00123' and 'C00126' group by c.id order by c.id;

\set ECHO none
\echo '2. A segment is a query: who belongs to it, with the contacts hashed. So one is made:'
\echo
\o /dev/null
\set ECHO queries
select segmenter_create_segment('recent_buyers', $$
    select id,
        encode(sha256(lower(trim(email))::bytea), 'hex') as hash_email,
        encode(sha256(regexp_replace(phone, '\D', '', 'g')::bytea), 'hex') as hash_phone
    from shop.customers
    where consent
      and id in (select customer_id from shop.orders, shop.today where ordered > date - 30)
$$);
update segmenter_segments
set description = 'bought in the last 30 days', refresh_auto = true, guards = '{"max_change": 0.2}'
where name = 'recent_buyers';
\set ECHO none
\ir segments.sql
\o

\echo
\echo '   "big_spenders" and "lapsed" are made likewise. The fourth is built on these two, by hand, with'
\echo '   a table and an index of our own. Segmenter finds out which has to come first.'
\echo
\set ECHO queries
create table win_back (like segmenter including defaults, spent numeric);
create unique index on win_back (id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, description, refresh_auto, refresh_params)
values ('win_back', 'win_back', 'big spenders who lapsed', true,
        jsonb_build_object('query', jsonb_build_object('sql', $$
            select id, b.hash_email, b.hash_phone, b.spent
            from marketing.big_spenders b join marketing.lapsed l using (id)
            where b.actual_end = 'infinity' and l.actual_end = 'infinity'
        $$)));

\set ECHO none
\echo
\echo '3. Monday: one call refreshes all of them.'
\echo
\set ECHO queries
select segment, status, added, removed, changed, coverage from segmenter_run();

\set ECHO none
-- Whom we follow, and who will be deleted.
select c.id as person, c.name as person_name
from win_back w join shop.customers c using (id) order by spent desc limit 1 \gset
select id as deleted from win_back order by spent desc offset 1 limit 1 \gset
-- A moment between the two days, on the clock that members' periods are told by.
select from pg_sleep(1) \g /dev/null
select localtimestamp(0) as monday \gset
\c - postgres
\o /dev/null
\ir tuesday.sql
\o
\c - marketing
set client_min_messages = warning;

\echo '4. Tuesday: 181 new orders, new e-mail addresses, new consents, one customer deleted.'
\echo
\set ECHO queries
select segment, status, added, removed, changed, coverage from segmenter_run();

\set ECHO none
\c - postgres
\ir wednesday.sql
\c - marketing
set client_min_messages = warning;
\echo '5. Wednesday: the nightly load breaks and leaves the table of orders empty.'
\echo
\set ECHO queries
select segment, status, added, removed, changed, coverage from segmenter_run();

\set ECHO none
\echo '   Nobody was thrown out. What the status says:'
\echo
\set ECHO queries
select name, coverage, last_status, last_error from segmenter_status;

\set ECHO none
\c - postgres
\o /dev/null
\ir load.sql
\o
\c - marketing
set client_min_messages = warning;
\echo '6. The orders are back, with 170 new ones. It goes on by itself.'
\echo
\set ECHO queries
select segment, status, added, removed, changed, coverage from segmenter_run();

\set ECHO none
\echo '7. The status'
\echo
\set ECHO queries
select name, description, last_status, last_refresh::timestamp(0), coverage from segmenter_status;

\set ECHO none
\echo '8. What changed since Monday'
\echo
\set ECHO queries
select segment_name, count(*) as refreshes, sum(added) as added, sum(removed) as removed, sum(changed) as changed
from segmenter_log
where status = 'ok' and processed > :'monday'
group by segment_name order by segment_name;

\set ECHO none
\echo '9. The log'
\echo
\set ECHO queries
select id, processed::time(0), segment_name, status, num_received, added, removed, changed, coverage,
       extract(ms from elapsed)::int as ms
from segmenter_log order by id desc limit 8;

\set ECHO none
\echo '10. Who came into a segment since Monday, and who left'
\echo
\set ECHO queries
with was as (select * from win_back where actual_begin <= :'monday' and :'monday' < actual_end),
     now as (select * from win_back where actual_end = 'infinity')
select case when was.id is null then 'came' else 'left' end as who, id, name, coalesce(now.spent, was.spent) as spent
from was full join now using (id) left join shop.customers c using (id)
where was.id is null or now.id is null order by who, id;

\set ECHO none
\echo '11. One customer in all segments:' :person_name 'lapsed, and came back on Tuesday.'
\echo
\set ECHO queries
select name, left(hash_email, 8) as hash_email, m.actual_begin::timestamp(0), m.actual_end::timestamp(0)
from segmenter m join segmenter_segments s on s.id = segment_id
where m.id = :'person' order by m.actual_begin, name;

\set ECHO none
\echo '12. A segment as it was on Monday'
\echo
\set ECHO queries
select id, name, spent, count(*) over () as members
from win_back left join shop.customers c using (id)
where actual_begin <= :'monday' and :'monday' < actual_end
order by spent desc limit 4;

\set ECHO none
\echo '13. What if? A dry run gives the exact figures and changes nothing.'
\echo
\set ECHO queries
select status, added, removed, changed, coverage, detail
from segmenter_refresh('big_spenders', dry_run => true, query =>
    'select * from marketing.big_spenders where actual_end = ''infinity'' and spent > 2000');
