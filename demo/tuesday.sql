-- Tuesday in the shop. :person is the customer whose way we follow, :deleted the one to go.

update shop.today set date = date + 1;

select shop.trade('tuesday', 180);
insert into shop.orders
select max(id) + 1, :'person', date - 1, 149.90 from shop.orders, shop.today group by date;

-- A new e-mail address for one in a hundred.
update shop.customers
set email = replace(lower(trim(email)), '@example', '@new.example')
where id = :'person' or shop.dice('moves' || id) < 0.01;

-- Some who spent a lot, and have not been seen for long, want to hear of us after all.
update shop.customers set consent = true
where id in (
    select c.id
    from shop.today, shop.customers c join shop.orders o on o.customer_id = c.id
    where not consent
    group by c.id, date
    having sum(total) > 1000 and max(ordered) <= date - 180
    order by c.id
    limit 2
);

delete from shop.customers where id = :'deleted';
