\set ECHO none
-- Included at the end of the tests of rights: drops what security.sql and the test made.
\c - :super
set client_min_messages = error;
delete from segmenter_subscriptions where target like 'sgm%';
delete from segmenter_consumers where name like 'sgm%';
delete from segmenter_segments where name like 'sgm%';
select string_agg(quote_ident(rolname), ', ') as roles from pg_roles where rolname like 'sgm\_%' \gset
drop owned by :roles cascade;
drop role :roles;
\set ECHO all
