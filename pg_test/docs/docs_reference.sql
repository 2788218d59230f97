create extension segmenter;
create schema crm;
select segmenter_create_segment('vip', 'select 42 as id', table_name => 'public.vip');
