-- What a segment rests on is broken: no such segment, no refresher, its table dropped or no longer
-- fit, its owner gone, a caller without rights. Each is an error of its own, logged, with a hint.
\i setup/columns.sql
-- Without what other tests have logged.
delete from segmenter_log;
create schema broken;
create table broken.people (id int);
insert into broken.people values (1), (2);
create table broken.model (:columns);
create procedure broken.make(segment text) language plpgsql as $$
begin
    execute format('create table broken.%I (like broken.model including all)', segment);
    execute format('create unique index %I on broken.%I (id)', segment || '_id_key', segment);
    execute format('insert into segmenter_segments (name, table_name, refresh_auto, refresh_params)
        values (%L, ''broken.%I'', true, ''{"query": {"sql": "select id from broken.people"}}'')', segment, segment);
end $$;

-- A segment that is not there, or is not one any more.
call broken.make('retired');
update segmenter_segments set actual_end = now() where name = 'retired';
select segment, status, added, coverage, messages, detail from segmenter_refresh('nobody');
select segment, status, detail from segmenter_refresh('retired');
select segment, status, detail from segmenter_refresh('RETIRED ');
select segment, status, detail from segmenter_refresh('');
select segment, status, detail from segmenter_refresh('nobody', dry_run => true);
select segment_id is null as unknown, segment_name, status, message, error - 'context' as error
from segmenter_log
where segment_name in ('nobody', 'retired')
order by id;

-- Arguments that are null are a mistake in the call: an ERROR.
select status from segmenter_refresh(null);
select status from segmenter_refresh('nobody', dry_run => null);
select status from segmenter_refresh('nobody', force => null);

-- Nothing to refresh it with.
call broken.make('manual');
update segmenter_segments set refresh_params = default where name = 'manual';
select segment, status, detail from segmenter_refresh('manual');
select segment, status, added, detail from segmenter_refresh('manual', 'select id from broken.people');

-- The index that tells members apart: dropped, another one in its place, not valid for all.
call broken.make('no_index');
drop index broken.no_index_id_key;
select segment, status, detail from segmenter_refresh('no_index');
create unique index on broken.no_index (hash_email);
create unique index on broken.no_index (lower(id));
create unique index on broken.no_index (id, actual_begin);
create unique index on broken.no_index (id) where actual_end is not null;
alter table broken.no_index add unique (id) deferrable;
select segment, status, detail from segmenter_refresh('no_index');
create unique index latest on broken.no_index (id);
select segment, status, added, detail from segmenter_refresh('no_index');

-- The index says how changes are applied, from one refresh to the next.
alter table broken.no_index drop constraint no_index_id_key;
drop index broken.latest, broken.no_index_id_idx, broken.no_index_lower_idx;
create unique index history on broken.no_index (id) where actual_end = 'infinity';
delete from broken.people where id = 2;
select segment, status, removed, detail from segmenter_refresh('no_index');
insert into broken.people values (2);
select segment, status, added, detail from segmenter_refresh('no_index');
select id, actual_end = 'infinity' as actual from broken.no_index order by id, actual_begin;

-- The table is no part of the mart any more, or not this segment's own.
call broken.make('no_mart');
alter table broken.no_mart no inherit segmenter;
select segment, status, detail from segmenter_refresh('no_mart');
update segmenter_segments set table_name = table_name where name = 'no_mart';
select segment, status, added, detail from segmenter_refresh('no_mart');
alter table broken.no_mart drop constraint segmenter_own_segment;
select segment, status, detail from segmenter_refresh('no_mart');
update segmenter_segments set table_name = table_name where name = 'no_mart';

-- In the mart its columns cannot go, but for this.
\set VERBOSITY sqlstate
alter table broken.no_mart drop column hash_email;
alter table broken.no_mart alter hash_email type text;
\set VERBOSITY default
-- Outside of it they can; but then it does not come in again.
alter table broken.no_mart no inherit segmenter;
alter table broken.no_mart alter actual_begin drop not null;
select segment, status, detail from segmenter_refresh('no_mart');
update segmenter_segments set table_name = table_name where name = 'no_mart';
alter table broken.no_mart alter column actual_begin set not null;
update segmenter_segments set table_name = table_name where name = 'no_mart';

-- Nobody can put another segment's row into it. A row without an id is no member.
\set VERBOSITY terse
insert into broken.no_mart values (gen_random_uuid(), '3');
\set VERBOSITY default
insert into broken.no_mart select id, null from segmenter_segments where name = 'no_mart';
select segment, status, added, removed, coverage, detail from segmenter_refresh('no_mart');

-- The table is dropped.
call broken.make('no_table');
drop table broken.no_table;
select segment, status, detail from segmenter_refresh('no_table');
select name, table_name::text ~ '^\d+$' as is_number, last_status, last_error from segmenter_status where name = 'no_table';
update segmenter_segments set description = 'still here' where name = 'no_table';
update segmenter_segments set actual_end = now() where name = 'no_table';
update segmenter_segments set actual_end = 'infinity' where name = 'no_table';

-- A run takes all of this in its stride.
select segment, status, added, coverage, detail from segmenter_run();

-- The owner is dropped, and the caller has no rights.
create role broken_owner;
create role broken_caller;
grant usage, create on schema broken to broken_owner;
call broken.make('owned');
alter table broken.owned owner to broken_owner;
update segmenter_segments set owner = 'broken_owner' where name = 'owned';
select segment, status, detail from segmenter_refresh('owned');
grant select on broken.people to broken_owner;
select segment, status, added, detail from segmenter_refresh('owned');
set role broken_caller;
select segment, status, detail from segmenter_refresh('owned');
select segment, status, detail from segmenter_refresh('owned', 'select 1 as id');
select segment, status from segmenter_run();
select count(*) as seen from segmenter_log;
reset role;
alter table broken.owned owner to current_user;
revoke all on broken.people from broken_owner;
revoke all on schema broken from broken_owner;
drop role broken_owner;
select segment, status, detail from segmenter_refresh('owned');
update segmenter_segments set owner = current_user::regrole where name = 'owned';
select segment, status, added, detail from segmenter_refresh('owned');

select segment_name, error ->> 'sqlstate' as sqlstate, error ->> 'message' as message, error ->> 'hint' is not null as has_hint
from segmenter_log
where status = 'failed' and segment_name !~ 'nobody|retired'
order by id;

delete from segmenter_segments;
delete from segmenter_log;
drop role broken_caller;
set client_min_messages = warning;
drop schema broken cascade;
