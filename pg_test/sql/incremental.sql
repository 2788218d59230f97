-- The incremental refresher: only ids that may have changed are looked at.
\i setup/schema.sql
\i setup/columns.sql
create schema incr;
create table incr.people (id int primary key, email text, updated_at timestamptz not null default now(), is_left boolean not null default false);
create table incr.latest (:columns, unique (id));
insert into incr.people select g, 'e' || g from generate_series(1, 6) g;
insert into segmenter_segments (name, table_name, refresh_params) values ('incr', 'incr.latest', '{"incremental": {
    "changed": "select id from incr.people where updated_at > $1",
    "sql": "select id, p.email as hash_email from incr.people p join changed using (id) where not p.is_left"}}');

-- What a refresh did, and what it looked at. Which ids have changed is said where the segment's query for
-- them names them; by a time they are at least those.
create function incr.refresh(name text default 'incr', query text default null, dry_run boolean default false, force boolean default false, is_full boolean default false)
returns table (status text, added bigint, removed bigint, changed bigint, coverage bigint, detail text, pass text, reason text, missed int)
language plpgsql as $$
begin
    select r.status, r.added, r.removed, r.changed, r.coverage, r.detail into status, added, removed, changed, coverage, detail
    from segmenter_refresh(name, query, dry_run, force, is_full) r;
    if not dry_run then
        select l.params #>> '{incremental,pass}', l.params #>> '{incremental,reason}', l.params #>> '{incremental,missed}' into pass, reason, missed
        from segmenter_log l where l.segment_name = name order by l.id desc limit 1;
    end if;
    return next;
end
$$;
-- Has the segment go by another query for ids, or another for members.
create function incr.configure(changed text, sql text default 'select id, p.email as hash_email from incr.people p join changed using (id) where not p.is_left')
returns void language sql as $$
    update segmenter_segments set refresh_params = jsonb_build_object('incremental', jsonb_build_object('changed', changed, 'sql', sql)) where name = 'incr'
$$;
create function incr.members(name text default 'incr') returns text language sql as $$
    select string_agg(m.id || coalesce(' ' || m.hash_email, ''), ', ' order by m.id collate "C")
    from segmenter m join segmenter_segments s on s.id = m.segment_id
    where s.name = members.name and m.actual_end = 'infinity'
$$;

-- The first pass looks at all ids, the next ones at what has changed.
select * from incr.refresh();
select * from incr.refresh();
update incr.people set email = 'new', updated_at = now() where id = 1;
update incr.people set is_left = true, updated_at = now() where id = 2;
insert into incr.people values (7, 'e7');
select * from incr.refresh(dry_run => true);
select * from incr.refresh();
select incr.members();
-- Who has not changed is not looked at; a full pass does, and says what it found.
update incr.people set email = 'silent' where id = 3;
select * from incr.refresh();
update incr.people set email = 'silent' where id = 4;
delete from incr.people where id = 5;
select * from incr.refresh(dry_run => true, is_full => true);
select * from incr.refresh(is_full => true);
select * from incr.refresh(is_full => true);
select * from incr.refresh();
-- One back, and one as he was.
update incr.people set is_left = false, updated_at = now() where id = 2;
update incr.people set updated_at = now() where id = 1;
select * from incr.refresh();
select incr.members();
select count(*) as rows, count(distinct id) as ids from incr.latest;

-- A full pass also looks at members that the query for ids has forgotten.
select incr.configure('select id from incr.people where updated_at > $1 and id <> 1');
update incr.people set email = 'forgotten' where id = 1;
select * from incr.refresh();
select incr.members();

-- Listed twice, null, unknown, and outside of what has changed.
select incr.configure('select * from (values (1), (1), (2), (null), (99)) v (id) where $1 is not null');
select * from incr.refresh();
update incr.people set email = 'x';
select * from incr.refresh();
select params #> '{incremental,ids}' as ids, num_received, num_invalid from segmenter_log where segment_name = 'incr' order by id desc limit 1;
select incr.members();
select incr.configure('select 3 as id where $1 is not null', 'select id, email as hash_email from incr.people where not is_left and exists (select from changed)');
select * from incr.refresh();
update incr.people set email = 'y';
select * from incr.refresh();
select params #> '{incremental,ids}' as ids, num_received, num_invalid from segmenter_log where segment_name = 'incr' order by id desc limit 1;
select incr.members();
select incr.configure('select 3 as id where $1 is not null', 'select case when p.id = 3 then p.id end as id from incr.people p left join changed using (id)');
select * from incr.refresh(force => true);
-- Duplicates, of those that have changed and of others.
select incr.configure('select id from incr.people where updated_at > $1');
select * from incr.refresh();
select incr.configure('select id from incr.people where id in (1, 2) and $1 is not null', 'select p.id from incr.people p join changed using (id) cross join generate_series(1, 2)');
select * from incr.refresh();
create table incr.twice (n int);
insert into incr.twice values (1);
select incr.configure('select id from incr.people where id in (1, 2) and $1 is not null', 'select p.id, p.email as hash_email from incr.people p join changed using (id) cross join incr.twice');
select * from incr.refresh(force => true);
insert into incr.twice values (2);
select * from incr.refresh();
select incr.configure('select 1 as id where $1 is not null', 'select p.id from incr.people p cross join incr.twice');
truncate incr.twice;
insert into incr.twice values (1);
select * from incr.refresh(force => true);
insert into incr.twice values (2);
select * from incr.refresh();
select incr.configure('select id from incr.people where updated_at > $1');
select * from incr.refresh(force => true);

-- Queries for ids that are none: each says what is wrong, and leaves the segment as it was.
create function incr.writes() returns int language sql as $$ insert into incr.twice values (3) returning n $$;
set client_min_messages = error;
create function incr.wrong(changed text, sql text default 'select id from incr.people p join changed using (id)')
returns table (status text, detail text, hint text) language plpgsql as $$
begin
    perform incr.configure(changed, sql);
    select r.status, r.detail into status, detail from segmenter_refresh('incr') r;
    select l.error ->> 'hint' into hint from segmenter_log l where l.segment_name = 'incr' order by l.id desc limit 1;
    return next;
end
$$;
select * from incr.wrong('delete from incr.people returning id');
select * from incr.wrong('with d as (delete from incr.people returning id) select id from d');
select * from incr.wrong('select id from incr.people for update');
select * from incr.wrong('select incr.writes() as id');
select * from incr.wrong('select 1 as number');
select * from incr.wrong('select updated_at > $1 from incr.people');
select * from incr.wrong('select id from incr.people; select 1 as id');
select * from incr.wrong('');
select * from incr.wrong('select id from incr.peple');
select * from incr.wrong('selec id');
select * from incr.wrong('select id from incr.people where updated_at > $2');
select * from incr.wrong('select id from incr.people where id > $1');
select * from incr.wrong('select updated_at as id from incr.people where updated_at > $1');
select * from incr.wrong('select row(id) as id from incr.people');
select * from incr.wrong('select point(id, id) as id from incr.people');
select * from incr.wrong('select id from changed');
select * from incr.wrong('values (1)');
select * from incr.wrong('select id as "ID" from incr.people');
-- And queries for members.
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select 1');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select id, updated_at from incr.people join changed using (id)');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select id from incr.people join changd using (id)');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select id from incr.people p join changed using (ident)');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select id from incr.people where updated_at > $1');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'delete from incr.people returning id');
select * from incr.wrong('select id from incr.people where updated_at > $1', 'select id from changed; select 1');
reset client_min_messages;
select incr.members();
-- One that does not read changed gives what it gives: those who have not changed are left out.
select incr.configure('select id from incr.people where id < 4 and $1 is not null', 'select id, email as hash_email from incr.people');
select * from incr.refresh();
update incr.people set email = 'z';
select * from incr.refresh();
select incr.members();

-- Only a refresh that was made gets further.
select incr.configure('select id from incr.people where updated_at > $1');
select * from incr.refresh();
create function incr.watermark() returns timestamptz language sql as $$
    select (params #>> '{incremental,watermark}')::timestamptz from segmenter_log where segment_name = 'incr' and status = 'ok' order by id desc limit 1
$$;
create table incr.mark as select incr.watermark();
update segmenter_segments set guards = '{"max_removed": 1}' where name = 'incr';
update incr.people set is_left = true, updated_at = now() where id in (1, 2);
select status, added, removed, changed, coverage, pass from incr.refresh();
select params -> 'incremental' is null as no_position from segmenter_log where segment_name = 'incr' order by id desc limit 1;
select * from incr.refresh(dry_run => true, force => true);
select watermark = incr.watermark() as stays from incr.mark;
select * from incr.refresh(force => true);
select watermark < incr.watermark() as moves from incr.mark;
update segmenter_segments set guards = '{}' where name = 'incr';
-- At a snapshot that is kept it stays where it was.
delete from incr.mark;
insert into incr.mark select incr.watermark();
begin isolation level repeatable read;
select * from incr.refresh();
select watermark = incr.watermark() as stays from incr.mark;
commit;
update incr.people set is_left = false, updated_at = now() where id = 1;
select * from incr.refresh();
-- What a transaction writes after a refresh of its own is found by the next one.
begin;
update incr.people set email = 'before', updated_at = now() where id = 1;
select * from incr.refresh();
update incr.people set email = 'after', updated_at = now() where id = 1;
commit;
select * from incr.refresh();

-- Where there is nothing to go on from, all ids are looked at: another config, a one-off query, a table
-- that was emptied, members that were erased are no such reason.
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,full_cron}', '"@yearly"') where name = 'incr';
select * from incr.refresh();
select * from incr.refresh();
select * from incr.refresh(query => 'select 1 as id, ''one-off'' as hash_email');
select * from incr.refresh();
truncate incr.latest;
select * from incr.refresh();
select status, coverage, pass, reason from incr.refresh();
select status as erased from segmenter_erase('1');
select * from incr.refresh();
update incr.people set updated_at = now() where id = 3;
select * from incr.refresh();
select incr.members();
select count(*) from incr.latest where actual_end = 'infinity';
delete from incr.people where id = 1;
-- Emptied by what has changed.
update incr.people set is_left = true, updated_at = now();
select status, removed, coverage, detail from incr.refresh();
update segmenter_segments set guards = '{"allow_empty": true}' where name = 'incr';
select * from incr.refresh();
select * from incr.refresh();
update incr.people set is_left = false, updated_at = now();
select * from incr.refresh();
-- Erased from the segment, and not from its source: he is back once all ids are looked at.
select status as erased from segmenter_erase('2');
select * from incr.refresh();
select * from incr.refresh(is_full => true);
-- Another table is another one.
delete from incr.latest;
create table incr.other (like incr.latest including defaults, unique (id));
update segmenter_segments set table_name = 'incr.other' where name = 'incr';
select * from incr.refresh();
select * from incr.refresh();

-- full_cron: refused where it is no schedule; when it comes, the segment is due, and all ids are looked at.
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,full_cron}', '"soon"') where name = 'incr';
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,full_cron}', '5') where name = 'incr';
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,watch}', '["incr.people"]') where name = 'incr';
update segmenter_segments set refresh_params = refresh_params #- '{incremental,changed}' where name = 'incr';
update segmenter_segments set refresh_params = jsonb_set(refresh_params #- '{incremental,changed}', '{incremental,watch}', '[]') where name = 'incr';
update segmenter_segments set refresh_params = jsonb_set(refresh_params #- '{incremental,changed}', '{incremental,watch}', '[{"table": "incr.people", "ide": "id"}]') where name = 'incr';
update segmenter_segments set refresh_params = refresh_params #- '{incremental,sql}' where name = 'incr';
update segmenter_segments set refresh_params = jsonb_set(refresh_params, '{incremental,at}', '1') where name = 'incr';
update segmenter_segments
set refresh_auto = true, refresh_cron = '0 0 29 2 *', refresh_timezone = 'UTC',
    refresh_params = jsonb_set(refresh_params, '{incremental,full_cron}', '"1 seconds"')
where name = 'incr';
select * from incr.refresh();
select refresh_cron, next_refresh - last_refresh <= '2 seconds' as is_soon from segmenter_due() where segment = 'incr';
select segment, due from segmenter_due(now() + '2 seconds') where segment = 'incr';
select pg_sleep(1.1);
select * from incr.refresh();
update segmenter_segments set refresh_auto = false, refresh_cron = null, refresh_params = refresh_params #- '{incremental,full_cron}' where name = 'incr';
select * from incr.refresh();

-- Histories.
create table incr.history (like incr.latest including defaults, city text);
create unique index on incr.history (id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params) values ('incr history', 'incr.history', '{"incremental": {
    "changed": "select id from incr.people where updated_at > $1",
    "sql": "select id, p.email as hash_email, upper(p.email) as city from incr.people p join changed using (id) where not p.is_left"}}');
select * from incr.refresh('incr history');
update incr.people set email = 'v2', updated_at = now() where id = 2;
update incr.people set is_left = true, updated_at = now() where id = 3;
select * from incr.refresh('incr history');
update incr.people set is_left = false, updated_at = now() where id = 3;
select * from incr.refresh('incr history');
select id, hash_email, city, actual_end = 'infinity' as is_actual from incr.history order by id, actual_begin;
select * from incr.refresh('incr history', is_full => true);

-- Types of ids. Those that are equal and read otherwise are different members.
create table incr.numbers (id numeric, n int not null default 1);
create table incr.uuids (id uuid primary key, n int not null default 1);
create table incr.bigs (id bigint primary key, n int not null default 1);
create table incr.chars (id char(5) collate "C" primary key, n int not null default 1);
create domain incr.code as text check (value <> 'no');
create table incr.codes (id incr.code primary key, n int not null default 1);
create table incr.days (id date primary key, n int not null default 1);
create table incr.floats (id float8 primary key, n int not null default 1);
insert into incr.numbers values (1.0), (2), (3.50);
insert into incr.uuids select md5(g::text)::uuid from generate_series(1, 3) g;
insert into incr.bigs values (9223372036854775807), (-1);
insert into incr.chars values ('a'), ('bb');
insert into incr.codes values ('a'), ('A');
insert into incr.days values ('2026-02-01'), ('2026-12-31');
insert into incr.floats values (0.1), (1::float8 / 3);
create function incr.segment(source text, how jsonb) returns void language plpgsql as $$
begin
    execute format('create table incr.%I (like incr.latest including defaults, unique (id))', 's ' || source);
    insert into segmenter_segments (name, table_name, refresh_params)
    values (source, format('incr.%I', 's ' || source)::regclass, jsonb_build_object('incremental', how || jsonb_build_object(
        'sql', format('select id, n as hash_email from incr.%I join changed using (id)', source))));
end
$$;
select incr.segment(n.name, jsonb_build_object('watch', jsonb_build_array('incr.' || n.name))), segmenter_watch(('incr.' || n.name)::regclass)
from unnest(array['numbers', 'uuids', 'bigs', 'chars', 'codes', 'days', 'floats']) n (name);
select n.name, r.status, r.added, r.coverage, r.detail, r.pass
from unnest(array['numbers', 'uuids', 'bigs', 'chars', 'codes', 'days', 'floats']) n (name), incr.refresh(n.name) r;
set datestyle = 'SQL, DMY';
set extra_float_digits = 0;
set timezone = 'Pacific/Kiritimati';
update incr.numbers set id = 1, n = 2 where id = 1.0;
update incr.uuids set n = 2 where id = md5('1')::uuid;
delete from incr.uuids where id = md5('2')::uuid;
update incr.bigs set n = n + 1;
update incr.chars set n = 2 where id = 'a';
update incr.codes set n = 2 where id = 'A';
update incr.days set n = 2;
update incr.floats set n = 2;
select n.name, r.status, r.added, r.removed, r.changed, r.coverage, r.detail, r.pass
from unnest(array['numbers', 'uuids', 'bigs', 'chars', 'codes', 'days', 'floats']) n (name), incr.refresh(n.name) r;
select n.name, r.status, r.added, r.removed, r.changed, r.coverage, r.detail, r.missed
from unnest(array['numbers', 'uuids', 'bigs', 'chars', 'codes', 'days', 'floats']) n (name), incr.refresh(n.name, is_full => true) r;
reset datestyle;
reset extra_float_digits;
-- A time is a time in any zone.
update incr.people set email = 'kiritimati', updated_at = now() where id = 2;
select * from incr.refresh();
set timezone = 'Pacific/Midway';
update incr.people set email = 'midway', updated_at = now() where id = 2;
select * from incr.refresh();
reset timezone;

-- Members whose ids are not of the type of what has changed.
create table incr.mixed (like incr.latest including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values ('incr mixed', 'incr.mixed', '{"incremental": {
    "changed": "select id from incr.people where updated_at > $1",
    "sql": "select id from incr.people p join changed using (id)"}}');
select * from incr.refresh('incr mixed', 'select ''list'' || n as id from generate_series(1, 2) n');
select * from incr.refresh('incr mixed');
-- A one-off query of the ids that are to come is the way out.
select * from incr.refresh('incr mixed', 'select id from incr.people');
select * from incr.refresh('incr mixed');

-- Another owner may see other rows.
create role incr_owner;
grant usage on schema incr to incr_owner;
grant select on incr.people to incr_owner;
alter table incr.people enable row level security;
create policy few on incr.people using (id < 4);
alter table incr.history owner to incr_owner;
update segmenter_segments set owner = 'incr_owner' where name = 'incr history';
select * from incr.refresh('incr history');
select * from incr.refresh('incr history');
alter table incr.people disable row level security;

-- Hostile names, and relations of the names that we use.
create schema "incr;""x";
create table "incr;""x"."we;ird"".Name" ("i;d""" int primary key, "@changes@" text);
insert into "incr;""x"."we;ird"".Name" values (1, 'a'), (2, '$1'), (3, '@query@');
create table "incr;""x"."s;eg""" (like incr.latest including defaults, unique (id));
create table incr.changed (id int);
create table incr.segmenter_captured (number int, id text);
create table incr.segmenter_recent (id text);
create function incr.max(anyelement) returns anyelement language sql as $$ select $1 $$;
create operator incr.= (leftarg = text, rightarg = text, function = textne);
select segmenter_watch($$"incr;""x"."we;ird"".Name"$$, $$i;d"$$);
insert into segmenter_segments (name, table_name, refresh_params)
values ($$we;ird"".Incr$$, $$"incr;""x"."s;eg"""$$, jsonb_build_object('incremental', jsonb_build_object(
    'watch', jsonb_build_array(jsonb_build_object('table', $$"incr;""x"."we;ird"".Name"$$, 'id', $$i;d"$$)),
    'sql', $$select w."i;d""" as id, w."@changes@" as hash_email from "incr;""x"."we;ird"".Name" w join changed on changed.id = w."i;d""" /* @received@ $1 */$$)));
-- Operators and relations of the same names, found first.
set search_path = incr, :schema, public, pg_catalog;
select status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Incr$$);
update "incr;""x"."we;ird"".Name" set "@changes@" = 'b' where "i;d""" operator(pg_catalog.=) 1;
delete from "incr;""x"."we;ird"".Name" where "i;d""" operator(pg_catalog.=) 2;
select status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Incr$$);
select status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Incr$$, full => true);
update people set email = 'trap', updated_at = now() where id operator(pg_catalog.=) 2;
select status, added, removed, changed, coverage, detail from segmenter_refresh('incr');
select status, added, removed, changed, coverage, detail from segmenter_refresh('incr', full => true);
select segmenter_watch('people'), segmenter_watch('people'), segmenter_unwatch('people');
select segmenter_prune();
reset search_path;
select incr.members($$we;ird"".Incr$$);
select segment_name, params #> '{incremental,pass}' as pass, params #> '{incremental,missed}' as missed
from segmenter_log where segment_name in ('incr', $$we;ird"".Incr$$) order by id desc limit 5;

delete from segmenter_segments where name like 'incr%' or name in ('numbers', 'uuids', 'bigs', 'chars', 'codes', 'days', 'floats', $$we;ird"".Incr$$);
set client_min_messages = warning;
drop schema incr, "incr;""x" cascade;
drop role incr_owner;
