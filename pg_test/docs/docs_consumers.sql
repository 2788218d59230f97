create extension segmenter;
create table people (id int primary key, hash_email text);
insert into people select id, md5('p' || id) from generate_series(1, 12) id;
select segmenter_create_segment('vip', 'select id, hash_email from public.people', '@daily');
select segmenter_refresh('vip');

create role anna;
create role crm login;
create schema crm authorization crm;
set role crm;
create function crm.push(message jsonb) returns jsonb language sql as $$ select '{}'::jsonb $$;
