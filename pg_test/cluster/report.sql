-- A month of a shop's segments, for the cluster test report: each day is a run, whose entries in the log are then moved to
-- that day. What the report must say of it is known: "lapsed" shrinks in the last week, the load of carts is late on some
-- days and now, "big spenders" is refused on the day when the orders broke, "birthdays" fails.
set client_min_messages = error;
create schema shop;
create table shop.people (id int primary key, email text not null, consent boolean not null);
insert into shop.people select g, md5(g::text), g % 19 > 0 from generate_series(1, 6000) g;
create table shop.today (day int not null);
insert into shop.today values (0);
create table shop.loads (name text primary key, day int not null);
insert into shop.loads values ('carts', 0), ('orders', 0);
create table shop.orders (customer int, place int);
-- Who is in a group of so many thousandths today; the higher the speed, the more change.
create function shop.is_in(id int, salt int, share int, speed int) returns boolean stable language sql as $$
    select (is_in.id::bigint * 7919 + salt * 104729 + (t.day * speed)) % 1000 < share from shop.today t
$$;
create schema authorization marketing;
grant usage on schema shop to marketing;
grant select on all tables in schema shop to marketing;
alter default privileges in schema shop grant select on tables to marketing;

set role marketing;
select segmenter_put_segment('recent buyers', $$
    select p.id, p.email as hash_email from shop.people p, shop.today t where shop.is_in(p.id, 1, 380 + t.day * 3, 9) $$);
select segmenter_put_segment('big spenders', $$
    select p.id, p.email as hash_email from shop.people p, shop.loads l where l.name = 'orders' and l.day >= 0 and shop.is_in(p.id, 1, 190, 3) $$,
    guards => '{"max_change": 0.4}');
select segmenter_put_segment('lapsed', $$
    select p.id, p.email as hash_email from shop.people p, shop.today t where shop.is_in(p.id, 5, 300 - greatest(t.day - 24, 0) * 24, 5) $$);
select segmenter_put_segment('newsletter', $$
    select p.id, p.email as hash_email from shop.people p, shop.today t where shop.is_in(p.id, 7, 520 + t.day * 5, 0) $$);
select segmenter_put_segment('cart abandoners', $$
    select p.id, p.email as hash_email from shop.people p where shop.is_in(p.id, 11, 70, 31) $$,
    sources => '[{"name": "shop.carts", "ready": "select l.day >= t.day from shop.loads l, shop.today t where l.name = ''carts''"}]');
select segmenter_put_segment('birthdays', $$
    select p.id, p.email as hash_email from shop.people p, shop.today t where shop.is_in(p.id, 13, 40 / case when t.day < 28 then 1 else 0 end, 40) $$);
select segmenter_put_segment('no consent', 'select id from shop.people where not consent');
select segmenter_put_segment('win back', $$
    select b.id, b.hash_email from marketing."big spenders" b join marketing.lapsed l using (id)
    where b.actual_end = 'infinity' and l.actual_end = 'infinity' $$);
update segmenter_segments set refresh_auto = true;
update segmenter_segments set refresh_cron = '30 6 * * *' where name in ('newsletter', 'recent buyers');
select segmenter_subscribe('ad cabinet', 'recent buyers', 'meta');
select segmenter_subscribe('ad cabinet', 'win back', 'meta');
select segmenter_subscribe('mail tool', 'newsletter', 'mail');
reset role;
update segmenter_segments set is_suppression = true where name = 'no consent';

-- Makes a run at an hour of a day of the last thirty. Times are those of the log; the schedule knows of it.
create procedure shop.run(day int, hour interval) language plpgsql as $$
declare
    last bigint := (select coalesce(max(id), 0) from segmenter_log);
begin
    set role marketing;
    perform segmenter_run("all" => true);
    reset role;
    update segmenter_log set processed = date_trunc('day', now()) - (29 - day) * interval '1 day' + hour where id > last;
end
$$;
do $$
begin
    for d in 0 .. 29 loop
        update shop.today set day = d;
        update shop.loads set day = case when d = 17 then -1 else d end where name = 'orders';
        if d not in (9, 16, 22, 29) then
            update shop.loads set day = d where name = 'carts';
        end if;
        call shop.run(d, case when d = 29 then now() - date_trunc('day', now()) - interval '5 h 20 min' else interval '6 h 30 min' end);
        if d in (9, 16, 22) then
            -- Later on that day it was loaded.
            update shop.loads set day = d where name = 'carts';
            call shop.run(d, case d when 22 then interval '14 h' else interval '9 h 10 min' end);
        end if;
    end loop;
end
$$;
update segmenter_segments set actual_begin = now() - interval '40 days';
update segmenter_attempts set waiting_since = now() - interval '5 h 20 min' where status = 'waiting';
-- One consumer has taken all, the other one has not for a while.
update segmenter_deliveries d set delivered_through = (select max(o.id) from segmenter_outbox o where o.subscription_id = d.subscription_id)
from segmenter_subscriptions u, segmenter_consumers c
where u.id = d.subscription_id and c.id = u.consumer_id and c.name = 'ad cabinet';
update segmenter_deliveries d set delivered_through = (
    select o.id from segmenter_outbox o where o.subscription_id = d.subscription_id order by o.id desc offset 3 limit 1)
from segmenter_subscriptions u, segmenter_consumers c
where u.id = d.subscription_id and c.id = u.consumer_id and c.name = 'mail tool';
update segmenter_outbox set available_at = now() - interval '9 hours';
update segmenter_attempts set started_at = now() - interval '5 h 20 min', ended_at = now() - interval '5 h 20 min' where status <> 'waiting';
-- Nothing is to be refreshed while the page is looked at.
update segmenter_segments set refresh_auto = false;
vacuum analyze;
