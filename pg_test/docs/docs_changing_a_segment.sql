create extension segmenter;
create schema crm;
create schema seg;
create table crm.customers (id int primary key, email text, city text, spent numeric);
insert into crm.customers
select id, 'c' || id || '@example.com', case when id % 2 = 0 then 'Oslo' else 'Rome' end, id * 100 from generate_series(1, 20) id;
-- What a script made, a week ago.
create table crm.vip_by_script (customer_id int, email_hash text, since timestamp default now() - interval '7 days');
insert into crm.vip_by_script (customer_id, email_hash)
select id, encode(sha256(convert_to(email, 'UTF8')), 'hex') from crm.customers where spent >= 1200;
insert into crm.vip_by_script (customer_id, email_hash) values (99, 'gone');
