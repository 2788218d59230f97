-- segmenter_preview and segmenter_diff: before one commits to a query.
\i setup/columns.sql
\set VERBOSITY terse
set client_min_messages = warning;
create schema diff;
create table diff.people (id int primary key, email text, city text, note text);
insert into diff.people select g, 'h' || g, case when g % 2 = 0 then 'Oslo' else 'Rome' end from generate_series(1, 20) g;
create function diff.segment(name text, query text, history boolean default true) returns void language sql as $$
    select segmenter_create_segment(name, query, null, 'diff.' || quote_ident(name), history)
$$;
select diff.segment('oslo', 'select id, email as hash_email from diff.people where city = ''Oslo''');
select diff.segment('small', 'select id from diff.people where id <= 4', false);
select diff.segment('all', 'select id from diff.people');
select diff.segment('none', 'select id from diff.people where false');
select segment, status from segmenter_refresh('oslo') union all select segment, status from segmenter_refresh('small') union all select segment, status from segmenter_refresh('all') union all select segment, status from segmenter_refresh('none');

-- Preview: the numbers add up to the rows; the three most similar segments.
select members, without_id, duplicates, columns, already, elapsed >= '0' as took from segmenter_preview('select id, email as hash_email, city from diff.people where id <= 5');
select members, without_id, duplicates, columns, already from segmenter_preview('select x as id from (values (1), (1), (1), (2), (null), (null)) v (x); -- twice');
select members, without_id, duplicates, already from segmenter_preview('select repeat(''x'', 3000) as id union all select ''none such''');
select members, without_id, duplicates, columns, already from segmenter_preview('select id from diff.people where false');
select p.already -> 0 ->> 'segment' as segment, (p.already -> 0 -> 'jaccard')::numeric = o.jaccard as is_overlap
from segmenter_preview('select id from diff.people where city = ''Oslo'' and id > 4') p, (
    select count(*)::numeric / nullif((select count(*) from diff.people where city = 'Oslo'), 0) as jaccard from diff.people where city = 'Oslo' and id > 4
) o;
select members, segmenter_now() = now() as now from segmenter_preview('select id from segmenter_members(''oslo'') where segmenter_now() is not null');
\set VERBOSITY default
select * from segmenter_preview('select email from diff.people');
select * from segmenter_preview('select id, id from diff.people');
select * from segmenter_preview('select id, actual_end from diff.oslo');
select * from segmenter_preview('select id, 1 from diff.people');
select * from segmenter_preview('select id from diff.people for update');
select * from segmenter_preview('delete from diff.people returning id');
select * from segmenter_preview('select 1 as id; select 2 as id');
select * from segmenter_preview('');
select * from segmenter_preview('select id from diff.nothing');
select * from segmenter_preview('select id from people');
select * from segmenter_preview(null);
\set VERBOSITY terse
-- It may only read.
create sequence diff.numbers;
create function diff.writes() returns int language plpgsql as $$ begin insert into diff.people values (1000); return 1; end $$;
select * from segmenter_preview('select diff.writes() as id');
select * from segmenter_preview('select nextval(''diff.numbers'') as id');
select count(*) from diff.people;

-- Diff: who comes, goes and changes.
select * from segmenter_diff('oslo');
update diff.people set email = 'changed' where id = 2;
update diff.people set city = 'Rome' where id = 4;
update diff.people set city = 'Oslo' where id = 1;
select * from segmenter_diff('oslo') order by operation, id;
select operation, id from segmenter_diff('small', 'select 1 as id union all select 30') order by operation, id;
select count(*) as entries from segmenter_log where action = 'refresh' and segment_name = 'oslo';
select refreshes from segmenter_state where segment_id = (select id from segmenter_segments where name = 'oslo');
select status, added, removed, changed from segmenter_refresh('oslo', dry_run => true);
-- What keeps a refresh from being made is an error, a guard is not.
update segmenter_segments set guards = '{"max_change": 0}' where name = 'oslo';
set client_min_messages = notice;
select operation, count(*) from segmenter_diff('oslo') group by operation order by operation;
set client_min_messages = warning;
update segmenter_segments set guards = '{}', sources = '[{"table": "diff.people", "min_rows": 100}]' where name = 'oslo';
\set VERBOSITY default
select * from segmenter_diff('oslo');
select * from segmenter_diff('oslo', 'select id from diff.people where id / 0 = 1');
select * from segmenter_diff('nobody');
select * from segmenter_diff(null);
\set VERBOSITY terse
update segmenter_segments set sources = '[]' where name = 'oslo';

-- The same as what the refresh does then, in random rounds, for each kind of table and refresher, with lists and
-- priorities, and with values that the query does not give.
create table diff.rich (:columns, city text, note text, points int not null default 7, twice text generated always as (city || city) stored);
create unique index on diff.rich (id) where actual_end = 'infinity';
create function diff.fill() returns trigger language plpgsql as $$ begin new.note := coalesce(new.city, 'nowhere') || '!'; return new; end $$;
create trigger fill before insert or update on diff.rich for each row execute function diff.fill();
create table diff.plain (:columns, city text, points int default 3);
create unique index on diff.plain (id);
create table diff.shared (:columns, city text);
create unique index on diff.shared (segment_id, id) where actual_end = 'infinity';
create table diff.loaded (:columns, city text);
create unique index on diff.loaded (id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params, priority_group, priority) values
    ('list', 'diff.shared', '{"query": {"sql": "select id, city from diff.people where id % 7 = (select count(*) from diff.people) % 7"}}', null, null),
    ('rich', 'diff.rich', '{"query": {"sql": "select id, email as hash_email, city from diff.people where id % 3 <> 0"}}', null, null),
    ('plain', 'diff.plain', '{"query": {"sql": "select id, city from diff.people where city <> ''Rome''"}}', null, null),
    ('first', 'diff.shared', '{"query": {"sql": "select id, city from diff.people where city = ''Oslo''"}}', 'group', 1),
    ('second', 'diff.shared', '{"query": {"sql": "select id, city from diff.people where length(email) % 2 = 0"}}', 'group', 2);
update segmenter_segments set exclude = '["list"]' where name in ('rich', 'plain');
select segmenter_watch('diff.people');
select diff.segment('watching', 'select id, email as hash_email from diff.people');
update segmenter_segments set exclude = '["list"]',
    refresh_params = '{"incremental": {"watch": ["diff.people"], "sql": "select p.id, p.email as hash_email from diff.people p join changed using (id) where p.city <> ''Oslo''"}}' where name = 'watching';
create procedure diff.load() language plpgsql as $$
begin
    update diff.loaded set actual_end = clock_timestamp() where actual_end = 'infinity'
        and id::int not in (select p.id from diff.people p where p.id % 2 = 1);
    insert into diff.loaded (segment_id, id, city)
    select s.id, p.id, p.city from diff.people p, segmenter_segments s
    where s.name = 'loaded' and p.id % 2 = 1 and not exists (select from diff.loaded m where m.id::int = p.id and m.actual_end = 'infinity');
end $$;
insert into segmenter_segments (name, table_name, refresh_params, exclude) values ('loaded', 'diff.loaded', '{"procedure": {"sql": "call diff.load()"}}', '["list"]');
create function diff.members(segment text) returns table (id text, member jsonb) language plpgsql as $$
begin
    return query execute format(
        $q$select m.id::text, to_jsonb(m) - '{segment_id, id, actual_begin, actual_end, processed}'::text[] from %s m join segmenter_segments s on s.id = m.segment_id where s.name = $1 and m.actual_end = 'infinity'$q$,
        (select s.table_name from segmenter_segments s where s.name = segment)
    ) using segment;
end $$;
-- The differences between what the diff says and what the refresh does, and how much it does.
create function diff.round(segment text, out differences bigint, out changes bigint) language plpgsql as $$
declare
    given text;
begin
    create temp table said as select * from segmenter_diff(segment);
    create temp table before as select * from diff.members(segment);
    select status into strict given from segmenter_refresh(segment);
    if given <> 'ok' then raise exception '% was %', segment, given; end if;
    create temp table done as
    select case when b.id is null then 'added' when a.id is null then 'removed' else 'changed' end as operation,
        coalesce(a.id, b.id) as id, b.member as old, a.member as new
    from diff.members(segment) a full join before b on b.id = a.id
    where a.member is distinct from b.member;
    select count(*) into differences from ((select * from said except all select * from done) union all (select * from done except all select * from said)) d;
    select count(*) into changes from done;
    drop table said, before, done;
end $$;
select setseed(0.42);
create function diff.mutate() returns void language plpgsql as $$
begin
    delete from diff.people where random() < 0.08;
    update diff.people set city = (array['Oslo', 'Rome', 'Riga'])[1 + floor(random() * 3)] where random() < 0.2;
    update diff.people set email = 'h' || repeat('x', (random() * 3)::int) where random() < 0.1;
    insert into diff.people select floor(random() * 60) + 1, 'new' || g, 'Oslo' from generate_series(1, 6) g on conflict do nothing;
end $$;
create function diff.rounds(count int) returns table (segment text, differences numeric, is_changed boolean) language plpgsql as $$
begin
    create temp table results (segment text, differences bigint, changes bigint);
    for n in 1 .. count loop
        perform diff.mutate();
        insert into results select s.name, r.* from unnest(array['list', 'rich', 'plain', 'first', 'second', 'watching', 'loaded', 'oslo', 'small']) with ordinality s (name, place), diff.round(s.name) r;
        -- A list that has gained members before its dependents are refreshed.
        perform segmenter_refresh('list', 'select id, city from diff.people where random() < 0.2');
        insert into results select s.name, r.* from unnest(array['rich', 'watching']) s (name), diff.round(s.name) r;
    end loop;
    return query select r.segment, sum(r.differences), sum(r.changes) > 10 from results r group by r.segment order by r.segment;
    drop table results;
end $$;
select * from diff.rounds(10);
-- Members that leave because of a list that has gained them by hand are among those removed.
insert into diff.shared (segment_id, id) select s.id, m.id from segmenter_segments s, (select id from segmenter_members('rich') order by id limit 2) m where s.name = 'list' and not exists (select from segmenter_members('list') l where l.id = m.id);
update segmenter_segments set refresh_params = '{}' where name = 'list';
select r.differences, r.changes >= 2 as left from diff.round('rich') r;
select segmenter_unwatch('diff.people');

-- Rights: those of a refresh, and of the table.
create role diff_owner;
create role diff_other;
create role diff_member in role diff_owner noinherit;
grant usage on schema diff to diff_owner, diff_other, diff_member;
grant select, insert, update on diff.oslo to diff_owner;
grant select on diff.people to diff_owner;
grant select on diff.oslo to diff_other;
update segmenter_segments set owner = 'diff_owner' where name = 'oslo';
set role diff_other;
select count(*) from segmenter_diff('oslo');
select already from segmenter_preview('select id from diff.people');
select already -> 0 ->> 'segment' as segment from segmenter_preview('select id from diff.oslo');
set role diff_member;
select count(*) from segmenter_diff('oslo');
reset role;
grant select on diff.oslo to diff_member;
set role diff_member;
select count(*) from segmenter_diff('oslo');
set role diff_owner;
select count(*) from segmenter_diff('oslo', 'select id from diff.people where city = ''Oslo''');
select count(*) from segmenter_diff('oslo', 'select id from diff.small');
reset role;
alter table diff.oslo enable row level security;
create policy seen on diff.oslo to diff_owner using (true);
create policy hidden on diff.oslo to diff_member using (id = '2');
set role diff_member;
select count(*) from segmenter_diff('oslo');
set role diff_owner;
select count(*) >= 0 as permitted from segmenter_diff('oslo');
reset role;
begin read only;
select members from segmenter_preview('select 1 as id');
select * from segmenter_diff('small');
rollback;

delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = error;
drop schema diff cascade;
drop role diff_member, diff_owner, diff_other;
