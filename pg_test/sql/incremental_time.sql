-- Time in incremental segments: the time of a refresh, ids whose answer the clock changes; and tables that
-- are replaced, ids that are no ids any more, tables that are written through others.
\i setup/columns.sql
create schema it;
create table it.orders (id int primary key, at timestamptz not null default now(), until timestamptz not null default 'infinity');
create table it.members (:columns, unique (id));
insert into it.orders (id) values (1), (2), (3);
create table it.numbers (id numeric, until timestamptz);
select segmenter_watch('it.orders');
insert into segmenter_segments (name, table_name) values ('it', 'it.members');
create function it.refresh(is_full boolean default false, name text default 'it')
returns table (status text, added bigint, removed bigint, changed bigint, coverage bigint, detail text, pass text, reason text, missed text)
language plpgsql as $$
begin
    select r.status, r.added, r.removed, r.changed, r.coverage, r.detail into status, added, removed, changed, coverage, detail
    from segmenter_refresh(name, full => is_full) r;
    select l.params #>> '{incremental,pass}', l.params #>> '{incremental,reason}', l.params #>> '{incremental,missed}' into pass, reason, missed
    from segmenter_log l where l.segment_name = name order by l.id desc limit 1;
    return next;
end
$$;
create function it.set(refresher jsonb) returns void language sql as $$
    update segmenter_segments set refresh_params = jsonb_build_object('incremental', refresher) where name = 'it'
$$;
create function it.findings() returns table (status text, detail text, hint text) language sql as $$
    select d.status, d.detail, d.hint from segmenter_doctor() d where d."check" = 'incremental' and d.status <> 'ok'
$$;
-- Waits until all times in the tables have passed.
create procedure it.wait() language plpgsql as $$
begin
    while exists (select from it.orders where until > clock_timestamp() and until < 'infinity')
       or exists (select from it.numbers where until > clock_timestamp() and until < 'infinity') loop
        perform pg_sleep(0.01);
    end loop;
end
$$;

-- The time of a refresh: one for all its statements, now() outside of it.
select segmenter_now() = now() as is_now;
create table it.seen (what text, at timestamptz);
create procedure it.fill() language plpgsql as $$
begin
    insert into it.seen values ('first', segmenter_now());
    perform pg_sleep(0.01);
    insert into it.seen select 'second', segmenter_now();
    insert into it.seen values ('clock', clock_timestamp()), ('transaction', now());
end
$$;
create table it.called (:columns, unique (id));
insert into segmenter_segments (name, table_name, refresh_params, guards) values ('it called', 'it.called', '{"procedure": {"sql": "call it.fill()"}}', '{"allow_empty": true}');
begin;
select pg_sleep(0.01);
select status from segmenter_refresh('it called');
select segmenter_now() = now() as is_now;
select
    (select at from it.seen where what = 'first') = (select at from it.seen where what = 'second') as is_one,
    (select at from it.seen where what = 'first') < (select at from it.seen where what = 'clock') as has_begun,
    (select at from it.seen where what = 'first') > (select at from it.seen where what = 'transaction') as is_later;
rollback;
-- After an error, too, it is now().
select status from segmenter_refresh('it called', 'select 1 / 0 as id from it.seen right join (values (1)) v (x) on true');
select segmenter_now() = now() as is_now;
-- A role without rights may call it, and a parallel plan does not.
create role it_other;
set role it_other;
select segmenter_now() = now() as is_now;
reset role;
select provolatile, proparallel from pg_proc where proname = 'segmenter_now';

-- Ids whose answer the clock changes: those that `expires` returns between the last refresh and this one.
select it.set('{"watch": ["it.orders"], "sql": "select o.id from it.orders o join changed using (id) where o.until > segmenter_now()",
    "expires": "select id from it.orders where until > $1 and until <= $2"}');
select * from it.refresh();
update it.orders set until = clock_timestamp() + interval '3 seconds' where id = 2;
select * from it.refresh();
call it.wait();
select * from it.refresh();
select * from it.refresh();
-- In a transaction that has begun before, as now() sees it: what is looked at too early is looked at again.
select it.set('{"watch": ["it.orders"], "sql": "select o.id from it.orders o join changed using (id) where o.until > now()",
    "expires": "select id from it.orders where until > $1 and until <= $2"}');
update it.orders set until = 'infinity';
select * from it.refresh();
begin;
update it.orders set until = clock_timestamp() + interval '100 ms' where id = 3;
select * from it.refresh();
call it.wait();
select * from it.refresh();
commit;
select * from it.refresh();
-- In a full pass it is not needed; what it would have returned was not missed.
update it.orders set until = clock_timestamp() + interval '3 seconds' where id = 1;
select * from it.refresh();
call it.wait();
select * from it.refresh(is_full => true);
-- Beside changed. The ids may be of another type, if they can be assigned.
select it.set('{"changed": "select id from it.orders where at > $1", "full_cron": "@yearly",
    "sql": "select o.id from it.orders o join changed using (id) where o.until > segmenter_now()",
    "expires": "select id::bigint as id from it.orders where until > $1 and until <= $2 /* $1 */ -- and no more"}');
update it.orders set until = 'infinity', at = now();
select * from it.refresh();
update it.orders set until = clock_timestamp() + interval '100 ms' where id = 2;
call it.wait();
select * from it.refresh();
-- Ids that are equal and differ as text.
create table it.number_members (:columns, unique (id));
insert into it.numbers values (1.0, 'infinity'), (2, 'infinity');
select segmenter_watch('it.numbers');
insert into segmenter_segments (name, table_name, refresh_params) values ('it numbers', 'it.number_members', '{"incremental": {"watch": ["it.numbers"],
    "sql": "select id from it.numbers join changed using (id) where until > segmenter_now()",
    "expires": "select id from it.numbers where until > $1 and until <= $2 union all select 1.00"}}');
select * from it.refresh(name => 'it numbers');
update it.numbers set until = clock_timestamp() + interval '100 ms' where id = 2;
call it.wait();
select * from it.refresh(name => 'it numbers');
-- Wrong ones, each with its words.
\set VERBOSITY terse
create function it.wrong(expires text) returns table (detail text, hint text) language plpgsql as $$
begin
    perform it.set(jsonb_build_object('watch', jsonb_build_array('it.orders'), 'sql', 'select o.id from it.orders o join changed using (id)', 'expires', expires));
    select r.detail into detail from segmenter_refresh('it') r;
    select l.error ->> 'hint' into hint from segmenter_log l where l.segment_name = 'it' order by l.id desc limit 1;
    return next;
end
$$;
set client_min_messages = error;
select * from it.wrong('select id from it.orders; select 1 as id');
select * from it.wrong('delete from it.orders returning id');
select * from it.wrong('select id from it.orders for update');
select * from it.wrong('select 1 as number where $1 < $2');
select * from it.wrong('select id from it.orders where at > $3');
select * from it.wrong('select id::text as id from it.orders where at > $1');
select * from it.wrong('select id from it.nowhere where at > $1');
reset client_min_messages;
\set VERBOSITY default
select it.set('{"sql": "select 1", "expires": "select 1"}');
select it.set('{"watch": ["it.orders"], "sql": "select 1", "expires": 1}');

-- A table that was replaced under its name: a full pass, with a remark.
create table it.dim (id int, tier text, updated_at timestamptz default now() - interval '1 day');
insert into it.dim select g, 'gold' from generate_series(1, 4) g;
select segmenter_watch('it.dim');
create table it.watching (:columns, unique (id));
create table it.asking (:columns, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values
    ('it watching', 'it.watching', '{"incremental": {"watch": ["it.dim"], "sql": "select d.id from it.dim d join changed using (id) where tier = ''gold''"}}'),
    ('it asking', 'it.asking', '{"incremental": {"changed": "select id from it.dim where updated_at > $1", "full_cron": "@yearly", "sql": "select d.id from it.dim d join changed using (id) where tier = ''gold''"}}');
select * from it.refresh(name => 'it watching');
select * from it.refresh(name => 'it asking');
create function it.swap(query text) returns void language plpgsql as $$
begin
    execute 'create table it.dim__tmp as ' || query;
    alter table it.dim rename to dim__old;
    alter table it.dim__tmp rename to dim;
    drop table it.dim__old cascade;
end
$$;
select it.swap('select id, case id when 1 then ''silver'' else tier end as tier, updated_at from it.dim where id <> 2');
select * from it.refresh(name => 'it watching');
select * from it.refresh(name => 'it asking');
select * from it.refresh(name => 'it asking');
update it.dim set tier = 'silver' where id = 3;
select * from it.refresh(name => 'it watching');
select * from it.findings();
select segmenter_watch('it.dim');
select * from it.refresh(name => 'it watching');
select * from it.refresh(name => 'it watching');
select it.swap('select * from it.dim');
select segmenter_watch('it.dim');
select * from it.refresh(name => 'it watching');
-- A table that is watched no more is an error, and so is one that never was.
select segmenter_unwatch('it.dim');
select * from it.refresh(name => 'it watching');
select segmenter_watch(1);
-- A function that reads another table now; a table that is renamed is the same, but the function is defined otherwise.
update segmenter_segments set guards = '{"allow_empty": true}' where name like 'it%';
create table it.other (like it.dim);
create function it.ids() returns setof int language sql as $$ select id from it.dim $$;
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,sql}', '"select id from it.ids() d (id) join changed using (id)"') where name = 'it asking';
select * from it.refresh(name => 'it asking');
create or replace function it.ids() returns setof int language sql as $$ select id from it.other $$;
select * from it.refresh(name => 'it asking');
alter table it.other rename to another;
create or replace function it.ids() returns setof int language sql as $$ select id from it.another $$;
select * from it.refresh(name => 'it asking');

-- Captured ids that are no values of their column's type any more.
create type it.colour as enum ('red', 'green', 'blue');
create table it.colours (id it.colour, n int);
create table it.coloured (:columns, unique (id));
insert into it.colours values ('red', 1), ('green', 2);
select segmenter_watch('it.colours');
insert into segmenter_segments (name, table_name, refresh_params) values ('it coloured', 'it.coloured', '{"incremental": {"watch": ["it.colours"], "sql": "select id from it.colours join changed using (id)"}}');
select * from it.refresh(name => 'it coloured');
update it.colours set n = n + 1;
alter type it.colour rename value 'green' to 'lime';
select * from it.refresh(name => 'it coloured');
select * from it.refresh(name => 'it coloured');
update it.colours set n = n + 1;
alter type it.colour rename value 'lime' to 'yellow';
select * from it.refresh(name => 'it coloured', is_full => true);
select * from it.refresh(name => 'it coloured');

-- Tables that are written through a parent.
create table it.p (id int, region int, email text) partition by list (region);
create table it.p1 partition of it.p for values in (1);
create table it.p2 partition of it.p for values in (2);
insert into it.p select g, 1 + g % 2, 'e' || g from generate_series(1, 6) g;
select segmenter_watch('it.p1');
create table it.regional (:columns, unique (id));
insert into segmenter_segments (name, table_name, guards, refresh_params) values ('it regional', 'it.regional', '{"allow_empty": true}', '{"incremental": {"watch": ["it.p1"], "sql": "select id, email as hash_email from it.p1 join changed using (id)"}}');
select * from it.refresh(name => 'it regional');
insert into it.p values (10, 1, 'new');
delete from it.p where id = 2;
update it.p set email = 'other' where id = 4;
select * from it.refresh(name => 'it regional');
select * from it.findings();
select segmenter_watch('it.p');
select * from it.refresh(name => 'it regional');
update it.p set email = 'third' where id = 4;
update it.p set region = 2 where id = 10;
select * from it.refresh(name => 'it regional');
truncate it.p;
select status, removed, reason from it.refresh(name => 'it regional');
select * from it.findings();
-- One that gets a parent, is written through it, and loses it.
create table it.parent (id int, email text);
create table it.child (id int, email text);
insert into it.child values (1, 'a'), (2, 'b');
select segmenter_watch('it.child');
create table it.children (:columns, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values ('it children', 'it.children', '{"incremental": {"watch": ["it.child"], "sql": "select id, email as hash_email from it.child join changed using (id)"}}');
select * from it.refresh(name => 'it children');
-- (Earlier releases of 15 to 17 let no table with such triggers in: incremental_time_1.out.)
alter table it.child inherit it.parent;
update it.parent set email = 'c' where id = 1;
alter table it.child no inherit it.parent;
select * from it.refresh(name => 'it children');
select * from it.refresh(name => 'it children');
alter table it.child inherit it.parent;
delete from it.parent where id = 2;
select * from it.refresh(name => 'it children');

-- Refreshes by hand delete what all have read. (What an open transaction elsewhere may not have seen stays.)
create procedure it.settle(relation regclass, name text) language plpgsql as $$
begin
    for i in 1..1000 loop
        perform segmenter_refresh(name);
        commit;
        exit when not exists (select from segmenter_changes c where c.source = relation and c.ids is distinct from '{}');
        perform pg_sleep(0.01);
    end loop;
end
$$;
insert into it.colours values ('blue', 1);
select count(*) from segmenter_changes where source = 'it.colours'::regclass and ids = '{blue}';
call it.settle('it.colours', 'it coloured');
select count(*) from segmenter_changes where source = 'it.colours'::regclass and ids is distinct from '{}';

delete from segmenter_segments where name like 'it%';
set client_min_messages = warning;
drop schema it cascade;
drop role it_other;
