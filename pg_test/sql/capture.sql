-- Captured changes: triggers of statements record which ids are written, for segments that watch a table.
\i setup/columns.sql
create schema cap;
create role cap_owner;
create role cap_other;
grant usage, create on schema cap to cap_owner, cap_other;
create table cap.people (id int primary key, email text);
create table cap.orders (customer_id bigint, amount int) partition by range (amount);
create table cap.orders_low partition of cap.orders for values from (minvalue) to (10);
create table cap.orders_high (amount int, note text, customer_id bigint);
alter table cap.orders_high drop note;
alter table cap.orders attach partition cap.orders_high for values from (10) to (maxvalue);
create table cap.parent (id int, email text);
create table cap.child (extra int) inherits (cap.parent);
-- What was captured since the last look, in its order.
create table cap.looked (xid xid8);
insert into cap.looked select coalesce(max(xid), '0') from segmenter_changes;
create function cap.look() returns table (source text, id_column name, ids text) language plpgsql as $$
begin
    return query
        select c.source::regclass::text, c.id_column, c.ids::text
        from segmenter_changes c where c.xid > (select l.xid from cap.looked l) and c.ids is distinct from '{}'
        order by c.xid, c.ctid;
    update cap.looked set xid = greatest((select max(c.xid) from segmenter_changes c), xid);
end
$$;
create function cap.triggers(source regclass) returns table (relation text, name name, enabled "char", arguments text) language sql as $$
    with recursive tree as (
        select source::oid as relation union select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation
    )
    select t.relation::regclass::text, g.tgname, g.tgenabled, encode(g.tgargs, 'escape')
    from tree t join pg_trigger g on g.tgrelid = t.relation and not g.tgisinternal
    order by 1, 2
$$;

-- What can be watched, and by whom.
select segmenter_watch(null);
select segmenter_watch('cap.people', null);
select segmenter_unwatch(null);
select segmenter_watch('cap.nothing');
select segmenter_watch('cap.people', 'ident');
select segmenter_watch('cap.people', 'ctid');
select segmenter_watch('cap.orders', 'id');
create view cap.view as select * from cap.people;
create materialized view cap.materialized as select * from cap.people;
create temp table cap_temporary (id int);
create unlogged table cap.unlogged (id int);
create foreign data wrapper cap_wrapper;
create server cap_server foreign data wrapper cap_wrapper;
create foreign table cap.foreign (id int) server cap_server;
create sequence cap.sequence;
select segmenter_watch('cap.view');
select segmenter_watch('cap.materialized');
select segmenter_watch('cap_temporary');
select segmenter_watch('cap.unlogged');
select segmenter_watch('cap.foreign');
select segmenter_watch('cap.sequence', 'last_value');
select segmenter_watch('cap.people_pkey');
select segmenter_watch('pg_class', 'relname');
create table cap.mixed (id int) partition by list (id);
create foreign table cap.far partition of cap.mixed default server cap_server;
select segmenter_watch('cap.mixed');
set role cap_other;
select segmenter_watch('cap.people');
reset role;
select count(*) from cap.triggers('cap.people');

-- Put up once, for partitions and children too; what is missing is put up.
select segmenter_watch('cap.people'), segmenter_watch('cap.people', 'id');
select * from cap.triggers('cap.people');
set role cap_other;
select segmenter_unwatch('cap.people');
select segmenter_watch('cap.people');
reset role;
select segmenter_watch('cap.orders', 'customer_id');
select segmenter_watch('cap.orders', 'amount');
select relation, count(*) from cap.triggers('cap.orders') group by relation order by relation;
select segmenter_unwatch('cap.orders', 'amount');
select distinct arguments from cap.triggers('cap.orders');
drop trigger segmenter_update_id on cap.people;
alter table cap.people enable trigger segmenter_insert_id;
select segmenter_watch('cap.people');
select * from cap.triggers('cap.people');
select segmenter_watch('cap.parent');
create table cap."Na""me;" ("a column with a name of just as many bytes as a name may hold!!" int, "a column with a name of just as many bytes as a name may hold!?" int, "d'"";" int, "ключ" int);
select segmenter_watch('cap."Na""me;"', 'a column with a name of just as many bytes as a name may hold!!');
select segmenter_watch('cap."Na""me;"', 'a column with a name of just as many bytes as a name may hold!?');
select segmenter_watch('cap."Na""me;"', $$d'";$$), segmenter_watch('cap."Na""me;"', 'ключ');
select relation, enabled, count(*) from cap.triggers('cap."Na""me;"') group by 1, 2 order by 1, 2;
insert into cap."Na""me;" values (1, 2, 3, 4);
select * from cap.look() order by id_column;
select segmenter_unwatch('cap."Na""me;"');
select count(*) from cap.triggers('cap."Na""me;"');
insert into cap."Na""me;" values (1, 2, 3, 4);
select * from cap.look();

-- What is recorded: every id before and after, once a statement.
insert into cap.people values (1, 'a'), (2, 'b'), (3, 'c');
update cap.people set email = 'x' where id < 3;
update cap.people set id = id + 10 where id > 1;
update cap.people set email = 'x' where false;
delete from cap.people where id = 1;
select * from cap.look();
insert into cap.people values (12, 'new'), (14, 'new') on conflict (id) do update set email = excluded.email;
insert into cap.people values (12, 'newer'), (15, 'new') on conflict do nothing;
merge into cap.people p using (values (12), (13), (16)) v (id) on p.id = v.id
when matched and v.id = 12 then delete
when matched then update set id = 17
when not matched then insert values (v.id, 'merged');
with d as (delete from cap.people where id = 14 returning id) insert into cap.people select id + 4 from d;
copy cap.people from stdin;
20	copied
21	copied
\.
select * from cap.look();
begin;
insert into cap.people values (30);
savepoint s;
insert into cap.people values (31);
rollback to s;
commit;
begin;
insert into cap.people values (32);
rollback;
do $$ begin insert into cap.people values (33); begin insert into cap.people values (34), (34); exception when unique_violation then null; end; end $$;
select * from cap.look();
truncate cap.people;
truncate cap.people;
select * from cap.look();
-- Without an id.
insert into cap.orders values (null, 1), (1, 2);
update cap.orders set customer_id = null where customer_id = 1;
delete from cap.orders;
select * from cap.look();
-- By the table that a statement names, whatever partition the rows are in.
insert into cap.orders values (1, 1), (2, 20);
insert into cap.orders_high (customer_id, amount) values (3, 30);
update cap.orders set amount = 21 - amount, customer_id = customer_id + 100;
update only cap.orders_low set amount = 2;
truncate cap.orders_low;
truncate cap.orders;
select * from cap.look();
insert into cap.parent values (1);
insert into cap.child values (2);
update cap.parent set email = 'a';
delete from cap.child where id = 2;
select * from cap.look();
-- As a foreign key does, and as replication would.
create table cap.parts (id int references cap.people on delete cascade on update cascade);
select segmenter_watch('cap.parts');
insert into cap.people values (1), (2), (3);
insert into cap.parts values (1), (2), (3);
delete from cap.people where id = 1;
update cap.people set id = 22 where id = 2;
set session_replication_role = replica;
insert into cap.people values (4);
reset session_replication_role;
truncate cap.people cascade;
select * from cap.look();
-- Who writes needs no rights on what is recorded.
grant insert, select on cap.people to cap_other;
set role cap_other;
insert into cap.people values (5);
select * from segmenter_changes;
reset role;
select * from cap.look();
-- As nothing else than a trigger of statements.
select segmenter_capture();
create trigger wrong after insert on cap.people for each row execute function segmenter_capture('id');
insert into cap.people values (6);
drop trigger wrong on cap.people;
create trigger wrong after insert on cap.people referencing new table as n for each statement execute function segmenter_capture();
insert into cap.people values (6);
drop trigger wrong on cap.people;
create trigger no_table after insert on cap.people for each statement execute function segmenter_capture('id');
insert into cap.people values (7);
drop trigger no_table on cap.people;
select * from cap.look();
-- Many at once.
insert into cap.people select g from generate_series(100, 20150) g;
select source::regclass, cardinality(ids) from segmenter_changes where xid = (select max(xid) from segmenter_changes) order by ids[1]::int;
delete from cap.people;
delete from cap.looked;
insert into cap.looked select max(xid) from segmenter_changes;

-- A segment that watches.
drop table cap.parts;
create table cap.segment (:columns, unique (id));
create function cap.refresh(name text default 'cap', is_full boolean default false)
returns table (status text, added bigint, removed bigint, changed bigint, coverage bigint, detail text, pass text, reason text, missed int)
language plpgsql as $$
begin
    select r.status, r.added, r.removed, r.changed, r.coverage, r.detail into status, added, removed, changed, coverage, detail
    from segmenter_refresh(name, full => is_full) r;
    select l.params #>> '{incremental,pass}', l.params #>> '{incremental,reason}', l.params #>> '{incremental,missed}' into pass, reason, missed
    from segmenter_log l where l.segment_name = name order by l.id desc limit 1;
    return next;
end
$$;
insert into segmenter_segments (name, table_name, refresh_params, guards) values ('cap', 'cap.segment', '{"incremental": {
    "watch": ["cap.people", {"table": "cap.orders", "id": "customer_id"}],
    "sql": "select p.id, p.email as hash_email, (select sum(o.amount) from cap.orders o where o.customer_id = p.id) as hash_phone from cap.people p join changed on changed.id = p.id"}}',
    '{"allow_empty": true}');
insert into cap.people values (1, 'a'), (2, 'b'), (3, 'c');
select * from cap.refresh();
select * from cap.refresh();
insert into cap.orders values (1, 5), (2, 50);
update cap.people set id = 4 where id = 3;
select * from cap.refresh();
select id, hash_email, hash_phone from cap.segment where actual_end = 'infinity' order by id;
truncate cap.orders_low;
select * from cap.refresh();
select * from cap.refresh();
truncate cap.people;
select * from cap.refresh();
insert into cap.people values (1, 'a'), (2, 'b'), (3, 'c');
select * from cap.refresh();
select * from cap.refresh(is_full => true);
-- Partitions that come and go, and what they bring.
create table cap.orders_mid (customer_id bigint, amount int);
insert into cap.orders_mid values (3, 501);
alter table cap.orders detach partition cap.orders_high;
alter table cap.orders attach partition cap.orders_mid for values from (500) to (600);
select * from cap.refresh();
insert into cap.orders values (1, 502);
insert into cap.orders_mid values (2, 503);
select * from cap.refresh();
select segmenter_watch('cap.orders', 'customer_id');
select * from cap.refresh();
insert into cap.orders_mid values (3, 504);
select * from cap.refresh();
-- Captures that are not what they were.
alter table cap.orders_mid disable trigger segmenter_update_customer_id;
update cap.orders_mid set amount = 505 where amount = 504;
select * from cap.refresh();
select segmenter_watch('cap.orders', 'customer_id');
select * from cap.refresh();
begin;
alter table cap.people disable trigger all;
update cap.people set email = 'unseen' where id = 1;
alter table cap.people enable trigger all;
commit;
select * from cap.refresh();
set session_replication_role = replica;
update cap.people set email = 'unseen, too' where id = 1;
reset session_replication_role;
select * from cap.refresh();
select segmenter_watch('cap.people');
select * from cap.refresh();
select segmenter_unwatch('cap.orders_mid');
select * from cap.refresh();
select segmenter_unwatch('cap.people');
select * from cap.refresh();
update cap.people set email = 'unseen again' where id = 2;
select segmenter_watch('cap.people');
select * from cap.refresh();
select segmenter_watch('cap.orders', 'customer_id');
select * from cap.refresh();
alter table cap.people set unlogged;
select * from cap.refresh();
alter table cap.people set logged;
select * from cap.refresh();
drop view cap.view;
drop materialized view cap.materialized;
alter table cap.people alter email type text using email || '!';
select * from cap.refresh();
select * from cap.refresh();

-- A column that is renamed, or dropped: who writes goes on, and the segment says what is wrong.
alter table cap.orders rename customer_id to buyer_id;
insert into cap.orders values (1, 506);
update cap.orders set amount = amount;
select * from cap.look() where ids is null;
select * from cap.refresh();
alter table cap.orders rename buyer_id to customer_id;
select * from cap.refresh();
select * from cap.refresh();
alter table cap.orders drop customer_id;
insert into cap.orders values (507);
delete from cap.orders where amount = 507;
select * from cap.refresh();
alter table cap.orders add customer_id bigint;
select * from cap.refresh();
alter table cap.orders alter customer_id type text;
update cap.orders set customer_id = 'x' where amount = 506;
select * from cap.refresh();
alter table cap.orders alter customer_id type bigint using null;
select * from cap.refresh();
select * from cap.refresh(is_full => true);
-- Two that change their names.
alter table cap.orders add other_id bigint default 1;
select * from cap.refresh();
begin;
alter table cap.orders rename customer_id to old_id;
alter table cap.orders rename other_id to customer_id;
commit;
select * from cap.refresh();
select * from cap.refresh();
drop table cap.orders;
select * from cap.refresh();
select segmenter_unwatch('cap.people');

-- Rights: the segment's owner must be able to read all of what is watched.
create table cap.secret (id int, email text);
select segmenter_watch('cap.secret');
create table cap.owned (like cap.segment including defaults, unique (id));
alter table cap.owned owner to cap_owner;
set role cap_owner;
insert into segmenter_segments (name, table_name, refresh_params) values ('cap owned', 'cap.owned',
    '{"incremental": {"watch": ["cap.secret"], "sql": "select id, s.email as hash_email from cap.secret s join changed using (id)"}}');
reset role;
insert into cap.secret values (1, 'a');
select * from cap.refresh('cap owned');
grant select (email) on cap.secret to cap_owner;
select * from cap.refresh('cap owned');
grant select (id) on cap.secret to cap_owner;
select * from cap.refresh('cap owned');
insert into cap.secret values (2, 'b');
set role cap_owner;
select status, added, coverage, detail from segmenter_refresh('cap owned');
reset role;
select * from cap.refresh('cap owned');
alter table cap.secret enable row level security;
create policy half on cap.secret using (id < 2);
select * from cap.refresh('cap owned');
alter table cap.secret disable row level security;
insert into cap.secret values (9, 'z');
select * from cap.refresh('cap owned');
select * from cap.refresh('cap owned', is_full => true);

-- Pruning: what all have read goes, what one has not read stays, but not for ever.
create table cap.second (like cap.segment including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) select 'cap second', 'cap.second', refresh_params from segmenter_segments where name = 'cap owned';
select * from cap.refresh('cap second');
-- Whatever else is open in the cluster may have it stay for a time.
create procedure cap.prune(source regclass, expected int) language plpgsql as $$
begin
    for i in 1..1000 loop
        perform segmenter_prune();
        commit;
        exit when expected = (select count(*) from segmenter_changes c where c.source = prune.source and c.ids is distinct from '{}');
        perform pg_sleep(0.01);
    end loop;
end
$$;
create function cap.kept() returns table (kept bigint, marks bigint) language sql as $$
    select count(*) filter (where ids is distinct from '{}'), count(*) filter (where ids = '{}') from segmenter_changes where source = to_regclass('cap.secret')
$$;
call cap.prune('cap.secret', 0);
select * from cap.kept();
insert into cap.secret values (3);
insert into cap.secret values (4);
select * from cap.refresh('cap owned');
select segmenter_prune();
select * from cap.kept();
select * from cap.refresh('cap second');
call cap.prune('cap.secret', 0);
select * from cap.kept();
insert into cap.secret values (5);
select segmenter_prune();
select * from cap.kept();
select * from cap.refresh('cap owned');
-- One that was not there meanwhile, or did not watch.
update segmenter_segments set actual_end = now() where name = 'cap second';
call cap.prune('cap.secret', 0);
select * from cap.kept();
update segmenter_segments set actual_end = 'infinity' where name = 'cap second';
select * from cap.refresh('cap second');
select * from cap.refresh('cap second');
-- One that reads too seldom.
insert into cap.secret values (6);
select * from cap.refresh('cap owned');
set segmenter.capture_retention = 0;
call cap.prune('cap.secret', 0);
select * from cap.kept();
select * from cap.refresh('cap second');
set segmenter.capture_retention = -1;
select * from cap.refresh('cap second');
insert into cap.secret values (7);
select * from cap.refresh('cap second');
select segmenter_prune();
select * from cap.kept();
reset segmenter.capture_retention;
set role cap_other;
set segmenter.capture_retention = 1;
reset role;
-- Nobody watches any more.
delete from segmenter_segments where name in ('cap owned', 'cap second');
call cap.prune('cap.secret', 0);
select * from cap.kept();
drop table cap.secret;
do $$ begin
    for i in 1..1000 loop
        perform segmenter_prune();
        exit when not exists (select from segmenter_changes c where not exists (select from pg_class k where k.oid = c.source));
        perform pg_sleep(0.01);
    end loop;
end $$;
select count(*) from segmenter_changes c where not exists (select from pg_class k where k.oid = c.source);

-- The extension is not dropped under a watched table, unless that is asked for; who writes goes on.
delete from segmenter_segments where name like 'cap%';
select segmenter_watch('cap.people');
\set VERBOSITY terse
drop extension segmenter;
\set VERBOSITY default
set client_min_messages = warning;
begin;
drop extension segmenter cascade;
insert into cap.people values (99);
select count(*) from cap.triggers('cap.people');
rollback;
insert into cap.people values (99);
select source::regclass, ids from segmenter_changes order by xid desc limit 1;
set client_min_messages = warning;
drop schema cap cascade;
drop owned by cap_owner, cap_other;
drop role cap_owner, cap_other;
