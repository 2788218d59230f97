-- Every kind of segment table: the latest state or the history, of one segment or of several. One
-- person joins, leaves, returns, changes the e-mail, and leaves again; each kind of table must tell
-- it right, and segments that share a table must not touch each other's rows.
\i setup/columns.sql
create schema kinds;
create table kinds.people (id int primary key, email text, phone text);

create table kinds.latest (:columns);
create table kinds.latest_of_two (like kinds.latest including defaults);
create table kinds.latest_of_two_too (like kinds.latest including defaults);
create table kinds.history (like kinds.latest including defaults);
create table kinds.history_of_two (like kinds.latest including defaults);
create table kinds.history_of_two_too (like kinds.latest including defaults);
create unique index on kinds.latest (id);
create unique index on kinds.latest_of_two (segment_id, id);
create unique index on kinds.latest_of_two_too (id, segment_id);
create unique index on kinds.history (id) where actual_end = 'infinity';
create unique index on kinds.history_of_two (segment_id, id) where actual_end = 'infinity';
create unique index on kinds.history_of_two_too (id, segment_id) where actual_end = 'infinity';

-- "everybody" and "no phone" share a table; the others are of one segment.
insert into segmenter_segments (name, table_name, refresh_auto, guards, refresh_params)
select
    t.name || case s.word when 'everybody' then '' else ', no phone' end,
    ('kinds.' || t.name)::regclass,
    true,
    '{"allow_empty": true}',
    jsonb_build_object('query', jsonb_build_object('sql',
        'select id, email as hash_email, phone as hash_phone from kinds.people'
        || case s.word when 'no phone' then ' where phone is null' else '' end))
from (values ('latest'), ('latest_of_two'), ('latest_of_two_too'), ('history'), ('history_of_two'), ('history_of_two_too')) t (name)
join (values ('everybody'), ('no phone')) s (word) on s.word = 'everybody' or t.name like '%two%'
order by 1;

-- A step refreshes all of them and notes what should then be in them, and when that was. The
-- moments of two steps are never the same.
create table kinds.step (step int generated always as identity, at timestamp);
create table kinds.expected (step int, segment text, id varchar, hash_email varchar, hash_phone varchar);
create function kinds.step() returns table (
    segments bigint, members text, status text, added bigint, removed bigint, changed bigint, coverage bigint, detail text
) language plpgsql as $$
begin
    return query
        select count(*), coalesce(substring(r.segment, 'no phone'), 'everybody'),
            r.status, r.added, r.removed, r.changed, r.coverage, r.detail
        from segmenter_run() r
        group by 2, 3, 4, 5, 6, 7, 8
        order by 2;
    perform pg_sleep(0.002);
    insert into kinds.step (at) values (timezone('UTC', clock_timestamp()));
    insert into kinds.expected
    select (select max(x.step) from kinds.step x), s.name, p.id, p.email, p.phone
    from kinds.people p
    join segmenter_segments s on s.table_name::text like 'kinds.%' and (s.name not like '%no phone' or p.phone is null);
end $$;
-- The step that a moment belongs to, as a word.
create function kinds.word(moment timestamp) returns text language sql as $$
    select case moment when 'infinity' then 'open' else (select 'step ' || min(s.step) from kinds.step s where s.at > moment) end
$$;

-- 1: Ann joins. 2: she leaves. 3: she returns. 4: her e-mail changes. 5: she leaves again.
insert into kinds.people values (1, 'ann@a', null), (2, 'bob@b', '22');
select * from kinds.step();
delete from kinds.people where id = 1;
select * from kinds.step();
insert into kinds.people values (1, 'ann@a', null), (3, 'cid@c', null);
select * from kinds.step();
update kinds.people set email = 'ann@x' where id = 1;
select * from kinds.step();
delete from kinds.people where id = 1;
select * from kinds.step();
-- Nothing happens in step 6. In step 7 all leave, in step 8 Bob is back, without a phone.
select * from kinds.step();
delete from kinds.people;
select * from kinds.step();
insert into kinds.people values (2, 'bob@b', null);
select * from kinds.step();

-- The life of Ann and Bob, as each table tells it.
select
    s.name, m.id, m.hash_email, m.hash_phone,
    kinds.word(m.actual_begin) as actual_begin, kinds.word(m.actual_end) as actual_end, kinds.word(m.processed) as processed
from segmenter m
join segmenter_segments s on s.id = m.segment_id
where m.id in ('1', '2')
order by s.table_name::text, s.name, m.id, m.actual_begin;

-- All rows of one refresh bear the same moment, and no period is empty.
select s.name, count(distinct b.at) as moments, bool_and(m.actual_begin < m.actual_end) as not_empty
from segmenter m
join segmenter_segments s on s.id = m.segment_id
cross join lateral (values (m.actual_begin), (m.processed), (nullif(m.actual_end, 'infinity'))) b (at)
group by s.name
order by s.name;

-- Every past moment can be asked for in the tables with history, and the present one in all.
create view kinds.remembered as
select x.step, s.name as segment, m.id, m.hash_email, m.hash_phone
from kinds.step x
join segmenter m on m.actual_begin <= x.at and x.at < m.actual_end
join segmenter_segments s on s.id = m.segment_id
where s.name like 'history%' or x.step = (select max(l.step) from kinds.step l);
create view kinds.true as
select * from kinds.expected
where segment like 'history%' or step = (select max(l.step) from kinds.step l);
select count(*) from kinds.remembered;
select * from kinds.remembered except all select * from kinds.true;
select * from kinds.true except all select * from kinds.remembered;

-- No two rows of a person in a segment overlap.
select count(*) as overlaps
from segmenter a
join segmenter b on b.segment_id = a.segment_id and b.id = a.id and (b.tableoid, b.ctid) <> (a.tableoid, a.ctid)
    and b.actual_begin < a.actual_end and a.actual_begin < b.actual_end;

-- A table of one segment says so in a constraint; one that is shared does not.
select t.relname, pg_get_constraintdef(c.oid) ~ '^CHECK \(\(segment_id = ''[-0-9a-f]{36}''::uuid\)\)$' as claimed
from pg_class t
left join pg_constraint c on c.conrelid = t.oid and c.conname = 'segmenter_own_segment'
where t.relnamespace = 'kinds'::regnamespace and t.relname ~ '^(latest|history)' and t.relkind = 'r'
order by 1;

-- Refreshing one of two segments that share a table leaves the other's rows where they are.
select count(*) as others, md5(string_agg(t.ctid::text || t.xmin, ',' order by t.ctid)) as image
from kinds.history_of_two t
join segmenter_segments s on s.id = t.segment_id and s.name = 'history_of_two, no phone' \gset before_
insert into kinds.people values (4, 'dan@d', null);
select segment, added, removed, changed, coverage from segmenter_refresh('history_of_two');
select count(*) = :before_others as as_many, md5(string_agg(t.ctid::text || t.xmin, ',' order by t.ctid)) = :'before_image' as same
from kinds.history_of_two t
join segmenter_segments s on s.id = t.segment_id and s.name = 'history_of_two, no phone';

delete from segmenter_segments where table_name::text like 'kinds.%';
delete from segmenter_log;
set client_min_messages = warning;
drop schema kinds cascade;
