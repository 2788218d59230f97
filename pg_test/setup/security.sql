\set ECHO none
-- Included by the tests of rights: roles and their schemas. The tests connect as these roles, so that not
-- even the session's user is a superuser; :super is the user who began, and drops all at the end (security_end.sql).
\set super :USER
\i setup/session.sql
-- A superuser who refreshes what others own; a role that tries to get more rights; a role with secrets.
create role sgm_admin superuser login;
create role sgm_low login;
create role sgm_victim login;
create schema sgm authorization sgm_low;
create schema sgm_victim authorization sgm_victim;
grant usage on schema sgm_victim to sgm_low;
\set ECHO all
