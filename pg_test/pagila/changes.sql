-- What happens to the shop between two refreshes: the same for the same seed and round, whatever
-- the order of rows on disk.
create table oracle.gone (like pagila.customer);

create function oracle.change(seed int, round int) returns void language plpgsql as $$
declare
    salt bigint := seed * 1000 + round;
    -- Every seventh round is a stormy one.
    size int := case when round % 7 = 6 then 8 else 1 end;
begin
    perform setseed((salt * 7919 % 99991) / 99991.0);

    delete from pagila.payment where payment_id in (
        select payment_id from pagila.payment order by hashint8extended(payment_id, salt), 1
        limit size * floor(random() * 60)
    );
    insert into pagila.payment
    select 1000000 + salt * 1000 + g, c.customer_id, null, round((random() ^ 3 * 40)::numeric, 2),
        timestamp '2007-04-01' + random() * interval '45 days'
    from (
        select customer_id, row_number() over (order by hashint8extended(customer_id, salt + 1), 1) as g
        from pagila.customer
    ) c
    where g <= size * 20
    order by g;

    -- A third changes in letter case and blanks only, which is no change to a hash.
    update pagila.customer c
    set email = case hashint8extended(customer_id, salt + 3) % 3
        when 0 then ' ' || upper(email)
        when 1 then null
        else 'r' || round || '.' || coalesce(trim(email), 'customer' || customer_id || '@example.org')
    end
    where customer_id in (
        select customer_id from pagila.customer order by hashint8extended(customer_id, salt + 2), 1
        limit size * floor(random() * 12)
    );

    update pagila.address set phone = case when hashint8extended(address_id, salt + 5) % 4 = 0 then null else '' end
    where address_id in (
        select address_id from pagila.address order by hashint8extended(address_id, salt + 4), 1
        limit size * floor(random() * 8)
    );
    update pagila.address set phone = (100000 + address_id * 7 + round)::text
    where address_id in (
        select address_id from pagila.address where coalesce(phone, '') = ''
        order by hashint8extended(address_id, salt + 6), 1
        limit size * floor(random() * 8)
    );
    update pagila.address set country = (array['India', 'China', 'Japan'])[1 + abs(hashint8extended(address_id, salt + 8) % 3)]
    where address_id in (
        select address_id from pagila.address order by hashint8extended(address_id, salt + 7), 1
        limit size * floor(random() * 8)
    );

    with gone as (
        delete from pagila.customer where customer_id in (
            select customer_id from pagila.customer order by hashint8extended(customer_id, salt + 9), 1
            limit size * floor(random() * 10)
        ) returning *
    )
    insert into oracle.gone select * from gone;
    with back as (
        delete from oracle.gone where customer_id in (
            select customer_id from oracle.gone order by hashint8extended(customer_id, salt + 10), 1
            limit size * floor(random() * 10)
        ) returning *
    )
    insert into pagila.customer select * from back;
    update pagila.customer set active = not active, store_id = 3 - store_id
    where customer_id in (
        select customer_id from pagila.customer order by hashint8extended(customer_id, salt + 11), 1
        limit size * floor(random() * 10)
    );

    delete from pagila.rental where rental_id in (
        select rental_id from pagila.rental order by hashint8extended(rental_id, salt + 12), 1
        limit size * floor(random() * 60)
    );
    update pagila.rental
    set rental_date = timestamp '2006-01-25' + hashint8extended(rental_id, salt + 14) % 10 * interval '1 day'
    where rental_id in (
        select rental_id from pagila.rental order by hashint8extended(rental_id, salt + 13), 1
        limit size * floor(random() * 20)
    );
    insert into pagila.rental
    select 1000000 + salt * 1000 + g, timestamp '2006-01-25' + random() * interval '15 days', 1, 1 + floor(random() * 1000), c.customer_id, null, null
    from (
        select customer_id, row_number() over (order by hashint8extended(customer_id, salt + 15), 1) as g
        from pagila.customer
    ) c
    where g <= size * 30
    order by g;

    -- The list that is loaded by hand.
    update oracle.segments set query = oracle.written(format($sql$
        select c.customer_id as id, encode(sha256(lower(trim(c.email))::bytea), 'hex') as hash_email
        from pagila.customer c where hashint8extended(c.customer_id, %s) %% 5 = %s
        $sql$, seed, round % 4))
    where name = 'manual';
end
$$;
