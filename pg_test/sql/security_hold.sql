-- Progress, cancelling and holding: of segments whose owner the role may act as, and of no others.
\i setup/security.sql
\i setup/schema.sql
create role sgm_watch login in role pg_monitor;
\c - sgm_victim
select segmenter_create_segment('sgm_victim', 'select 1 as id', '@daily', 'sgm_victim.own') is not null as created;
select segmenter_cancel('sgm_victim', '1 hour');
select hold_until > now() as held from segmenter_status where name = 'sgm_victim';

-- Another role may not cancel it, hold it, release it, or learn that it exists.
\c - sgm_low
select segmenter_cancel('sgm_victim');
select segmenter_cancel('sgm_victim', '1 day');
select segmenter_cancel('sgm_nobody', '1 day');
update segmenter_segments set hold_until = null where name = 'sgm_victim';
select count(*) from segmenter_status where name = 'sgm_victim';
select count(*) from segmenter_progress;
select count(*) from segmenter_due() where segment = 'sgm_victim';
select count(*) from segmenter_doctor() where "check" = 'held';
-- Its own names change nothing: functions and operators of its own are not called.
create function sgm.pg_cancel_backend(int) returns boolean language plpgsql as $$ begin raise info 'called by %', current_user; return true; end $$;
create function sgm.clock_timestamp() returns timestamptz language plpgsql as $$ begin raise info 'called by %', current_user; return now(); end $$;
set search_path = sgm, pg_catalog, :schema, public;
select segmenter_create_segment('sgm_low', 'select 1 as id', '@daily', 'sgm.own') is not null as created;
select segmenter_cancel('sgm_low', '1 hour');
reset search_path;
-- With a hold that is another's time of day, or none.
update segmenter_segments set hold_until = 'infinity' where name = 'sgm_low';
select hold_until from segmenter_segments where name = 'sgm_low';

-- A member of pg_monitor sees that it is held, and may not change it.
\c - sgm_watch
select name, hold_until > now() as held from segmenter_status where name ~ '^sgm' order by 1;
select status, regexp_replace(detail, '[0-9]{4}-[0-9-]+ [0-9:]+', 'TIME') as detail from segmenter_doctor() where "check" = 'held' order by 2;
select segmenter_cancel('sgm_victim', '1 day');
update segmenter_segments set hold_until = null;

-- The functions are for all, the rows are not; nobody may have the view's function checked elsewhere.
\c - :super
select has_function_privilege('sgm_low', 'segmenter_cancel(text, interval)', 'execute') as cancel, has_table_privilege('sgm_low', 'segmenter_progress', 'select') as progress,
    has_table_privilege('sgm_low', 'segmenter_progress', 'insert') as writes;
select hold_until > now() and hold_until < now() + interval '2 hours' as as_it_was from segmenter_segments where name = 'sgm_victim';
\i setup/security_end.sql
