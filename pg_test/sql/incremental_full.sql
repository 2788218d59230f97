-- Full passes of segments that watch tables: members are what the query gives where "changed" has all ids, however
-- it is read. Where it is joined with the column of ids of a watched table it is not read at all.
\i setup/schema.sql
\i setup/columns.sql
create schema whole;
-- The values are no hashes, and some queries have gaps.
set client_min_messages = error;
create table whole.people (id int primary key, email text, boss int);
create table whole.orders (customer_id int, amount int not null) partition by list (amount);
create table whole.orders_1 partition of whole.orders for values in (1, 2);
create table whole.orders_2 partition of whole.orders default;
create table whole.words (id text collate "C", n int);
create table whole.numbers (id numeric, n int);
create table whole.latest (:columns, unique (id));
insert into whole.people select g, 'e' || g, nullif(g % 4, 0) from generate_series(1, 8) g;
-- Somebody without an order, orders of nobody, and of a person who is not there.
insert into whole.orders values (1, 1), (1, 5), (2, 2), (3, 3), (null, 1), (null, 4), (99, 7), (7, 2);
insert into whole.words values ('a', 1), ('b', 2), (null, 3), ('A', 4);
insert into whole.numbers values (1.0, 1), (2, 2), (3.50, 3), (null, 4);
select segmenter_watch('whole.people'), segmenter_watch('whole.orders', 'customer_id'), segmenter_watch('whole.words'), segmenter_watch('whole.numbers');
insert into segmenter_segments (name, table_name, guards, refresh_params)
values ('whole', 'whole.latest', '{"allow_empty": true}', '{"incremental": {"watch": ["whole.people"], "sql": "select id from changed"}}');

-- A full pass, compared with the query over a table of all ids: those of the tables, and of the members.
create function whole.check(name text, tables text[], sql text)
returns table (query text, status text, members bigint, missing text[], extra text[]) language plpgsql as $$
declare
    sources text := (select string_agg(format('select %I as id from %s', split_part(t, ' ', 2), split_part(t, ' ', 1)), ' union ') from unnest(tables) t);
    member text;
    watch jsonb := (select jsonb_agg(jsonb_build_object('table', split_part(t, ' ', 1), 'id', split_part(t, ' ', 2))) from unnest(tables) t);
begin
    query := name;
    update segmenter_segments set refresh_params = jsonb_build_object('incremental', jsonb_build_object('watch', watch, 'sql', sql)) where segmenter_segments.name = 'whole';
    execute format('create temp table all_ids as select distinct i.id from (%s) i where i.id is not null', sources);
    for member in select t.id from whole.latest t where t.actual_end = 'infinity' loop
        begin
            execute format('insert into all_ids (id) select %1$L except select a.id from all_ids a', member);
        exception when data_exception then null;
        end;
    end loop;
    execute format('create temp table expected as with changed as (select a.id from all_ids a) select q.id::text as id, q.hash_email::text as hash_email from (%s) q', sql);
    select r.status || coalesce(': ' || r.detail, '') into status from segmenter_refresh('whole') r;
    execute 'select count(*) from whole.latest where actual_end = ''infinity''' into members;
    missing := array(select e.id from expected e where not exists (select from whole.latest t where t.actual_end = 'infinity' and t.id = e.id and t.hash_email is not distinct from e.hash_email) order by e.id collate "C");
    extra := array(select t.id from whole.latest t where t.actual_end = 'infinity' and not exists (select from expected e where t.id = e.id and t.hash_email is not distinct from e.hash_email) order by t.id collate "C");
    drop table all_ids;
    drop table expected;
    return next;
end
$$;
create table whole.queries (number int generated always as identity, name text, tables text[], sql text);
insert into whole.queries (name, tables, sql) values
('join using', '{whole.people id}', 'select id, p.email as hash_email from whole.people p join changed using (id) where id < 7'),
('natural join', '{whole.people id}', 'select id, p.email as hash_email from whole.people p natural join changed'),
('join on', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p join changed ch on ch.id = p.id and p.boss > 1'),
('where', '{whole.people id}', 'select changed.id, p.email as hash_email from whole.people p, changed where p.id = changed.id'),
('changed first', '{whole.people id}', 'select ch.id, p.email || ch.id as hash_email from changed ch join whole.people p on p.id = ch.id'),
('changed first, in a list', '{whole.people id}', 'select c.xid as id, p.email as hash_email from changed as c (xid), whole.people p where c.xid = p.id'),
('in', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p where p.id in (select c.id from changed c) and p.id > 2'),
('any', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p where p.id = any (select id from changed)'),
('exists', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p where exists (select from changed c where c.id = p.id)'),
('left join after it', '{whole.people id}', 'select p.id, coalesce(b.email, ''-'') as hash_email from whole.people p join changed using (id) left join whole.people b on b.id = p.boss'),
('left join on its id', '{whole.people id}', 'select p.id, b.email as hash_email from whole.people p join changed c using (id) left join whole.people b on b.id = c.id + 1'),
('lateral', '{"whole.people id","whole.orders customer_id"}', 'select p.id, o.total as hash_email from whole.people p join changed c using (id) left join lateral (select sum(amount) as total from whole.orders o where o.customer_id = c.id) o on true'),
('lateral, changed first', '{"whole.people id","whole.orders customer_id"}', 'select c.id, o.total as hash_email from changed c cross join lateral (select sum(amount) as total from whole.orders o where o.customer_id = c.id) o join whole.people p on p.id = c.id'),
('scalar subquery', '{whole.people id}', 'select p.id, (select count(*) from whole.people b where b.boss = c.id) as hash_email from whole.people p join changed c using (id)'),
('grouped', '{whole.orders customer_id}', 'select o.customer_id as id, sum(o.amount) as hash_email from whole.orders o join changed on changed.id = o.customer_id group by 1'),
('grouped by its id', '{whole.orders customer_id}', 'select c.id, sum(o.amount) as hash_email from changed c join whole.orders o on o.customer_id = c.id group by c.id having count(*) = 1'),
('distinct on its id', '{whole.orders customer_id}', 'select distinct on (c.id) c.id, o.amount as hash_email from whole.orders o join changed c on o.customer_id = c.id order by c.id, o.amount desc'),
('as a row', '{whole.people id}', 'select p.id, c::text as hash_email from whole.people p join changed c using (id)'),
('counted as a row', '{whole.orders customer_id}', 'select o.customer_id as id, count(c) as hash_email from whole.orders o join changed c on c.id = o.customer_id group by 1'),
('nothing of it', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p'),
('two of them', '{"whole.people id","whole.orders customer_id"}', 'select coalesce(p.id, o.id) as id, p.n as hash_email from (select id, count(*) as n from whole.people join changed using (id) group by id) p full join (select distinct c.id from whole.orders o join changed c on c.id = o.customer_id) o on o.id = p.id'),
('union', '{"whole.people id","whole.orders customer_id"}', 'select id, null as hash_email from whole.people join changed using (id) union select o.customer_id, null from whole.orders o, changed c where c.id = o.customer_id'),
('with', '{whole.people id}', 'with p as materialized (select p.* from whole.people p join changed using (id)) select p.id, p.email as hash_email from p'),
('inside', '{whole.people id}', 'select q.id, q.email as hash_email from (select p.id, p.email from whole.people p join changed using (id) limit 100) q where q.id <> 4'),
('correlated', '{whole.people id}', 'select p.id, (select c.id + 1 from changed c where c.id = p.id) as hash_email from whole.people p'),
('texts', '{whole.words id}', 'select w.id, w.n as hash_email from whole.words w join changed c on c.id = w.id'),
('nulls that are replaced', '{whole.orders customer_id}', 'select coalesce(o.customer_id, -1) as id, count(*) as hash_email from whole.orders o join changed c on c.id = o.customer_id group by 1'),
('in, with nulls', '{whole.orders customer_id}', 'select coalesce(o.customer_id, -1) as id, count(*) as hash_email from whole.orders o where o.customer_id in (select id from changed) group by 1'),
-- Here it says something: it is read.
('only those with orders', '{whole.orders customer_id}', 'select p.id, p.email as hash_email from whole.people p join changed using (id)'),
('in, only those with orders', '{whole.orders customer_id}', 'select p.id, p.email as hash_email from whole.people p where id in (select id from changed)'),
('another column', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p join changed c on c.id = p.boss'),
('an expression', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p join changed c on c.id = p.id + 3'),
('not equal', '{whole.people id}', 'select p.id, count(*) as hash_email from whole.people p join changed c on c.id < p.id group by p.id'),
('or', '{whole.people id}', 'select p.id, count(*) as hash_email from whole.people p join changed c on c.id = p.id or c.id = 8 group by p.id'),
('left join', '{whole.orders customer_id}', 'select p.id, c.id as hash_email from whole.people p left join changed c on c.id = p.id'),
('right join', '{"whole.people id","whole.orders customer_id"}', 'select c.id, p.email as hash_email from whole.people p right join changed c on c.id = p.id'),
('full join', '{whole.orders customer_id}', 'select coalesce(c.id, p.id) as id, p.email as hash_email from whole.people p full join changed c on c.id = p.id'),
('below a left join', '{"whole.people id","whole.orders customer_id"}', 'select c.id, p.email as hash_email from changed c left join whole.people p on p.id = c.id'),
('in a left join', '{whole.people id}', 'select b.id, c.id as hash_email from whole.people b left join (whole.people p join changed c on c.id = p.id) on c.id = b.boss'),
('with the nullable side', '{whole.orders customer_id}', 'select o.amount as id, b.customer_id as hash_email from whole.orders o left join whole.orders b on b.amount = o.amount and b.amount > 2 join changed c on c.id = b.customer_id'),
('not in', '{whole.orders customer_id}', 'select p.id, p.email as hash_email from whole.people p where p.id not in (select id from changed)'),
('not in, with nulls', '{whole.orders customer_id}', 'select o.amount + 100 * coalesce(customer_id, 0) as id, 1 as hash_email from whole.orders o where o.customer_id not in (select id from changed)'),
('in is not false', '{whole.orders customer_id}', 'select o.amount + 100 * coalesce(customer_id, 0) as id, 1 as hash_email from whole.orders o where (o.customer_id in (select id from changed)) is not false'),
('in a few', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p where p.id in (select c.id from changed c order by c.id limit 3)'),
('in the largest', '{whole.people id}', 'select p.id, p.email as hash_email from whole.people p where p.id in (select max(c.id) from changed c)'),
('counted', '{"whole.people id","whole.orders customer_id"}', 'select p.id, (select count(*) from changed) as hash_email from whole.people p join changed using (id)'),
('alone', '{"whole.people id","whole.orders customer_id"}', 'select c.id, null as hash_email from changed c'),
('of a partition', '{whole.orders customer_id}', 'select 100 * c.id + o.amount as id, c.id as hash_email from whole.orders_1 o join changed c on c.id = o.customer_id where o.customer_id <> 1'),
('grouping sets', '{whole.people id}', 'select coalesce(c.id, 100 + p.id) as id, count(*) as hash_email from whole.people p join changed c using (id) group by grouping sets ((c.id), (p.id))'),
('numbers', '{whole.numbers id}', 'select c.id, n.n as hash_email from whole.numbers n join changed c on c.id = n.id'),
('two types', '{"whole.people id","whole.numbers id"}', 'select c.id, p.email as hash_email from whole.people p join changed c on c.id = p.id'),
('its own table of that name', '{whole.people id}', 'with changed as (select 3 as id) select p.id, p.email as hash_email from whole.people p join changed using (id)');
select q.number, c.* from whole.queries q cross join lateral whole.check(q.name, q.tables, q.sql) c order by q.number;

-- A pass of what has changed goes on from one that has not read the ids. What the next full one finds in a table
-- that is not watched was missed, but of those who have changed since.
create table whole.emails (id int primary key, email text);
insert into whole.emails select id, email from whole.people;
select status, members, missing, extra from whole.check('join using', '{whole.people id}', 'select p.id, e.email as hash_email from whole.people p join changed using (id) join whole.emails e using (id) where p.id < 7');
update whole.emails set email = 'new' where id in (1, 2);
update whole.people set email = 'new' where id = 2;
delete from whole.people where id = 3;
select status, added, removed, changed, coverage from segmenter_refresh('whole');
update whole.emails set email = 'newer' where id in (4, 5, 8);
update whole.people set email = 'newer' where id = 5;
select status, added, removed, changed, coverage, detail from segmenter_refresh('whole', full => true);
select status, added, removed, changed, coverage, detail from segmenter_refresh('whole', full => true);
select params #> '{incremental,pass}' as pass, params #> '{incremental,ids}' as ids, params #> '{incremental,missed}' as missed, params #> '{incremental,reason}' as reason
from segmenter_log where segment_name = 'whole' order by id desc limit 3;

delete from segmenter_segments where name = 'whole';
drop schema whole cascade;
