-- What an incremental refresher does not notice: it is said when the row is written, and by the doctor.
\i setup/columns.sql
create schema gaps;
create table gaps.orders (
    id int primary key, ordered timestamptz not null default now(), local timestamp not null default localtimestamp,
    day date not null default current_date, vip boolean not null default true
);
create table gaps.flags (id int primary key, is_good boolean not null);
create table gaps.members (:columns, unique (id));
insert into gaps.orders (id) select generate_series(1, 3);
insert into gaps.flags select g, true from generate_series(1, 3) g;
select segmenter_watch('gaps.orders'), segmenter_watch('gaps.flags');
insert into segmenter_segments (name, table_name) values ('gaps', 'gaps.members');
-- Writes the refresher, and shows what the doctor says of it.
create function gaps.set(refresher jsonb) returns table (status text, detail text) language plpgsql as $$
begin
    update segmenter_segments set refresh_params = jsonb_build_object('incremental', refresher) where name = 'gaps';
    return query select d.status, d.detail from segmenter_doctor() d where d."check" = 'incremental' and d.status <> 'ok';
end
$$;
create function gaps.watch(sql text, more jsonb default '{}') returns table (status text, detail text) language sql as $$
    select * from gaps.set(jsonb_build_object('watch', jsonb_build_array('gaps.orders'), 'sql', sql) || more)
$$;
create function gaps.changed(changed text, more jsonb default '{"full_cron": "@daily"}') returns table (status text, detail text) language sql as $$
    select * from gaps.set(jsonb_build_object('changed', changed, 'sql', 'select o.id from gaps.orders o join changed using (id)') || more)
$$;

-- No gap.
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) where vip');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) where ordered + interval ''1 day'' > local::timestamptz');
-- The clock, by whatever name.
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > now() - interval ''1 day''');
select * from gaps.watch('select id from gaps.orders join changed using (id) where day = current_date');
select * from gaps.watch('select id from gaps.orders join changed using (id) where local > localtimestamp(0)');
select * from gaps.watch('select id from gaps.orders join changed using (id) where clock_timestamp() > ordered');
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > ''yesterday''');
select * from gaps.watch('select id from gaps.orders join changed using (id) where age(ordered) < ''1 day''');
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > segmenter_now()');
select * from gaps.watch('select id, timeofday() as hash_email from gaps.orders join changed using (id)');
select * from gaps.watch('select id from gaps.orders o join changed using (id) where exists (select from gaps.orders p where p.day >= now()::date)');
select * from gaps.watch('with recent as (select * from gaps.orders where ordered > now()) select id from recent join changed using (id)');
create view gaps.recent as select id from gaps.orders where ordered > now() - interval '1 day';
create view gaps.more as select r.id from gaps.recent r;
select * from gaps.watch('select id from gaps.more join changed using (id)');
create function gaps.since() returns timestamptz language sql as $$ select now() - interval '1 day' $$;
create function gaps.since_new() returns timestamptz language sql stable return current_timestamp - interval '1 day';
create function gaps.since_atomic() returns timestamptz language sql stable begin atomic select gaps.since_new(); end;
create function gaps.since_path() returns timestamptz language sql stable set search_path = gaps as $$ select since() $$;
create function gaps.any_id(anyelement) returns anyelement language sql as $$ select case when now() > '2000-01-01' then $1 end $$;
create function gaps.is_open(at timestamptz) returns boolean language plpgsql stable as $$ begin return at > '2020-01-01'; end $$;
create function gaps.is_today(id int) returns boolean language plpgsql as $$ begin return exists (select from gaps.orders o where o.day = CURRENT_DATE); end $$;
create function gaps.plain(id int) returns boolean language plpgsql as $$ begin return id > 1; end $$;
create function gaps.local_day(at timestamptz) returns date language plpgsql immutable as $$ begin return (at at time zone 'UTC')::date; end $$;
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > gaps.since()');
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > gaps.since_new()');
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > gaps.since_atomic()');
select * from gaps.watch('select id from gaps.orders join changed using (id) where ordered > gaps.since_path()');
select * from gaps.watch('select gaps.any_id(id) as id from gaps.orders join changed using (id)');
select * from gaps.watch('select id from gaps.orders join changed using (id) where gaps.is_open(ordered)');
select * from gaps.watch('select id from gaps.orders join changed using (id) where gaps.is_today(id)');
select * from gaps.watch('select id from gaps.orders join changed using (id) where gaps.plain(id) and gaps.local_day(ordered) > ''2020-01-01''');
-- With expires, or with full passes, it is none.
select * from gaps.watch('select id from gaps.recent join changed using (id)', '{"expires": "select id from gaps.orders where ordered + interval ''1 day'' > $1 and ordered + interval ''1 day'' <= $2"}');
select * from gaps.watch('select id from gaps.recent join changed using (id)', '{"full_cron": "@daily"}');

-- A table that nothing lists.
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) join gaps.flags f using (id) where f.is_good');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) join gaps.flags f using (id) where f.is_good', '{"full_cron": "@daily"}');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) join gaps.flags f using (id) where f.is_good', '{"watch": ["gaps.orders", "gaps.flags"]}');
create view gaps.good as select id from gaps.flags where is_good;
create function gaps.good_ids() returns setof int language sql as $$ select id from gaps.flags where is_good $$;
create materialized view gaps.kept as select id from gaps.flags;
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) join gaps.good f using (id)');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) where o.id in (select gaps.good_ids())');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id) join gaps.good_ids() f (id) using (id) join gaps.kept using (id)');
select * from gaps.set('{"changed": "select id from gaps.orders where ordered > $1 union select id from gaps.good_ids() f (id)", "sql": "select o.id from gaps.orders o join changed using (id) join gaps.flags using (id)"}');
select * from gaps.set('{"changed": "select id from gaps.orders where ordered > $1", "sql": "select o.id from gaps.orders o join changed using (id) join gaps.flags using (id)"}');
create table gaps.parent (id int) partition by range (id);
create table gaps.part partition of gaps.parent default;
select segmenter_watch('gaps.parent');
select * from gaps.watch('select id from gaps.part join changed using (id)', '{"watch": ["gaps.parent"]}');

-- A time that is compared with one without a zone.
select * from gaps.changed('select id from gaps.orders where ordered > $1');
select * from gaps.changed('select id from gaps.orders where local > $1');
select * from gaps.changed('select id from gaps.orders where $1 - interval ''1 hour'' <= local');
select * from gaps.changed('select id from gaps.orders where local > $1::timestamp');
select * from gaps.changed('select id from gaps.orders where local::timestamptz > $1');
select * from gaps.changed('select id from gaps.orders where day > $1');
select * from gaps.changed('select id from gaps.orders where (local, id) > ($1, 0)');
select * from gaps.changed('select id from gaps.orders where local at time zone ''America/New_York'' > $1');
select * from gaps.changed('select id from gaps.orders where local > $1 at time zone ''America/New_York''');
select * from gaps.changed('select id from gaps.orders where ordered > $1 and local > day');
create function gaps.changed_since(at timestamptz) returns setof int language sql as $$ select id from gaps.orders where local > at $$;
create function gaps.zoned_since(at timestamptz, until timestamptz) returns setof int language sql as $$ select id from gaps.orders where ordered > at and local <= until $$;
select * from gaps.changed('select id from gaps.changed_since($1) f (id)');
select * from gaps.changed('select id from gaps.zoned_since($1, ''2030-01-01'') f (id)');
-- Through a column of a WITH, a subquery, a list of values.
select * from gaps.changed('with w as (select $1 as since) select o.id from gaps.orders o, w where o.local > w.since');
select * from gaps.changed('with w as (select $1::timestamp as since) select o.id from gaps.orders o join w on o.local > w.since');
select * from gaps.changed('select o.id from (select $1 - interval ''1 day'' as since) w cross join gaps.orders o where o.local > w.since');
select * from gaps.changed('select o.id from (values ($1)) w (since) join gaps.orders o on o.local > w.since');
select * from gaps.changed('with w as (select $1 as since), x as (select since from w) select o.id from gaps.orders o where exists (select from x where o.local > x.since)');
select * from gaps.changed('with w as (select $1 as since) select o.id from gaps.orders o, w where o.ordered > w.since');
select * from gaps.changed('select x.id from (select id, local from gaps.orders) x join (select $1 as since) w on x.local > w.since');
select * from gaps.changed('with recursive w as (select $1 as since, 1 as n union all select since, n + 1 from w where n < 2) select o.id from gaps.orders o join w on o.ordered > w.since');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id)', '{"expires": "select id from gaps.orders where local > $1 and local <= $2"}');

-- Deleted rows.
select * from gaps.changed('select id from gaps.orders where ordered > $1', '{}');

-- It is said where the row comes to have it: not with another change, not for a retired segment.
\x on
update segmenter_segments set description = 'd' where name = 'gaps';
update segmenter_segments set refresh_params = refresh_params where name = 'gaps';
update segmenter_segments set actual_end = now(), refresh_params = jsonb_set(refresh_params, '{incremental,changed}', '"select id from gaps.orders where local > $1"') where name = 'gaps';
update segmenter_segments set actual_end = 'infinity' where name = 'gaps';
\x off
-- What cannot be analysed is no gap.
\set VERBOSITY terse
set client_min_messages = error;
select * from gaps.changed('select nothing from gaps.nowhere', '{}');
reset client_min_messages;
\set VERBOSITY default
-- The queries are analysed with the rights of the segment's owner; a role that may not act as it is told
-- nothing.
create role gaps_owner;
create role gaps_other;
grant usage on schema gaps to gaps_owner, gaps_other;
alter table gaps.members owner to gaps_owner;
grant select on gaps.orders to gaps_owner;
update segmenter_segments set owner = 'gaps_owner' where name = 'gaps';
select * from gaps.changed('select id from gaps.orders where ordered > $1', '{}');
set role gaps_owner;
select d.status, d.detail from segmenter_doctor() d where d."check" = 'incremental';
set role gaps_other;
select d.status, d.detail from segmenter_doctor() d where d."check" = 'incremental';
reset role;

-- Captured changes that no segment reads.
select d.status, d.detail, d.hint from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
select segmenter_unwatch('gaps.flags'), segmenter_unwatch('gaps.parent');
select * from gaps.watch('select o.id from gaps.orders o join changed using (id)');
select d.status, d.detail, d.hint from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
grant select on gaps.orders to gaps_owner;
select status, added from segmenter_refresh('gaps');
update segmenter_segments set actual_end = now() where name = 'gaps';
select d.status, d.detail from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
update segmenter_segments set actual_end = 'infinity' where name = 'gaps';
select d.status, d.detail from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
-- Changes that are kept for too long, and too many of them.
select status from segmenter_refresh('gaps');
begin;
insert into segmenter_change_readers
select r.mart, gen_random_uuid(), now() - interval '8 days', r.cluster, r.sources, (r.through::text::bigint + 1000000)::text::xid8
from segmenter_change_readers r limit 1;
update gaps.orders set vip = false;
select d.status, d.detail, d.hint from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
set local segmenter.capture_retention = -1;
select d.status, d.detail from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
rollback;
begin;
insert into segmenter_changes select 1, 'id', '3', array['1'] from generate_series(1, 10000);
select d.status, d.detail, d.hint from segmenter_doctor() d where d."check" = 'captured changes' order by 2;
rollback;

-- What the queries go by is defined otherwise: the next pass compares all ids. What is made anew as it was changes nothing.
set client_min_messages = error;
update gaps.orders set vip = true;
create function gaps.pass(out said text) language plpgsql as $$
begin
    perform segmenter_refresh('gaps');
    select concat_ws(' ', l.status, '+' || l.added, '-' || l.removed, l.params #>> '{incremental,pass}', l.params #>> '{incremental,reason}', l.error ->> 'message') into said
    from segmenter_log l where l.segment_name = 'gaps' order by l.id desc limit 1;
end
$$;
create view gaps.wanted as select id from gaps.orders where vip;
create view gaps.wanted_more as select id from gaps.wanted;
create function gaps.most() returns int language sql stable as $$ select 100 $$;
create function gaps.most_plpgsql() returns int language plpgsql stable as $$ begin return 100; end $$;
grant select on gaps.wanted_more, gaps.flags to gaps_owner;
select count(*) from gaps.watch('select id from gaps.wanted_more join changed using (id) where id < gaps.most() and id < gaps.most_plpgsql()');
select gaps.pass() union all select gaps.pass();
create or replace view gaps.wanted as select id from gaps.orders where vip and id <> 2;
select gaps.pass() union all select gaps.pass();
create or replace function gaps.most() returns int language sql stable return 3;
select gaps.pass() union all select gaps.pass();
create or replace function gaps.most_plpgsql() returns int language plpgsql stable as $$ begin return 2; end $$;
select gaps.pass() union all select gaps.pass();
drop view gaps.wanted_more, gaps.wanted;
create view gaps.wanted as select id from gaps.orders where vip and id <> 2;
create view gaps.wanted_more as select id from gaps.wanted;
grant select on gaps.wanted_more to gaps_owner;
grant execute on function gaps.most to public;
select gaps.pass();
-- Row-level security, and each of its policies: those for writing do not count.
select count(*) from gaps.changed('select id from gaps.orders where ordered > $1');
select gaps.pass() union all select gaps.pass();
create policy seen on gaps.orders for select using (id <> 1);
alter table gaps.orders enable row level security;
select gaps.pass() union all select gaps.pass();
alter policy seen on gaps.orders using (id <> 3);
select gaps.pass() union all select gaps.pass();
create policy written on gaps.orders for insert with check (true);
select gaps.pass();
alter table gaps.orders disable row level security;
select gaps.pass() union all select gaps.pass();

delete from segmenter_segments where name = 'gaps';
set client_min_messages = warning;
drop schema gaps cascade;
drop owned by gaps_owner, gaps_other;
drop role gaps_owner, gaps_other;
