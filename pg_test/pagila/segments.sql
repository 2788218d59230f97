-- The segments, all of them the low-privileged role marketing's. Each is also written down in
-- oracle.segments: what its members must be at any time, as a query of its own.
\set ON_ERROR_STOP on
create schema crm authorization marketing;
create schema oracle;
create table oracle.segments (
    position int generated always as identity,
    name     text primary key,
    history  boolean not null, -- every membership is a row
    auto     boolean not null, -- refreshed by a run
    merges   boolean not null default true, -- false: its procedure rewrites rows that did not change
    columns  text[] not null,  -- what the query gives besides the id
    query    text not null
);

-- People with their hashed contacts: the text that stands for {contacts} in the queries.
create function oracle.written(query text) returns text language sql immutable as $$
    select replace(query, '{contacts}',
        $sql$encode(sha256(lower(trim(c.email))::bytea), 'hex') as hash_email, $sql$
        || $sql$encode(sha256(nullif(a.phone, '')::bytea), 'hex') as hash_phone$sql$)
$$;

insert into oracle.segments (name, history, auto, merges, columns, query) values
-- by spend: its own table, latest state, with columns of its own
('big_spenders', false, true, true, '{hash_email,hash_phone,spend,payments}', oracle.written($$
    select c.customer_id as id, {contacts}, sum(p.amount) as spend, count(*) as payments
    from pagila.customer c
    join pagila.address a using (address_id)
    join pagila.payment p using (customer_id)
    group by c.customer_id, a.address_id
    having sum(p.amount) >= 130
$$)),
-- by recency against a fixed date: its own table, history
('recent', true, true, true, '{hash_email,hash_phone,last_rental}', oracle.written($$
    select c.customer_id as id, {contacts}, r.last_rental
    from pagila.customer c
    join pagila.address a using (address_id)
    join (
        select customer_id, max(rental_date) as last_rental from pagila.rental group by customer_id
    ) r using (customer_id)
    where r.last_rental >= '2006-02-01'; -- the last campaign
$$)),
('lapsed', true, true, true, '{hash_email,hash_phone,last_payment}', oracle.written($$
    select c.customer_id as id, {contacts}, max(p.payment_date)::date as last_payment
    from pagila.customer c
    join pagila.address a using (address_id)
    left join pagila.payment p using (customer_id)
    group by c.customer_id, a.address_id
    having coalesce(max(p.payment_date) < '2007-05-01', true)
$$)),
-- by country: two on one table, latest state
('india', false, true, true, '{hash_email,hash_phone,city}', oracle.written($$
    select c.customer_id as id, {contacts}, a.city
    from pagila.customer c join pagila.address a using (address_id)
    where a.country = 'India'
$$)),
('china', false, true, true, '{hash_email,hash_phone,city}', oracle.written($$
    select c.customer_id as id, {contacts}, a.city
    from pagila.customer c join pagila.address a using (address_id)
    where a.country = 'China'
$$)),
-- by film category: two on one table, history
('sports_fans', true, true, true, '{hash_email,hash_phone,rentals}', oracle.written($$
    select c.customer_id as id, {contacts}, count(*) as rentals
    from pagila.customer c
    join pagila.address a using (address_id)
    join pagila.rental r using (customer_id)
    join pagila.film f using (film_id)
    where f.category = 'Sports'
    group by c.customer_id, a.address_id
    having count(*) >= 3
$$)),
('family_fans', true, true, true, '{hash_email,hash_phone,rentals}', oracle.written($$
    select c.customer_id as id, {contacts}, count(*) as rentals
    from pagila.customer c
    join pagila.address a using (address_id)
    join pagila.rental r using (customer_id)
    join pagila.film f using (film_id)
    where f.category = 'Family'
    group by c.customer_id, a.address_id
    having count(*) >= 3
$$)),
-- contacts without a phone; rows without a key are left out
('no_phone', false, true, true, '{hash_email,hash_phone,city}', oracle.written($$
    select nullif(c.customer_id, 7 * (c.customer_id / 7))::varchar as id, {contacts}, a.city
    from pagila.customer c join pagila.address a using (address_id)
    where coalesce(a.phone, '') = ''
$$)),
-- by store: nothing but keys
('store_2', true, true, true, '{}', 'select customer_id as id from pagila.customer where store_id = 2'),
-- through a procedure that changes only what changed, and keeps history
('loyal', true, true, true, '{hash_email,hash_phone,rentals}', oracle.written($$
    select c.customer_id as id, {contacts}, count(*) as rentals
    from pagila.customer c
    join pagila.address a using (address_id)
    join pagila.rental r using (customer_id)
    group by c.customer_id, a.address_id
    having count(*) >= 30
$$)),
-- through a procedure that deletes and writes everything anew
('active', false, true, false, '{hash_email,hash_phone}', oracle.written($$
    select c.customer_id as id, {contacts}
    from pagila.customer c join pagila.address a using (address_id)
    where c.active and c.customer_id % 3 = 0
$$)),
-- loaded by hand
('manual', true, false, true, '{hash_email}', oracle.written($$
    select c.customer_id as id, encode(sha256(lower(trim(c.email))::bytea), 'hex') as hash_email
    from pagila.customer c where c.customer_id < 50
$$)),
-- built on two other segments' tables
('vip', true, true, true, '{hash_email,hash_phone,spend,last_rental}', $$
    select b.id, b.hash_email, b.hash_phone, b.spend, r.last_rental
    from crm.big_spenders b join crm.recent r using (id)
    where b.actual_end = 'infinity' and r.actual_end = 'infinity'
$$),
-- reads the mart
('everywhere', true, true, true, '{hash_email,segments}', $$
    select m.id, max(m.hash_email) as hash_email, count(distinct m.segment_id) as segments
    from segmenter m
    join segmenter_segments s on s.id = m.segment_id
    where m.actual_end = 'infinity' and s.name <> 'everywhere'
    group by m.id
    having count(distinct m.segment_id) >= 5
$$);

create function oracle.query_of(segment text) returns text language sql stable as $$
    select query from oracle.segments where name = segment
$$;
grant usage on schema oracle to marketing;
grant select on oracle.segments to marketing;

set role marketing;
create table crm.big_spenders (
    spend numeric(10, 2), payments int,
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(),
    unique (id)
);
create table crm.recent (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), last_rental timestamp
);
create unique index on crm.recent (id) where actual_end = 'infinity';
create table crm.lapsed (like crm.recent including defaults);
alter table crm.lapsed drop last_rental, add last_payment date;
create unique index on crm.lapsed (id) where actual_end = 'infinity';
create table crm.by_country (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar, city varchar(50),
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(),
    primary key (segment_id, id)
);
create table crm.by_category (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar, rentals int,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create unique index on crm.by_category (id, segment_id) where actual_end = 'infinity';
create table crm.store_2 (like crm.recent including defaults);
create unique index on crm.store_2 (id) where actual_end = 'infinity';
create table crm.manual (like crm.store_2 including defaults);
create unique index on crm.manual (id) where actual_end = 'infinity';
create table crm.loyal (like crm.by_category including defaults);
create unique index on crm.loyal (id) where actual_end = 'infinity';
create table crm.active (
    segment_id uuid not null, id varchar primary key, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);

create procedure crm.load_loyal() language plpgsql as $$
declare
    segment constant uuid := (select id from segmenter_segments where name = 'loyal' and actual_end = 'infinity');
    member record;
begin
    -- Row by row, as people write such things.
    for member in
        select t.id from crm.loyal t
        where t.actual_end = 'infinity' and not exists (
            select from crm.loyal_now n
            where n.id = t.id and (n.hash_email, n.hash_phone, n.rentals) is not distinct from (t.hash_email, t.hash_phone, t.rentals)
        )
    loop
        update crm.loyal t set actual_end = localtimestamp, processed = localtimestamp
        where t.id = member.id and t.actual_end = 'infinity';
    end loop;
    insert into crm.loyal (segment_id, id, hash_email, hash_phone, rentals, actual_begin, processed)
    select segment, n.id, n.hash_email, n.hash_phone, n.rentals, localtimestamp, localtimestamp
    from crm.loyal_now n
    where not exists (select from crm.loyal t where t.id = n.id and t.actual_end = 'infinity');
end
$$;
create procedure crm.load_active() language plpgsql as $$
begin
    delete from crm.active;
    insert into crm.active (segment_id, id, hash_email, hash_phone, actual_begin, processed)
    select s.id, n.id, n.hash_email, n.hash_phone, localtimestamp, localtimestamp
    from crm.active_now n, segmenter_segments s
    where s.name = 'active' and s.actual_end = 'infinity';
end
$$;
select format('create view crm.%s_now as select id::varchar, hash_email, hash_phone%s from (%s) q', name,
    case name when 'loyal' then ', rentals::int' else '' end, query)
from oracle.segments where name in ('loyal', 'active') \gexec

insert into segmenter_segments (name, description, table_name, refresh_auto, refresh_params)
select name, name || ' of Pagila',
    case
        when name in ('india', 'china') then 'crm.by_country'
        when name like '%_fans' then 'crm.by_category'
        else 'crm.' || name
    end::regclass,
    auto,
    case
        when name in ('loyal', 'active') then jsonb_build_object('procedure', jsonb_build_object('sql', format('call crm.load_%s()', name)))
        when name = 'manual' then '{}'
        else jsonb_build_object('query', jsonb_build_object('sql', query))
    end
from oracle.segments
where name not in ('no_phone', 'vip', 'everywhere')
-- Not in the order in which they have to be refreshed.
order by name desc;

select segmenter_create_segment(name, query, null, 'crm.' || name, history) is not null as created
from oracle.segments where name in ('no_phone', 'vip', 'everywhere') order by name;
update segmenter_segments set refresh_auto = true where name in ('no_phone', 'vip', 'everywhere');
update segmenter_segments set guards = '{"allow_empty": true}' where name in ('no_phone', 'manual');
reset role;
