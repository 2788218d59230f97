create extension segmenter;
create table customers (id int primary key, city text);
insert into customers select id, 'Oslo' from generate_series(1, 20) id;
select segmenter_create_segment('oslo', 'select id from public.customers', '@daily');
select segmenter_refresh('oslo');
