-- The two segments that demo.sql makes unseen: they are made as recent_buyers is.

select segmenter_put_segment('big_spenders', $$
    select c.id,
        segmenter_hash(segmenter_email(email, 'meta')) as hash_email,
        segmenter_hash(segmenter_phone(phone, 'US', 'meta')) as hash_phone,
        sum(total) as spent
    from shop.customers c join shop.orders o on o.customer_id = c.id
    group by c.id
    having sum(total) > 1000
$$, description => 'spent more than 1,000 in all');

select segmenter_put_segment('lapsed', $$
    select c.id,
        segmenter_hash(segmenter_email(email, 'meta')) as hash_email,
        segmenter_hash(segmenter_phone(phone, 'US', 'meta')) as hash_phone
    from shop.today, shop.customers c join shop.orders o on o.customer_id = c.id
    group by c.id, date
    having max(ordered) <= date - 180
$$, description => 'bought, but not in the last 180 days');

update segmenter_segments set refresh_auto = true where name in ('big_spenders', 'lapsed');
