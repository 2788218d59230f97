-- The demo, played by bin/demo in a private PostgreSQL. psql echoes the statements that a user of
-- Segmenter would write; what only sets the stage goes unseen, between \set ECHO none and queries.

\set ECHO none
\set VERBOSITY terse
\pset pager off
\pset footer off

-- Waits for the clock's next full second, so that a day's changes and a moment between two days
-- are easily told apart.
\set next_second 'select from pg_sleep(1 - extract(second from clock_timestamp()) % 1) \\g /dev/null'

drop database if exists demo with (force);
create database demo;
alter database demo set timezone = 'UTC';
select 'create role marketing login' where to_regrole('marketing') is null \gexec
\c demo
\ir shop.sql

-- All that Segmenter needs a superuser for.
set client_min_messages = error;
create extension segmenter;
reset client_min_messages;
-- The team that owns the segments reads the shop, and has a schema of its own.
create schema authorization marketing;
grant usage on schema shop to marketing;
grant select on all tables in schema shop to marketing;
select
    to_char(count(*), 'FM999,999') as customers,
    (select to_char(count(*), 'FM999,999') from shop.orders) as orders
from shop.customers \gset

\c - marketing
\echo
\echo 'Segmenter keeps groups of customers up to date inside PostgreSQL. You write a group once, as a'
\echo 'query. Segmenter keeps its members in a table, with their history; it writes only what changed,'
\echo 'tells who came and who left, and does not let a broken load empty a group.'
\echo
\echo '1. A shop on Monday, 2 March 2026:' :customers 'customers,' :orders 'orders, contacts as people leave them'
\set ECHO queries
select * from shop.customers where id between 'C00515' and 'C00518';

\set ECHO none
\echo '2. A segment is a query that says who belongs to it, here with hashed contacts. The file of segments'
\echo 'can be run again and again: what is there already is altered, or left as it is'
\o /dev/null
\set ECHO queries
select segmenter_put_segment('recent_buyers', $$
    select id,
        segmenter_hash(segmenter_email(email, 'meta')) as hash_email,
        segmenter_hash(segmenter_phone(phone, 'US', 'meta')) as hash_phone
    from shop.customers
    where id in (select customer_id from shop.orders, shop.today where ordered > date - 30)
$$, description => 'bought in the last 30 days', guards => '{"max_change": 0.3}');
update segmenter_segments set refresh_auto = true where name = 'recent_buyers';
\set ECHO none
\ir segments.sql
\o

\echo
\echo 'Now segmenter_run() will refresh it, and refuse to change more than 30 % at once. "big_spenders"'
\echo 'and "lapsed" are made likewise. Who must not be contacted is a segment, too: it is left out of all'
\echo 'others, so that no query has to think of it'
\o /dev/null
\set ECHO queries
select segmenter_put_segment('no_consent', 'select id from shop.customers where not consent');
update segmenter_segments set refresh_auto = true where name = 'no_consent';
\set ECHO none
\c - postgres
\o
\echo '(as the DBA, since it concerns the segments of every role)'
\set ECHO queries
update segmenter_segments set is_suppression = true where name = 'no_consent';
\set ECHO none
\c - marketing
\echo
\echo 'One more is built on two of them, with a table of our own:'
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
:next_second
\echo
\echo '3. Monday: one call refreshes all of them, what is built on others last'
\set ECHO queries
select segment, status, added, removed, changed, excluded, coverage from segmenter_run();

\set ECHO none
-- Whom we shall follow, who will be deleted, and a moment between the two days.
select id as person, c.name as person_name
from win_back w join shop.customers c using (id) order by spent desc limit 1 \gset
select id as deleted from win_back order by spent desc offset 1 limit 1 \gset
:next_second
select localtimestamp(0) as monday \gset
\c - postgres
\o /dev/null
\ir tuesday.sql
\o
\c - marketing
:next_second

\echo '4. Tuesday (a second later): 181 orders, new e-mail addresses and consents, a customer deleted'
\set ECHO queries
select segment, status, added, removed, changed, coverage from segmenter_run();

\set ECHO none
\c - postgres
\ir wednesday.sql
\c - marketing
\echo '5. Wednesday: the load broke and left no orders. Emptying a segment is refused, its members stay'
\set ECHO queries
call segmenter_run_each();
select name, coverage, last_refresh::time(0), last_status, left(last_error, 40) as last_error
from segmenter_status;

\set ECHO none
\c - postgres
\o /dev/null
\ir load.sql
\o
\c - marketing
:next_second
\echo '6. The orders are back, with 170 new ones, and it goes on. What has changed since Monday:'
\set ECHO queries
call segmenter_run_each();
select segment_name, sum(added) as added, sum(removed) as removed, sum(changed) as changed
from segmenter_log where status = 'ok' and processed > :'monday'
group by segment_name order by segment_name;

\set ECHO none
\echo '7. The log of a segment'
\set ECHO queries
select processed::time(0), status, added, removed, changed, coverage,
       extract(ms from elapsed)::int as ms, left(message, 24) as message
from segmenter_log where segment_name = 'recent_buyers' order by id;

\set ECHO none
\echo '8. Who has come into a segment since Monday, and who has left'
\set ECHO queries
with was as (
    select id, spent from win_back
    where actual_begin <= :'monday' and :'monday' < actual_end
), now as (select id, spent from win_back where actual_end = 'infinity')
select case when was.id is null then 'came' else 'left' end as who, id,
       coalesce(name, '(deleted)') as name, coalesce(now.spent, was.spent) as spent
from was full join now using (id) left join shop.customers c using (id)
where was.id is null or now.id is null order by who, id;

\set ECHO none
\echo '9. One customer in all segments:' :person_name 'came back on Tuesday, with a new e-mail address'
\set ECHO queries
select name, left(hash_email, 8) as hash_email,
       date_trunc('second', m.actual_begin) as since,
       date_trunc('second', m.actual_end) as until
from segmenter m join segmenter_segments s on s.id = segment_id
where m.id = :'person' order by m.actual_begin, name;

\set ECHO none
\echo '10. A segment as it was on Monday'
\set ECHO queries
select id, coalesce(name, '(deleted)') as name, spent, count(*) over () as members
from win_back left join shop.customers c using (id)
where actual_begin <= :'monday' and :'monday' < actual_end
order by spent desc limit 3;

\set ECHO none
\echo '11. What if? A dry run gives the exact figures and changes nothing'
\set ECHO queries
select status, added, removed, changed, coverage, detail
from segmenter_refresh('win_back', dry_run => true, query => $$
    select id, hash_email, hash_phone, spent
    from marketing.win_back where actual_end = 'infinity' and spent > 1500 $$);

\set ECHO none
\echo '12. Large segments look only at what changed. The owner of the shop has changes captured,'
select min(c.id) as newcomer from shop.customers c
where consent and not exists (select from recent_buyers r where r.id = c.id and r.actual_end = 'infinity') \gset
select min(id) as leaver from recent_buyers where actual_end = 'infinity' \gset
\c - postgres
\o /dev/null
\set ECHO queries
select segmenter_watch('shop.customers'), segmenter_watch('shop.orders', 'customer_id');
\set ECHO none
\o
\echo 'and a segment watches them. Its first refresh looks at everyone, the next one at two customers:'
\c - marketing
\set ECHO queries
update segmenter_segments set refresh_params = jsonb_build_object('incremental', jsonb_build_object(
    'watch', '["shop.customers", {"table": "shop.orders", "id": "customer_id"}]'::jsonb,
    'sql', $$
        select id, segmenter_hash(segmenter_email(email, 'meta')) as hash_email,
            segmenter_hash(segmenter_phone(phone, 'US', 'meta')) as hash_phone
        from shop.customers join changed using (id)
        where id in (select customer_id from shop.orders, shop.today where ordered > date - 30) $$))
where name = 'recent_buyers';
select status, added, removed, changed, coverage from segmenter_refresh('recent_buyers');
\set ECHO none
\c - postgres
\set ECHO queries
insert into shop.orders select max(id) + 1, :'newcomer', max(ordered), 42 from shop.orders;
delete from shop.orders where customer_id = :'leaver';
\set ECHO none
\c - marketing
\set ECHO queries
select status, added, removed, changed, coverage from segmenter_refresh('recent_buyers');
select params #>> '{incremental,pass}' as pass, params #> '{incremental,ids}' as ids, added, removed, elapsed
from segmenter_log where segment_name = 'recent_buyers' and status = 'ok' order by id desc limit 2;
