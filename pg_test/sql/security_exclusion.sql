-- Exclusion between roles: nobody learns through it who is in segments of roles that it may not act as, what
-- becomes of their segments, or takes members from them or time.
\i setup/security.sql
grant usage, create on schema sgm, sgm_victim to public;
create role sgm_team;
grant sgm_team to sgm_low;
create table sgm.people as select g::text as id from generate_series(1, 6) g;
grant select on sgm.people to public;
\c - sgm_victim
select segmenter_create_segment('sgm victim', 'select id from sgm.people where id in (''1'', ''2'')', table_name => 'sgm_victim.members') is not null as created;
select status, coverage from segmenter_refresh('sgm victim');
\c - sgm_low
select segmenter_create_segment('sgm low', 'select id from sgm.people', table_name => 'sgm.low') is not null as created;

-- A list must be one whose members the owner may read. Of others not even the name is known.
update segmenter_segments set exclude = '["sgm victim"]' where name = 'sgm low';
update segmenter_segments set exclude = '["sgm nobody"]' where name = 'sgm low';
update segmenter_segments set exempt = '{"sgm victim": "why"}' where name = 'sgm low';
update segmenter_segments set is_suppression = true where name = 'sgm low';
\c - sgm_victim
grant select (segment_id, id) on sgm_victim.members to sgm_low;
\c - sgm_low
update segmenter_segments set exclude = '["sgm victim"]' where name = 'sgm low';
\c - sgm_victim
grant select (actual_end) on sgm_victim.members to sgm_low;
\c - sgm_low
update segmenter_segments set exclude = '[{"segment": "sgm victim", "by": ["id", "hash_email"]}]' where name = 'sgm low';
update segmenter_segments set exclude = '["sgm victim"]' where name = 'sgm low';
select status, excluded, coverage, detail from segmenter_refresh('sgm low');
-- Once it may not read them any more, it learns nothing more, whatever its row says.
\c - sgm_victim
revoke select (id) on sgm_victim.members from sgm_low;
\c - sgm_low
\set VERBOSITY default
select status, excluded, coverage, detail from segmenter_refresh('sgm low', 'select ''1'' as id', dry_run => true);
\set VERBOSITY terse
select status, excluded, coverage, detail from segmenter_refresh('sgm low');
-- What the list gains meanwhile shows nothing either.
\c - sgm_victim
select status, added from segmenter_refresh('sgm victim', 'select id from sgm.people where id in (''1'', ''2'', ''6'')');
\c - sgm_low
select id from sgm.low where actual_end = 'infinity' order by id;
select step, verdict, detail from segmenter_explain('sgm low', '6') where step = 'excluded';
-- Nor does a policy that hides members.
\c - sgm_victim
select status, removed from segmenter_refresh('sgm victim');
grant select on sgm_victim.members to sgm_low;
alter table sgm_victim.members enable row level security;
\c - sgm_low
select count(*) from sgm_victim.members;
select status, excluded, detail from segmenter_refresh('sgm low');
select step, verdict, detail from segmenter_explain('sgm low', '1') where step = 'excluded';
update segmenter_segments set exclude = '[]' where name = 'sgm low';
update segmenter_segments set exclude = '["sgm victim"]' where name = 'sgm low';
\c - sgm_victim
alter table sgm_victim.members disable row level security;
\c - sgm_low
update segmenter_segments set exclude = '["sgm victim"]' where name = 'sgm low';
\c - sgm_victim

-- The list's owner learns nothing of the segments that leave out its members: no row, no WARNING.
\c - sgm_low
select status, excluded, coverage from segmenter_refresh('sgm low');
create function sgm.refuse() returns trigger language plpgsql as $$ begin raise exception 'secret of %', old.id; end $$;
create trigger refuse before update on sgm.low for each row execute function sgm.refuse();
\c - sgm_victim
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from sgm.people where id <= ''3''"}}' where name = 'sgm victim';
select segment, status, added, detail from segmenter_refresh('sgm victim');
select segment, status from segmenter_run() where segment like 'sgm%';
select count(*) from segmenter_log where segment_name = 'sgm low';
\c - sgm_low
select action, status, message from segmenter_log where segment_name = 'sgm low' and action = 'exclude' order by id;
-- It is removed with the next run of its own.
drop trigger refuse on sgm.low;
select segment, status, removed, excluded from segmenter_refresh('sgm low');
-- Nor can it hold up the list: a trigger that takes its time is ended, and a lock is not waited for.
create function sgm.sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(300); return new; end $$;
create trigger sleep before update on sgm.low for each row execute function sgm.sleep();
\c - sgm_victim
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from sgm.people where id <= ''4''"}}' where name = 'sgm victim';
select clock_timestamp() as began \gset
select segment, status, added, coverage from segmenter_refresh('sgm victim');
select clock_timestamp() - :'began' between '5 s' and '60 s' as is_ended;
\c - sgm_low
drop trigger sleep on sgm.low;
select status, message from segmenter_log where segment_name = 'sgm low' and action = 'exclude' order by id desc limit 1;
select status, removed from segmenter_refresh('sgm low');
update segmenter_segments set exclude = '[]' where name = 'sgm low';

-- A priority group: who gives a priority decides who keeps members, and who comes later learns who is in those before.
select segmenter_create_segment('sgm own', 'select id from sgm.people', table_name => 'sgm.own') is not null as created;
update segmenter_segments set priority_group = 'sgm offers', priority = 5 where name = 'sgm own';
\c - sgm_victim
select segmenter_create_segment('sgm other', 'select id from sgm.people', table_name => 'sgm_victim.other') is not null as created;
update segmenter_segments set priority_group = 'sgm offers', priority = 1 where name = 'sgm other';
update segmenter_segments set priority_group = 'sgm offers', priority = 9 where name = 'sgm other';
update segmenter_segments set priority_group = 'sgm offers', priority = 5 where name = 'sgm other';
-- The team's role cannot take members from one of its members, though this role may act as the team's.
\c - sgm_admin
create role sgm_mate login;
grant sgm_team to sgm_mate;
\c - sgm_mate
set role sgm_team;
select segmenter_create_segment('sgm team', 'select id from sgm.people', table_name => 'sgm.team') is not null as created;
update segmenter_segments set priority_group = 'sgm offers', priority = 1 where name = 'sgm team';
-- This role can have its own segment leave out the team's, as it sees that; not the other way round.
\c - sgm_low
update segmenter_segments set priority_group = 'sgm offers', priority = 1 where name = 'sgm team';
update segmenter_segments set priority = 9 where name = 'sgm team';
select status, coverage from segmenter_refresh('sgm team');
select status, excluded, coverage, detail from segmenter_refresh('sgm own', force => true);
-- Not even the owner of the set lets a role read through a group.
\c - sgm_admin
update segmenter_segments set priority_group = 'sgm offers', priority = 7 where name = 'sgm other';
grant select on sgm.own, sgm.team to sgm_victim;
update segmenter_segments set priority_group = 'sgm offers', priority = 7 where name = 'sgm other';
-- Giving a segment to another role is checked in the same way.
update segmenter_segments set owner = 'sgm_victim' where name = 'sgm team';
update segmenter_segments set priority_group = null, priority = null where name like 'sgm%';

-- A suppression list holds for all: the owner of the set decides, and its name is all that is shown of it.
\c - sgm_admin
select segmenter_create_segment('sgm opted out', 'select ''6'' as id', table_name => 'sgm.opted_out') is not null as created;
select status from segmenter_refresh('sgm opted out');
update segmenter_segments set is_suppression = true where name = 'sgm opted out';
\c - sgm_low
select status, excluded, detail from segmenter_refresh('sgm own');
select count(*) from segmenter_segments where name = 'sgm opted out';
select count(*) from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name = 'sgm opted out';
select count(*) from segmenter_log where segment_name = 'sgm opted out';
update segmenter_segments set exempt = '{"sgm opted out": "invoices are no advertising"}' where name = 'sgm own';
select status, excluded, detail from segmenter_refresh('sgm own');
\c - sgm_victim
select count(*) from segmenter_log where params ? 'exempt';
\c - sgm_admin
update segmenter_segments set is_suppression = false where name = 'sgm opted out';
delete from segmenter_log where segment_name like 'sgm%';
\i setup/security_end.sql
