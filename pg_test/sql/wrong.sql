-- Queries that cannot serve: each is refused with its SQLSTATE and a hint, changes nothing, and is
-- logged as failed. What only looks odd works.
\i setup/schema.sql
create schema wrong;
create table wrong.people (id int, email text, score int);
insert into wrong.people values (1, 'a', 10), (2, 'b', 20), (3, 'c', 30);
create table wrong.segment (
    segment_id uuid not null, id varchar unique, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), score int, "The Score" numeric
);
insert into segmenter_segments (name, table_name, refresh_params)
values ('wrong', 'wrong.segment', '{"query": {"sql": "select id, email as hash_email from wrong.people"}}');
select status, added from segmenter_refresh('wrong');
create table wrong.image as select ctid as was_at, xmin as was_by, * from wrong.segment;
create table wrong.begun as select coalesce(max(id), 0) as log_id from segmenter_log;

create procedure wrong.try(query text) language plpgsql as $$
declare
    outcome record;
begin
    select * into outcome from segmenter_refresh('wrong', query);
    if outcome.status = 'ok' then
        raise info '%', concat_ws('; ', format('+%s -%s ~%s', outcome.added, outcome.removed, outcome.changed), outcome.detail);
    else
        raise info '% %', outcome.status, right(outcome.detail, 7);
    end if;
end $$;

-- What works: comments, semicolons, blanks, VALUES, TABLE, WITH, sets.
call wrong.try('select id, email as hash_email from wrong.people;');
call wrong.try(E'select id, email as hash_email from wrong.people -- all of them');
call wrong.try(E'  /* ; */ select id, email as hash_email from wrong.people; -- all; of; them\n  ');
call wrong.try(E'\n\nselect id, email as hash_email from wrong.people;;;');
call wrong.try(E'-- ''\nselect id, email as hash_email from wrong.people where email <> '';--'' /* select 1; */');
call wrong.try(E'with p as materialized (select * from wrong.people) select id, email as hash_email from p order by id limit 10');
call wrong.try(E'select id, hash_email from (values (1, ''a''), (2, ''b''), (3, ''c'')) v (id, hash_email)');
call wrong.try('(select id, email as hash_email from wrong.people where id = 1 union select 2, ''b'' union all select 3, ''c'')');
call wrong.try('select ''1'' as id, ''a'' as hash_email union all select ''2'', ''b'' union all select ''3'', ''c''');

-- Not one SELECT.
call wrong.try('');
call wrong.try('  -- nothing');
call wrong.try(';');
call wrong.try('select id from wrong.people; select id from wrong.people');
call wrong.try('select id from wrong.people; drop table wrong.people');
call wrong.try('delete from wrong.people returning id');
call wrong.try('explain select id from wrong.people');
call wrong.try('call wrong.try(null)');
call wrong.try('selec id from wrong.people');
call wrong.try('select id from wrong.people where email = ''');
call wrong.try('select id from wrong.people) as s; drop table wrong.people; --');
call wrong.try('select id from wrong.people /*');
call wrong.try('select id from wrong.people where id = $1');
call wrong.try('select id from wrong.nobody');
call wrong.try('select id from wrong.people where scoer > 1');
-- A segment's SQL does not depend on the session's search_path.
set search_path = wrong, :schema, public;
call wrong.try('select id from people');
reset search_path;

-- Columns.
call wrong.try('select email as hash_email from wrong.people');
call wrong.try('select');
call wrong.try('select id as "ID", email as hash_email from wrong.people');
call wrong.try('values (1), (2)');
call wrong.try('select id, email from wrong.people');
call wrong.try('select id, score + 1 from wrong.people');
call wrong.try('select id, id from wrong.people');
call wrong.try('select id, email as hash_email, email as hash_email from wrong.people');
call wrong.try('select id, now() as actual_begin from wrong.people');
call wrong.try('select id, now() as actual_end from wrong.people');
call wrong.try('select id, now() as processed from wrong.people');
call wrong.try('select gen_random_uuid() as segment_id, id from wrong.people');
call wrong.try('select id, email as score from wrong.people');
call wrong.try('select id, email as "The Score" from wrong.people');
call wrong.try('select id, true as score from wrong.people');
call wrong.try('select id, ''{}''::json as score from wrong.people');

-- Duplicate ids: among members, among new ones, of both, many.
call wrong.try('select id, email as hash_email from wrong.people union all select 2, ''x''');
call wrong.try('select id, email as hash_email from wrong.people union all select 2, ''b''');
call wrong.try('select 7 as id union all select 7');
call wrong.try('select i / 2 as id from generate_series(1, 100) i');
call wrong.try('select id from (values (''a''), (''a''), (''A''), (''a ''), (''é''), (''"q"''), (''"q"'')) v (id)');

-- Rows without an id are counted and left out, and are no duplicates of each other.
call wrong.try('select id, email as hash_email from wrong.people union all select null, ''x'' union all select null, ''y''');
call wrong.try('select id, email as hash_email from wrong.people union all select null, ''x''');
call wrong.try('select null as id where true');
select status, num_received, num_invalid, added, removed, changed, coverage, message
from segmenter_log
where status = 'ok' and num_invalid > 0 and segment_name = 'wrong'
order by id;

-- The query raises, be it a code of PostgreSQL or one made up.
create function wrong.raises(code text) returns int language plpgsql as $$
begin
    raise 'the source is not there' using errcode = code, detail = 'It was closed.', hint = 'Open it.';
end $$;
call wrong.try('select 1 / (id - 2) as id from wrong.people');
call wrong.try('select ''x''::int as id');
call wrong.try('select wrong.raises(''SEG01'') as id');
call wrong.try('select wrong.raises(''P0001'') as id');
call wrong.try('select wrong.raises(''ZZZZZ'') as id');
call wrong.try('select wrong.raises(''40001'') as id');
select error - 'context' as error, split_part(error ->> 'context', E'\n', 1) as context
from segmenter_log
where segment_name = 'wrong'
order by id desc
limit 1;

-- The query writes, in whatever way.
create sequence wrong.numbers;
create function wrong.writes() returns int language sql as 'insert into wrong.people values (9) returning id';
create function wrong.truncates() returns int language plpgsql as 'begin truncate wrong.people; return 1; end';
create function wrong.creates() returns int language plpgsql as 'begin create temp table planted (i int); return 1; end';
create function wrong.locks() returns int language plpgsql as 'begin perform from wrong.people for update; return 1; end';
create function wrong.frees() returns int language plpgsql as $$
begin
    set local transaction_read_only = off;
    delete from wrong.people;
    return 1;
end $$;
create function wrong.frees_the_session() returns int language plpgsql as $$
begin
    perform set_config('transaction_read_only', 'off', false);
    delete from wrong.people;
    return 1;
end $$;
create function wrong.swallows() returns int language plpgsql as $$
begin
    begin
        delete from wrong.people;
    exception when others then
        return 99;
    end;
    return 100;
end $$;
call wrong.try('with d as (delete from wrong.people returning id) select id from d');
call wrong.try('select id into wrong.copy from wrong.people');
call wrong.try('select id from wrong.people for update');
call wrong.try('select id from wrong.people for key share');
call wrong.try('select id from (select id from wrong.people for update) p');
call wrong.try('select nextval(''wrong.numbers'') as id');
call wrong.try('select setval(''wrong.numbers'', 5) as id');
call wrong.try('select wrong.writes() as id');
call wrong.try('select wrong.truncates() as id');
call wrong.try('select wrong.creates() as id');
call wrong.try('select wrong.locks() as id');
call wrong.try('select wrong.frees() as id');
call wrong.try('select wrong.frees_the_session() as id');
select status, added, removed from segmenter_refresh('wrong', 'select wrong.swallows() as id', dry_run => true);
select count(*), (select is_called from wrong.numbers) from wrong.people;

-- Nothing of all this stayed, but the entries in the log; a dry run makes none.
table wrong.people;
select count(*) as rewritten
from wrong.segment s
full join wrong.image i using (id)
where (s.ctid, s.xmin) is distinct from (i.was_at, i.was_by);
select
    status, error ->> 'sqlstate' as sqlstate, count(*), count(error ->> 'hint') as hints,
    bool_and(segment_id = (select s.id from segmenter_segments s where s.name = 'wrong')) as has_segment,
    bool_and(message = error ->> 'message') as says_so, count(coverage) as figures,
    bool_and(params ? 'refresh_params' and (params -> 'one_off')::boolean) as has_params
from segmenter_log
where id > (select log_id from wrong.begun) and segment_name = 'wrong'
group by status, error ->> 'sqlstate'
order by status desc, error ->> 'sqlstate';
select status, detail from segmenter_refresh('wrong', 'select 1 as id, 2 as id', dry_run => true);
select message from segmenter_log order by id desc limit 1;

delete from segmenter_segments where name = 'wrong';
delete from segmenter_log;
set client_min_messages = warning;
drop schema wrong cascade;
