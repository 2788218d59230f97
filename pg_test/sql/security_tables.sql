-- A procedure that replaces, drops or releases its own segment table, changes its own config row, or
-- refreshes the segment that it belongs to. What is logged is what is there, or nothing is changed.
\i setup/security.sql

\c - sgm_admin
-- What a refresh said, against what the mart and the segment table hold.
create function sgm.held(segment text) returns table (table_name text, in_mart bigint, in_table bigint, logged bigint, last text)
language plpgsql as $$
declare
    s segmenter_segments;
begin
    select * into s from segmenter_segments where name = segment;
    table_name := coalesce(to_regclass(s.table_name::text)::text, 'none');
    in_mart := (select count(*) from segmenter m where m.segment_id = s.id and m.actual_end = 'infinity');
    if table_name <> 'none' then
        execute format('select count(*) from only %s where segment_id = %L and actual_end = %L', table_name, s.id, 'infinity') into in_table;
    end if;
    select coverage, status into logged from segmenter_log where segment_id = s.id and status = 'ok' order by id desc limit 1;
    select status into last from segmenter_log where segment_id = s.id order by id desc limit 1;
    return next;
end
$$;
create function sgm.id(segment text) returns uuid language sql stable security definer as
    $$ select id from segmenter_segments where name = segment $$;

\c - sgm_low
create function sgm.table_like_mart(name text) returns void language plpgsql as $$
begin
    execute format('create table %s (like segmenter including defaults, unique (id))', name);
end
$$;
select sgm.table_like_mart('sgm.' || name) from unnest('{sgm_view,sgm_rule,sgm_recreate,sgm_drop,sgm_release,sgm_rename,sgm_other,sgm_moved,sgm_retire,sgm_delete,sgm_guards,sgm_self,sgm_self_query,sgm_run,sgm_each}'::text[]) name;

-- a view in its place
create procedure sgm.sgm_view() language plpgsql as $$
begin
    alter table sgm.sgm_view rename to sgm_view_old;
    create view sgm.sgm_view as
    select sgm.id('sgm_view') as segment_id, g::varchar as id, null::varchar as hash_email, null::varchar as hash_phone,
        now()::timestamp as actual_begin, 'infinity'::timestamp as actual_end, now()::timestamp as processed
    from generate_series(1, 5) g;
end
$$;
-- a rule that makes it one
create procedure sgm.sgm_rule() language plpgsql as $$
begin
    create rule instead as on insert to sgm.sgm_rule do instead nothing;
    insert into sgm.sgm_rule (segment_id, id) values (sgm.id('sgm_rule'), '1');
end
$$;
-- another table in its place
create procedure sgm.sgm_recreate() language plpgsql as $$
begin
    drop table sgm.sgm_recreate;
    perform sgm.table_like_mart('sgm.sgm_recreate');
    insert into sgm.sgm_recreate (segment_id, id) values (sgm.id('sgm_recreate'), '1');
end
$$;
create procedure sgm.sgm_drop() language plpgsql as $$
begin
    drop table sgm.sgm_drop;
end
$$;
-- out of the mart
create procedure sgm.sgm_release() language plpgsql as $$
begin
    alter table sgm.sgm_release no inherit segmenter;
    insert into sgm.sgm_release (segment_id, id) values (sgm.id('sgm_release'), '1');
end
$$;
-- under another name
create procedure sgm.sgm_rename() language plpgsql as $$
begin
    alter table sgm.sgm_rename rename to sgm_renamed;
    insert into sgm.sgm_renamed (segment_id, id) values (sgm.id('sgm_rename'), '1');
end
$$;
-- its config row
create procedure sgm.sgm_other() language plpgsql as $$
begin
    update segmenter_segments set table_name = 'sgm.sgm_moved' where name = 'sgm_other';
    insert into sgm.sgm_other (segment_id, id) values (sgm.id('sgm_other'), '1');
end
$$;
create procedure sgm.sgm_retire() language plpgsql as $$
begin
    update segmenter_segments set actual_end = now() where name = 'sgm_retire';
    insert into sgm.sgm_retire (segment_id, id) values (sgm.id('sgm_retire'), '1');
end
$$;
create procedure sgm.sgm_delete() language plpgsql as $$
declare
    segment uuid := sgm.id('sgm_delete');
begin
    delete from segmenter_segments where name = 'sgm_delete';
    insert into sgm.sgm_delete (segment_id, id) values (segment, '1');
end
$$;
create procedure sgm.sgm_guards() language plpgsql as $$
begin
    update segmenter_segments set guards = '{}' where name = 'sgm_guards';
    insert into sgm.sgm_guards (segment_id, id) values (sgm.id('sgm_guards'), '1'), (sgm.id('sgm_guards'), '2');
end
$$;
insert into segmenter_segments (name, table_name, refresh_params, guards)
select name, ('sgm.' || name)::regclass, jsonb_build_object('procedure', jsonb_build_object('sql', 'call sgm.' || name || '()')),
    case when name = 'sgm_guards' then '{"max_added": 1}' else '{}' end::jsonb
from unnest('{sgm_view,sgm_rule,sgm_recreate,sgm_drop,sgm_release,sgm_rename,sgm_other,sgm_retire,sgm_delete,sgm_guards}'::text[]) name;

\c - sgm_admin
set client_min_messages = error;
-- The members that are logged are the segment's: another table in its place is none of it.
select segment, status from segmenter_refresh('sgm_view');
select * from sgm.held('sgm_view');
select segment, status, coverage from segmenter_refresh('sgm_rule');
select * from sgm.held('sgm_rule');
select segment, status from segmenter_refresh('sgm_recreate');
select * from sgm.held('sgm_recreate');
select segment, status from segmenter_refresh('sgm_drop');
select * from sgm.held('sgm_drop');
select segment, status from segmenter_refresh('sgm_release');
select * from sgm.held('sgm_release');
select segment, status, coverage from segmenter_refresh('sgm_rename');
select * from sgm.held('sgm_rename');
-- A segment that loses its table is not refreshed; one that retires is, for the last time.
select segment, status from segmenter_refresh('sgm_other');
select * from sgm.held('sgm_other');
select segment, status from segmenter_refresh('sgm_retire');
select * from sgm.held('sgm_retire');
select actual_end < 'infinity' as retired from segmenter_segments where name = 'sgm_retire';
select segment, status from segmenter_refresh('sgm_delete');
select count(*) from segmenter_segments where name = 'sgm_delete';
-- Guards are those that the segment had before.
select segment, status, added from segmenter_refresh('sgm_guards');
select * from sgm.held('sgm_guards');
select guards from segmenter_segments where name = 'sgm_guards';

-- One refresh of a segment at a time, from within it too.
\c - sgm_low
create table sgm.inner_results (segment text, status text, detail text);
create procedure sgm.sgm_self() language plpgsql as $$
begin
    insert into sgm.inner_results select r.segment, r.status, regexp_replace(r.detail, 'process \d+', 'process N')
    from segmenter_refresh('sgm_self', case when current_setting('sgm.once', true) = '1' then 'select 2 as id' end) r;
    insert into sgm.inner_results select r.segment, r.status, regexp_replace(r.detail, 'process \d+', 'process N')
    from segmenter_erase('1') r where r.segment = 'sgm_self';
    insert into sgm.sgm_self (segment_id, id) values (sgm.id('sgm_self'), '1') on conflict do nothing;
end
$$;
create procedure sgm.sgm_run() language plpgsql as $$
begin
    insert into sgm.inner_results select r.segment, r.status, regexp_replace(r.detail, 'process \d+', 'process N') from segmenter_run() r;
    insert into sgm.sgm_run (segment_id, id) values (sgm.id('sgm_run'), '1') on conflict do nothing;
end
$$;
create function sgm.sgm_self_query() returns text language plpgsql as $$
begin
    return (select r.status from segmenter_refresh('sgm_self_query', dry_run => true) r);
end
$$;
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('sgm_self', 'sgm.sgm_self', false, '{"procedure": {"sql": "call sgm.sgm_self()"}}'),
    ('sgm_self_query', 'sgm.sgm_self_query', false, '{"query": {"sql": "select sgm.sgm_self_query() as id"}}'),
    ('sgm_run', 'sgm.sgm_run', true, '{"procedure": {"sql": "call sgm.sgm_run()"}}'),
    ('sgm_each', 'sgm.sgm_each', false, '{"procedure": {"sql": "call segmenter_run_each()"}}');
\c - sgm_admin
set client_min_messages = error;
select segment, status, added, coverage from segmenter_refresh('sgm_self');
table sgm.inner_results;
delete from sgm.inner_results;
set sgm.once = '1';
select segment, status, added, coverage from segmenter_refresh('sgm_self', force => true);
table sgm.inner_results;
delete from sgm.inner_results;
select * from sgm.held('sgm_self');
select segment, status, added, coverage from segmenter_refresh('sgm_self_query');
select id from sgm.sgm_self_query;
select segment, status, added, coverage from segmenter_run() where segment like 'sgm%';
table sgm.inner_results;
select * from sgm.held('sgm_run');
reset client_min_messages;
select segment, status, detail from segmenter_refresh('sgm_each');
-- one after another in one transaction is nothing special
begin;
select segment, status, coverage from segmenter_refresh('sgm_guards', 'select 1 as id');
select segment, status, coverage from segmenter_refresh('sgm_guards', 'select 1 as id');
commit;

-- A write that the table swallows is not counted.
\c - sgm_low
create table sgm.sgm_swallow (like segmenter including defaults, unique (id));
create function sgm.swallow() returns trigger language plpgsql as 'begin return null; end';
create trigger swallow before insert on sgm.sgm_swallow for each row execute function sgm.swallow();
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_swallow', 'sgm.sgm_swallow', '{"query": {"sql": "select 1 as id"}}');
\c - sgm_admin
set client_min_messages = error;
select segment, status from segmenter_refresh('sgm_swallow');
select * from sgm.held('sgm_swallow');

-- Constraints that are deferred by default are checked at once, for every caller. Those of the caller stay deferred.
\c - sgm_low
create table sgm.referenced (id varchar primary key);
insert into sgm.referenced values ('1'), ('2');
create table sgm.sgm_deferred (like segmenter including defaults, unique (id));
alter table sgm.sgm_deferred add constraint "a;key" foreign key (id) references sgm.referenced deferrable initially deferred;
create table sgm.notes (id varchar references sgm.sgm_deferred (id) deferrable initially deferred);
create function sgm.noted() returns trigger language plpgsql as $$ begin raise notice 'noted as %', current_user; return null; end $$;
create constraint trigger noted after insert on sgm.sgm_deferred deferrable initially deferred for each row execute function sgm.noted();
insert into segmenter_segments (name, table_name, refresh_params) values
    ('sgm_deferred', 'sgm.sgm_deferred', '{"query": {"sql": "select id from sgm.referenced"}}');
\c - sgm_admin
create table public.sgm_own (id int unique deferrable initially deferred);
insert into public.sgm_own values (1), (2);
begin;
update public.sgm_own set id = 3 - id where id = 1;
select status, added, detail from segmenter_refresh('sgm_deferred');
update public.sgm_own set id = 1 where ctid = (select min(ctid) from public.sgm_own);
commit;
set client_min_messages = error;
select status, detail from segmenter_refresh('sgm_deferred', $$select '7' as id$$);
insert into sgm.notes values ('2');
select segment, rows, status, detail from segmenter_erase('2') where segment = 'sgm_deferred';
delete from sgm.notes;
select segment, rows, status from segmenter_erase('2') where segment = 'sgm_deferred';
drop table public.sgm_own, sgm.notes;

\i setup/security_end.sql
