-- A delta by fingerprints is the same as by the full join, for which members that do not fit in
-- maintenance_work_mem are kept: "few" and "many" are refreshed alike, but for that.
-- (Which ten thousand members are looked at for hashes depends on the order of the rows.)
set client_min_messages = error;
create schema prints;
create table prints.source (id int, hash_email text, hash_phone text, n numeric, c text, note text, doc jsonb);
insert into prints.source
select
    g, md5(g::text), case when g % 7 > 0 then md5('p' || g) end, g / 7.0, 'c' || g % 50,
    case when g % 1000 = 999 then (select string_agg(md5(g::text || r), '') from generate_series(1, 200) r) else repeat('x', g % 50) end,
    jsonb_build_object('g', g)
from generate_series(1, 44000) g;
create table prints.few (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    n numeric(6, 2), c char(4), note text, doc jsonb,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create table prints.few_history (like prints.few including defaults);
create table prints.many (like prints.few including defaults);
create table prints.many_history (like prints.few including defaults);
create unique index on prints.few (id);
create unique index on prints.many (id);
create unique index on prints.few_history (id) where actual_end = 'infinity';
create unique index on prints.many_history (id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params)
select name, ('prints.' || name)::regclass, '{"query": {"sql": "select id, hash_email, hash_phone, n, c, note, doc from prints.source"}}'
from unnest(array['few', 'few_history', 'many', 'many_history']) name;

create function prints.refresh() returns table (segment text, status text, added bigint, removed bigint, changed bigint, coverage bigint, wrong bigint, detail text)
language plpgsql as $$
begin
    foreach segment in array array['few', 'few_history', 'many', 'many_history'] loop
        -- In 1 MB there is no room for more than 41,943 of them.
        perform set_config('maintenance_work_mem', case when segment like 'many%' then '1MB' else '64MB' end, true);
        select r.status, r.added, r.removed, r.changed, r.coverage, r.detail
        into status, added, removed, changed, coverage, detail
        from segmenter_refresh(segment) r;
        -- (Nobody is in a table twice: it has a unique index.)
        execute format('
            select count(*)
            from (select * from prints.%I where actual_end = ''infinity'') m
            full join (select * from prints.source where id is not null) s on s.id::varchar = m.id
            where (m.id, m.hash_email, m.hash_phone, m.n, m.c, m.note, m.doc)
                is distinct from (s.id::varchar, s.hash_email, s.hash_phone, s.n::numeric(6, 2), s.c::char(4), s.note, s.doc)', segment) into wrong;
        return next;
    end loop;
end
$$;

-- A first load, and nothing to do.
select * from prints.refresh();
select * from prints.refresh();
-- All sorts of changes, one of which is none once it is rounded.
update prints.source set hash_email = null where id % 100 = 0;
update prints.source set hash_phone = 'was null' where id % 700 = 7;
update prints.source set n = n + 0.001 where id % 10 = 3;
update prints.source set note = note || 'y' where id % 1000 = 999;
update prints.source set id = -id where id % 50 = 1;
update prints.source set id = null where id % 500 = 2;
delete from prints.source where id % 90 = 5;
select * from prints.refresh();
-- A key that is received twice: a member's, and a new one.
insert into prints.source select * from prints.source where id = 4;
select segment, status, detail from prints.refresh();
update prints.source set id = 900000 where id = 4;
select segment, status, detail from prints.refresh();
update prints.source set id = null where id = 900000;
select * from prints.refresh();
-- Others come in place of everybody, and leave.
update prints.source set id = id + 1000000;
select * from prints.refresh();
update segmenter_segments set guards = '{"allow_empty": true}' where table_name::text like 'prints.%';
delete from prints.source;
select * from prints.refresh();

delete from segmenter_segments where table_name::text like 'prints.%';
delete from segmenter_log;
set client_min_messages = warning;
drop schema prints cascade;
