-- The refresher "procedure": the user's procedure changes the segment table itself, in whatever
-- way, and the delta is derived exactly. Guards and errors undo it.
create schema procedure;
create table procedure.people (id int primary key, email text);
insert into procedure.people select i, 'e' || i from generate_series(1, 10) i;
create table procedure.model (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default timezone('UTC', clock_timestamp()), actual_end timestamp not null default 'infinity',
    processed timestamp not null default timezone('UTC', clock_timestamp()), score int
);
create table procedure.latest (like procedure.model including all, unique (id));
create table procedure.shared (like procedure.model including all, unique (segment_id, id));
create table procedure.history (like procedure.model including all);
create unique index on procedure.history (id) where actual_end = 'infinity';
create function procedure.segment(segment text) returns uuid stable language sql as
    'select s.id from segmenter_segments s where s.name = segment and s.actual_end = ''infinity''';
insert into segmenter_segments (name, table_name, refresh_params) values
    ('latest', 'procedure.latest', '{"procedure": {"sql": "call procedure.merge_latest()"}}'),
    ('history', 'procedure.history', '{"procedure": {"sql": "call procedure.keep_history();  -- as of now"}}'),
    ('shared', 'procedure.shared', '{"procedure": {"sql": "CALL procedure.rewrite(''shared'')"}}'),
    ('other', 'procedure.shared', '{"query": {"sql": "select id from procedure.people"}}');

-- Three ways to do it: merging, keeping history by hand, and deleting and inserting everything.
create procedure procedure.merge_latest() language plpgsql as $$
begin
    merge into procedure.latest t
    using procedure.people p on t.id = p.id::text
    when not matched then
        insert (segment_id, id, hash_email) values (procedure.segment('latest'), p.id, p.email)
    when matched and (t.hash_email is distinct from p.email or t.actual_end < 'infinity') then
        update set hash_email = p.email, actual_end = 'infinity', processed = timezone('UTC', clock_timestamp());
    update procedure.latest t set actual_end = timezone('UTC', clock_timestamp()), processed = timezone('UTC', clock_timestamp())
    where actual_end = 'infinity' and not exists (select from procedure.people p where p.id::text = t.id);
end $$;
create procedure procedure.keep_history() language sql as $$
    update procedure.history t set actual_end = now(), processed = now()
    where actual_end = 'infinity' and not exists (select from procedure.people p where p.id::text = t.id and p.email = t.hash_email);
    insert into procedure.history (segment_id, id, hash_email)
    select procedure.segment('history'), p.id, p.email from procedure.people p
    where not exists (select from procedure.history t where t.id = p.id::text and t.actual_end = 'infinity');
$$;
create procedure procedure.rewrite(segment text) language plpgsql as $$
begin
    delete from procedure.shared where segment_id = procedure.segment(segment);
    insert into procedure.shared (segment_id, id, hash_email) select procedure.segment(segment), p.id, p.email from procedure.people p;
end $$;

create function procedure.refresh(segment text, dry_run boolean default false, force boolean default false)
returns table (segment text, status text, added bigint, removed bigint, changed bigint, coverage bigint, messages bigint, detail text) language sql as $$
    select r.segment, r.status, r.added, r.removed, r.changed, r.coverage, r.messages, r.detail from segmenter_refresh(segment, null, dry_run, force) r
$$;
create view procedure.all as select r.* from (values ('history'), ('latest'), ('other'), ('shared')) s (name), procedure.refresh(s.name) r;

-- Members in a pre-image cannot hide in changed or rewritten rows: the delta is exact.
select * from procedure.all;
select * from procedure.all;
update procedure.people set email = 'new' where id <= 2;
delete from procedure.people where id in (3, 4, 5);
insert into procedure.people values (11, 'e11');
select * from procedure.all;
insert into procedure.people values (3, 'e3'), (4, null);
select * from procedure.all;
select num_received, num_invalid, added, removed, changed, coverage, params -> 'refresh_params' as refresh_params
from segmenter_log
where segment_name = 'history'
order by id;
select count(*), count(*) filter (where actual_end = 'infinity') as actual from procedure.history;

-- Columns the mart does not know count as well.
create procedure procedure.score() language sql as 'update procedure.shared set score = 5 where segment_id = procedure.segment(''shared'') and id = ''7''';
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call procedure.score()"}}' where name = 'shared';
select * from procedure.refresh('shared');
select * from procedure.refresh('shared');

-- A dry run tells what would be and leaves nothing; a guard undoes it, unless forced.
delete from procedure.people where id > 5;
create table procedure.image as select ctid as was_at, xmin as was_by, id from procedure.latest;
create view procedure.rewritten as
select count(*) as rewritten
from procedure.latest l
full join procedure.image i using (id)
where (l.ctid, l.xmin) is distinct from (i.was_at, i.was_by);
select * from procedure.refresh('latest', dry_run => true);
table procedure.rewritten;
update segmenter_segments set guards = '{"max_removed": 2}' where name = 'latest';
select * from procedure.refresh('latest');
table procedure.rewritten;
select * from procedure.refresh('latest', dry_run => true);
select * from procedure.refresh('latest', dry_run => true, force => true);
table procedure.rewritten;
select * from procedure.refresh('latest', force => true);
delete from procedure.people;
update segmenter_segments set guards = '{}' where name = 'latest';
select * from procedure.refresh('latest');
select count(*) from procedure.latest where actual_end = 'infinity';

-- A procedure, or its caller, may drop what it has made, also in a transaction that keeps its snapshot.
create procedure procedure.by_table() language plpgsql as $$
begin
    create temp table found as select p.id, p.email from procedure.people p;
    delete from procedure.latest;
    insert into procedure.latest (segment_id, id, hash_email) select procedure.segment('latest'), f.id, f.email from found f;
    drop table found;
end $$;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call procedure.by_table()"}}' where name = 'latest';
begin isolation level repeatable read;
create temp table mine (id int);
drop table mine;
select status, detail, coverage = (select count(*) from procedure.people) as is_whole from segmenter_refresh('latest', force => true);
select status, detail, added, removed from segmenter_refresh('latest');
rollback;

-- Wrong ones: each changes nothing, and says why.
create procedure procedure.try(sql text) language plpgsql as $$
declare
    outcome record;
begin
    update segmenter_segments set refresh_params = jsonb_build_object('procedure', jsonb_build_object('sql', sql)) where name = 'latest';
    select * into outcome from segmenter_refresh('latest');
    raise info '%', concat_ws(' ', outcome.status, right(outcome.detail, 7));
end $$;
create procedure procedure.commits() language plpgsql as 'begin delete from procedure.latest; commit; end';
create procedure procedure.rolls_back() language plpgsql as 'begin delete from procedure.latest; rollback; end';
create procedure procedure.raises() language plpgsql as $$
begin
    delete from procedure.latest;
    raise 'no more' using errcode = 'SEG02', hint = 'Find more.';
end $$;
-- Raised again after a notice, it is still the same error.
create procedure procedure.raises_again() language plpgsql as $$
begin
    call procedure.raises();
exception when others then
    raise notice 'cleaning up';
    raise;
end $$;
create procedure procedure.forgets_the_id() language sql as
    'insert into procedure.latest (segment_id, id) values (procedure.segment(''latest''), null), (procedure.segment(''latest''), null)';
create procedure procedure.takes_anothers() language sql as
    'insert into procedure.latest (segment_id, id) values (procedure.segment(''other''), ''99'')';
create procedure procedure.doubles() language sql as
    'insert into procedure.latest (segment_id, id) values (procedure.segment(''latest''), ''1''), (procedure.segment(''latest''), ''1'')';
create procedure procedure.drops() language sql as 'drop table procedure.latest';
create procedure procedure.alters() language sql as 'alter table procedure.latest add column more int';
create procedure procedure.truncates() language sql as 'truncate procedure.latest';
insert into procedure.people select i, 'e' || i from generate_series(1, 3) i;
call procedure.merge_latest();
truncate procedure.image;
insert into procedure.image select ctid, xmin, id from procedure.latest;
\set VERBOSITY terse
call procedure.try('');
call procedure.try('select 1 as id');
call procedure.try('delete from procedure.latest');
call procedure.try('do $$begin delete from procedure.latest; end$$');
call procedure.try('call procedure.raises(); call procedure.raises()');
call procedure.try('call procedure.nothing()');
-- An error in the text of the CALL is named with its line and column, as one of a query is; one within the procedure is not.
call procedure.try(E'call\n  procedure.rewrite(\n  nowhere)');
call procedure.try('call procedure.rewrite(1)');
call procedure.try('call procedure.rewrite(''shared''');
create procedure procedure.misspells() language plpgsql as $$ begin delete from procedure.latset; end $$;
call procedure.try('call procedure.misspells()');
select error ->> 'message' as message, error ->> 'detail' as detail, error ->> 'context' as context
from (select * from segmenter_log where segment_name = 'latest' and status = 'failed' order by id desc limit 4) l
order by id;
call procedure.try('call procedure.commits()');
call procedure.try('call procedure.rolls_back()');
call procedure.try('call procedure.raises()');
call procedure.try('call procedure.raises_again()');
call procedure.try('call procedure.forgets_the_id()');
call procedure.try('call procedure.takes_anothers()');
call procedure.try('call procedure.doubles()');
call procedure.try('call procedure.truncates()');
table procedure.rewritten;
-- The shape of the table is not for a refresh to change.
call procedure.try('call procedure.drops()');
call procedure.try('call procedure.alters()');
table procedure.rewritten;
\set VERBOSITY default
select error ->> 'sqlstate' as sqlstate, message, error ->> 'hint' as hint, split_part(error ->> 'context', E'\n', 1) as context
from segmenter_log
where segment_name = 'latest' and status in ('failed', 'refused')
order by id;

-- One refresh of a segment at a time: a procedure does not refresh its own segment.
create procedure procedure.refreshes(segment text) language plpgsql as $$
begin
    perform segmenter_refresh(segment);
end $$;
set client_min_messages = error;
call procedure.try('call procedure.refreshes(''latest'')');
reset client_min_messages;
select count(*) as busy from segmenter_log where error ->> 'sqlstate' = '55P03';
-- Another segment it may.
call procedure.try('call procedure.refreshes(''other'')');
table procedure.rewritten;

-- In a shared table only the segment's own members count as its delta. One that a procedure takes
-- from another segment is back after that one's next refresh.
update segmenter_segments set guards = '{"allow_empty": true}', refresh_params = '{"procedure": {"sql": "call procedure.empty()"}}' where name = 'shared';
create procedure procedure.empty() language sql as 'delete from procedure.shared';
select * from procedure.refresh('other');
select * from procedure.refresh('shared');
select * from procedure.refresh('other');

delete from segmenter_segments where table_name::text like 'procedure.%';
delete from segmenter_log;
set client_min_messages = warning;
drop schema procedure cascade;
