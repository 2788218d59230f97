-- The shop: a schema that could be anyone's. All is drawn from hashes of the row numbers, so that
-- each run gives the same rows, and all dates count back from shop.today.

create schema shop;

-- A number from 0 to 1 (exclusive) that depends on nothing but its name.
create function shop.dice(name text) returns float8
language sql immutable strict parallel safe
return ('x' || left(md5(name), 8))::bit(32)::bigint / 4294967296.0;

create table shop.today (date date not null);
insert into shop.today values ('2026-03-02');

create table shop.customers (
    id         text    primary key,
    name       text    not null,
    email      text    not null,
    phone      text,
    consent    boolean not null,
    registered date    not null
);
create table shop.orders (
    id          bigint        primary key,
    customer_id text          not null references shop.customers on delete cascade,
    ordered     date          not null,
    total       numeric(10,2) not null
);

create function shop.customer_id(number bigint) returns text
language sql immutable strict parallel safe
return 'C' || lpad(number::text, 5, '0');

-- Contacts as people leave them: capitals, blanks, phones in any writing, or none.
insert into shop.customers
select
    shop.customer_id(n),
    name,
    case
        when shop.dice('capitals' || n) < 0.10 then initcap(address)
        when shop.dice('capitals' || n) < 0.13 then upper(address)
        when shop.dice('capitals' || n) < 0.16 then ' ' || address
        when shop.dice('capitals' || n) < 0.18 then address || '  '
        else address
    end,
    case
        when shop.dice('phone' || n) < 0.24 then null
        when shop.dice('phone' || n) < 0.50 then format('+1 (%s) 555-01%s', area, line)
        when shop.dice('phone' || n) < 0.60 then format('+1-%s-555-01%s', area, line)
        when shop.dice('phone' || n) < 0.65 then format(' +1.%s.555.01%s', area, line)
        else format('+1%s55501%s', area, line)
    end,
    shop.dice('consent' || n) < 0.80,
    date - 1 - floor(1100 * shop.dice('registered' || n))::int
from shop.today, generate_series(1, 20000) n
cross join lateral (
    select
        (array['Ada','Amir','Ben','Carla','Chloe','Daniel','Elena','Emma','Felix','Grace','Hugo',
               'Ines','Ivan','Jonas','Julia','Karim','Lena','Luca','Maria','Mei','Nina','Noah',
               'Olga','Omar','Paul','Priya','Rosa','Samuel','Sofia','Tom','Vera','Yusuf'])
            [1 + floor(32 * shop.dice('first' || n))] as first,
        (array['Adler','Bauer','Brown','Costa','Diaz','Evans','Fischer','Garcia','Haddad','Ito',
               'Jensen','Kaya','Keller','Khan','Kovacs','Larsen','Lopez','Martin','Meyer','Moreau',
               'Nguyen','Novak','Okafor','Patel','Petrov','Rossi','Santos','Schulz','Silva',
               'Taylor','Weber','Young'])
            [1 + floor(32 * shop.dice('last' || n))] as last,
        201 + n / 100 as area,
        lpad((n % 100)::text, 2, '0') as line
    offset 0 -- once a row
) drawn
cross join lateral (
    select
        first || ' ' || last as name,
        lower(first || '.' || last) || n || '@example.'
            || (array['com','net','org'])[1 + floor(3 * shop.dice('domain' || n))] as address
) spelt;

-- Nearly half of the customers drift away at some time; a few buy a lot.
insert into shop.orders
select
    row_number() over (order by ordered, n, k),
    shop.customer_id(n),
    ordered,
    round((15 + 420 * shop.dice(format('total %s %s', n, k)) ^ 3)::numeric, 2)
from shop.today, generate_series(1, 20000) n
join shop.customers c on c.id = shop.customer_id(n)
cross join lateral (select date - 1 - c.registered as days) known
cross join lateral (
    select case
        when shop.dice('drifts' || n) < 0.45 then days * shop.dice('active' || n) else days
    end as active
    offset 0
) alive
cross join lateral generate_series(
    1, floor((0.3 + active / 500) * -2.2 * ln(1 - shop.dice('orders' || n)))::int
) k
cross join lateral (
    select c.registered + floor((active + 1) * shop.dice(format('day %s %s', n, k)))::int as ordered
) placed;

create index on shop.orders (customer_id);

-- A day's orders, made the day before shop.today by customers drawn anew.
create function shop.trade(day text, orders int) returns void
language sql
begin atomic
    insert into shop.orders
    select
        (select max(id) from shop.orders) + row_number() over (order by n),
        c.id,
        date - 1,
        round((15 + 420 * shop.dice(format('%s total %s', day, n)) ^ 3)::numeric, 2)
    from shop.today, generate_series(1, orders) n
    join shop.customers c on c.id = shop.customer_id(1 + floor(20000 * shop.dice(day || n))::int);
end;
analyze shop.customers, shop.orders;
