create extension segmenter;
create table people (id int primary key, email text, phone text);
insert into people select id, 'p' || id || '@example.com', '8 912 000-00-' || (id + 10) from generate_series(1, 12) id;
create role marketing login;
grant select on people to marketing;
create schema seg authorization marketing;
set role marketing;
select segmenter_put_segment('vip', $$
    select id, segmenter_hash(segmenter_email(email, 'meta')) as hash_email,
        segmenter_hash(segmenter_phone(phone, 'RU', 'meta')) as hash_phone
    from public.people
$$, table_name => 'seg.vip');
select segmenter_refresh('vip');
