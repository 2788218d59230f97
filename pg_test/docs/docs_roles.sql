create schema crm;
create table crm.customers (id int primary key, email text, city text);
insert into crm.customers select id, 'c' || id || '@example.com', 'Oslo' from generate_series(1, 20) id;
