-- The source tables, as the CSV files have them.
create role marketing login;
create schema pagila;
create table pagila.address (
    address_id int primary key, address text, district text, city text, country text,
    postal_code text, phone text, last_update timestamp
);
create table pagila.customer (
    customer_id int primary key, store_id int, first_name text, last_name text, email text,
    address_id int, active boolean, create_date date, last_update timestamp
);
create table pagila.film (
    film_id int primary key, title text, category text, rental_rate numeric(5, 2), rating text
);
create table pagila.rental (
    rental_id int primary key, rental_date timestamp, inventory_id int, film_id int,
    customer_id int, return_date timestamp, last_update timestamp
);
create table pagila.payment (
    payment_id int primary key, customer_id int, rental_id int, amount numeric(5, 2),
    payment_date timestamp
);
create index on pagila.rental (customer_id);
create index on pagila.payment (customer_id);
grant usage on schema pagila to marketing;
grant select on all tables in schema pagila to marketing;

create extension segmenter;
