create extension segmenter;
create schema crm;
create table crm.customers (id int primary key, hash_email text, city text);
insert into crm.customers select id, md5('p' || id), case when id <> 42 and id < 44 then 'Oslo' else 'Rome' end from generate_series(41, 44) id;
select segmenter_create_segment('vip', 'select 42 as id', table_name => 'public.vip');
