-- People who are kept out: a role keeps people out of the segments of roles that it may act as, and of no
-- others; nobody but the owner of the set reads hashes or the secret.
\i setup/security.sql
grant usage, create on schema sgm, sgm_victim to public;
create role sgm_team;
grant sgm_team to sgm_low;
create table sgm.people as select g::text as id from generate_series(1, 6) g;
grant select on sgm.people to public;
\c - sgm_victim
select segmenter_create_segment('sgm victim', 'select id from sgm.people', table_name => 'sgm_victim.members') is not null as created;
select status, coverage from segmenter_refresh('sgm victim');
\c - sgm_low
select segmenter_create_segment('sgm low', 'select id from sgm.people', table_name => 'sgm.low') is not null as created;
select status, coverage from segmenter_refresh('sgm low');
set role sgm_team;
select segmenter_create_segment('sgm team', 'select id from sgm.people', table_name => 'sgm.team') is not null as created;
select status, coverage from segmenter_refresh('sgm team');

-- Nothing of it can be read, written or locked, whatever row_security says.
\c - sgm_low
table segmenter_kept_out;
table segmenter_secret;
select count(*) from segmenter_kept_out;
insert into segmenter_kept_out (hash) values ('\x00');
update segmenter_kept_out set hash = null;
delete from segmenter_kept_out;
update segmenter_secret set made_at = '-infinity';
truncate segmenter_secret;
begin;
lock table segmenter_kept_out in access share mode;
rollback;
begin;
lock table segmenter_secret in exclusive mode;
rollback;
set row_security = off;
select count(*) from segmenter_kept_out;
select segmenter_readmit('1');
reset row_security;

-- Of its own segments, those of its roles, and those that they make later.
select segment, rows from segmenter_erase('1', keep_out => true) order by segment;
select status, excluded, coverage from segmenter_refresh('sgm low');
select status, excluded, coverage from segmenter_refresh('sgm team');
set role sgm_team;
select segmenter_create_segment('sgm team later', 'select id from sgm.people', table_name => 'sgm.team_later') is not null as created;
select status, excluded, coverage from segmenter_refresh('sgm team later');
\c - sgm_victim
delete from sgm_victim.members where id = '1';
select status, added, excluded, coverage, detail from segmenter_refresh('sgm victim');
-- A role that may not act as the one that keeps a person out learns nothing of it, and readmits nobody.
select segmenter_readmit('1');
\c - sgm_low
select status, excluded from segmenter_refresh('sgm low');
-- It holds whatever becomes of memberships.
\c - sgm_admin
revoke sgm_team from sgm_low;
select status, excluded from segmenter_refresh('sgm team');
select owner, owner_name, count(*) from segmenter_kept_out where owner_name like 'sgm%' group by 1, 2 order by 1, 2;
\c - sgm_low
-- It takes back what is its own.
select segmenter_readmit('1');
select status, added, excluded from segmenter_refresh('sgm low');
\c - sgm_admin
select status, excluded from segmenter_refresh('sgm team');

-- Whom the owner of the set keeps out is kept out of all segments, and no other role readmits.
select segment, rows from segmenter_erase('2', keep_out => true) where segment like 'sgm %' order by segment;
\c - sgm_victim
select status, excluded, coverage from segmenter_refresh('sgm victim');
select segmenter_readmit('2');
select status, excluded, coverage from segmenter_refresh('sgm victim');
-- A segment of another role: its new owner's rules hold.
\c - sgm_admin
alter table sgm.low owner to sgm_victim;
update segmenter_segments set owner = 'sgm_victim' where name = 'sgm low';
select status, excluded from segmenter_refresh('sgm low');
select segmenter_readmit('2'), segmenter_readmit('1');
select status, added, excluded from segmenter_refresh('sgm victim');
select status, added, excluded from segmenter_refresh('sgm team');

-- In a set of its own a role reads its hashes and its secret, as it owns the tables.
\c - sgm_low
select segmenter_init('sgm.own') is not null as made;
set segmenter.cfg_table = 'sgm.own';
select segmenter_create_segment('sgm own', 'select id from sgm.people', table_name => 'sgm.own_members') is not null as created;
select status, coverage from segmenter_refresh('sgm own');
select rows from segmenter_erase('3', keep_out => true);
select status, excluded, coverage from segmenter_refresh('sgm own');
select owner, owner_name, length(hash) from sgm.own_kept_out;
\c - sgm_victim
set segmenter.cfg_table = 'sgm.own';
table sgm.own_kept_out;
table sgm.own_secret;
select segmenter_readmit('3');
-- What the owner attaches to them runs with the owner's rights.
\c - sgm_low
create function sgm.spy() returns trigger language plpgsql as $$ begin raise notice 'as %', current_user; return new; end $$;
create trigger spy before insert or update on sgm.own_kept_out for each row execute function sgm.spy();
\c - sgm_admin
set segmenter.cfg_table = 'sgm.own';
select count(*) from segmenter_erase('4', keep_out => true);
select segmenter_readmit('4');
reset segmenter.cfg_table;

delete from segmenter_kept_out;
delete from segmenter_log where action in ('keep out', 'readmit') or segment_name like 'sgm%';
select segmenter_drop_set('sgm.own', force => true);
\i setup/security_end.sql
