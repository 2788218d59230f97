-- where in the params of a subscription: its audience are the members for whom the condition is true.
\i setup/columns.sql
create schema filter;
create domain filter.level as text check (value <> '');
create table filter.people (id int primary key, email text, city text, points int, level text);
insert into filter.people select g, 'e' || g, case g % 3 when 0 then 'Oslo' when 1 then 'Rome' end, g, case when g % 2 = 0 then 'gold' else 'tin' end from generate_series(1, 12) g;
create table filter.members (:columns, city text collate "C", points int, level filter.level, note text, code text generated always as (upper(city)) stored);
create unique index on filter.members (id) where actual_end = 'infinity';
insert into segmenter_segments (name, table_name, refresh_params)
values ('filtered', 'filter.members', '{"query": {"sql": "select id, email as hash_email, city, points, level from filter.people"}}');
insert into segmenter_consumers (name) values ('filter');
create function filter.subscribe(target text, params jsonb) returns void language sql as $$
    insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
    select c.id, s.id, $1, $2 from segmenter_consumers c, segmenter_segments s where c.name = 'filter' and s.name = 'filtered'
$$;
-- The messages of a target since the last look, and what they make of its audience.
create table filter.seen (target text primary key, through bigint not null default 0, members jsonb not null default '{}');
create function filter.messages() returns table (target text, operation text, members text) language plpgsql as $$
declare
    message record;
begin
    for message in
        select u.target, o.* from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
        join segmenter_segments s on s.id = u.segment_id and s.name = 'filtered'
        where o.id > coalesce((select s.through from filter.seen s where s.target = u.target), 0) order by u.target, o.id
    loop
        insert into filter.seen values (message.target) on conflict do nothing;
        update filter.seen s set through = message.id,
            members = case when message.operation in ('create', 'replace') and message.part = 1 or message.operation = 'delete' then '{}' else s.members end
        where s.target = message.target;
        update filter.seen s set members = case
            when message.operation = 'remove' then s.members - array(select m ->> 'id' from jsonb_array_elements(message.payload -> 'members') m)
            else s.members || coalesce((select jsonb_object_agg(m ->> 'id', m) from jsonb_array_elements(message.payload -> 'members') m), '{}') end
        where s.target = message.target;
        target := message.target; operation := message.operation;
        members := (select string_agg(m ->> 'id' || coalesce(':' || (m ->> 'city'), ''), ' ' order by (m ->> 'id')::int) from jsonb_array_elements(message.payload -> 'members') m);
        return next;
    end loop;
end $$;
-- What the audience has to be, as a query gives it.
create function filter.wrong() returns table (target text, has text, should_have text) language plpgsql as $$
declare
    subscription record; wanted text; held text;
begin
    for subscription in select u.* from segmenter_subscriptions u join segmenter_segments s on s.id = u.segment_id and s.name = 'filtered' where u.actual_end = 'infinity' loop
        execute format('select string_agg(id || coalesce('':'' || city, ''''), '' '' order by id::int) from only filter.members where actual_end = ''infinity'' and (%s
)',
            coalesce(subscription.params ->> 'where', 'true')) into wanted;
        held := (select string_agg(m.key || coalesce(':' || (m.value ->> 'city'), ''), ' ' order by m.key::int) from filter.seen s, jsonb_each(s.members) m where s.target = subscription.target);
        if held is distinct from wanted then
            target := subscription.target; has := held; should_have := wanted;
            return next;
        end if;
    end loop;
end $$;

select filter.subscribe('all', '{"fields": ["id", "city"]}');
select filter.subscribe('oslo', '{"fields": ["id", "city"], "where": "city = ''Oslo''"}');
select filter.subscribe('rich', '{"fields": ["id", "city"], "where": "points > 6 and level <> ''tin'' -- or not", "batch_size": 2}');
select filter.subscribe('known', '{"fields": ["id", "city"], "where": "not (city is null)", "mode": "replace"}');
select filter.subscribe('half', '{"fields": ["id", "city"], "where": "segmenter_bucket(id, ''spring'', 2) = 0"}');
select filter.subscribe('code', '{"fields": ["id", "city"], "where": "code = ''ROME'' or id in (''2'', ''5'')"}');
select status, added, messages from segmenter_refresh('filtered');
select * from filter.messages();
select * from filter.wrong();

-- A change brings a member in or out, or changes it, or nothing. Null is not true.
update filter.people set city = 'Oslo' where id = 1;
update filter.people set city = null where id in (3, 4);
update filter.people set points = 100 where id = 2;
update filter.people set points = 101 where id = 12;
update filter.people set points = 0, city = 'Rome' where id = 10;
delete from filter.people where id in (6, 7);
insert into filter.people values (13, 'e13', 'Oslo', 13, 'gold'), (14, 'e14', null, 14, 'tin');
select status, added, removed, changed, messages from segmenter_refresh('filtered', dry_run => true);
select status, added, removed, changed, messages from segmenter_refresh('filtered');
select * from filter.messages();
select * from filter.wrong();
select u.target, h.members, h.filter from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id
where u.target in (select s.target from filter.seen s) order by u.target;
-- Nothing.
select status, messages from segmenter_refresh('filtered');
select * from filter.messages();

-- Another filter: all its members.
update segmenter_subscriptions set params = params || '{"where": "city = ''Rome''"}' where target = 'oslo';
update segmenter_subscriptions set params = params || '{"where": "segmenter_bucket(id, ''summer'', 2) = 0"}' where target = 'half';
update segmenter_subscriptions set params = params - 'where' where target = 'rich';
update segmenter_subscriptions set params = params || '{"where": "points > 5"}' where target = 'all';
select segment, status, messages from segmenter_run() where segment = 'filtered';
select * from filter.messages();
select * from filter.wrong();
select segment, status, messages from segmenter_run() where segment = 'filtered';

-- Rows that were changed by hand, a resync.
update filter.members set city = 'Rome' where id = '13' and actual_end = 'infinity';
delete from filter.members where id = '2' and actual_end = 'infinity';
select status, added, removed, changed, detail from segmenter_refresh('filtered');
select target, operation from filter.messages();
select * from filter.wrong();
select segmenter_resync('filter', 'filtered', 'oslo');
select target, operation from filter.messages();
select * from filter.wrong();

-- The delta of a one-off query does not have the columns: all members.
select status, added, removed, changed from segmenter_refresh('filtered', 'select id from filter.people where id < 9');
select * from filter.messages();
select * from filter.wrong();
select status from segmenter_refresh('filtered');
select target, operation from filter.messages();
select * from filter.wrong();
-- So does that of a refresher which does not give a column that the filter uses: it may be changed by hand.
update segmenter_subscriptions set params = params || '{"where": "note is null"}' where target = 'half';
select segment, messages from segmenter_run() where segment = 'filtered';
update filter.members set note = 'call' where id = '1' and actual_end = 'infinity';
update filter.people set points = 11 where id = 1;
select status from segmenter_refresh('filtered');
select * from filter.messages();
select * from filter.wrong();
alter table filter.members add note_code text generated always as (upper(note)) stored;
update segmenter_subscriptions set params = params || '{"where": "note_code is null"}' where target = 'half';
select segment, messages from segmenter_run() where segment = 'filtered';
update filter.members set note = null where id = '1' and actual_end = 'infinity';
update filter.people set points = 12 where id = 1;
select status from segmenter_refresh('filtered');
select target, operation from filter.messages() where target = 'half';
select * from filter.wrong();
alter table filter.members drop column note_code;
-- A type means another filter.
update segmenter_subscriptions set params = params || '{"where": "points < ''9''"}' where target = 'half';
select segment, messages from segmenter_run() where segment = 'filtered';
alter table filter.people alter points type text;
alter table filter.members alter points type text;
select status from segmenter_refresh('filtered');
select target, operation from filter.messages() where target = 'half';
select * from filter.wrong();
alter table filter.people alter points type int using points::int;
alter table filter.members alter points type int using points::int;
select status from segmenter_refresh('filtered');
select count(*) > 0 as messages from filter.messages();
select * from filter.wrong();

-- A column that is gone, a value that cannot be evaluated: a failure with a name, of that subscription alone.
update segmenter_subscriptions set params = params || '{"where": "10 / points > 1"}' where target = 'half';
update segmenter_subscriptions set params = params || '{"where": "note is not null"}' where target = 'code';
select segment, status, messages, detail from segmenter_run() where segment = 'filtered';
select target, operation from filter.messages();
alter table filter.members drop column note;
update filter.people set city = 'Bergen' where id = 9;
select status, detail from segmenter_refresh('filtered');
select u.target, h.error, h.failed_filter from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id
where u.target in ('half', 'code') order by u.target;
select detail, hint from segmenter_doctor() where "check" = 'deliveries' and status <> 'ok';
select l.target, l.error ->> 'sqlstate' as sqlstate, l.error ->> 'message' as message, l.error ->> 'detail' as detail, l.error ->> 'hint' as hint
from segmenter_log l join segmenter_subscriptions u on u.id = l.subscription_id
where l.action = 'hand over' and l.status = 'failed' and u.target in ('half', 'code') order by l.id desc limit 2;
select target, operation from filter.messages();
update filter.people set points = 1 where points = 0;
update segmenter_subscriptions set params = params || '{"where": "code = ''ROME''"}' where target = 'code';
select status, detail from segmenter_refresh('filtered');
select target, operation from filter.messages();
select * from filter.wrong();
-- A generated column follows those that it is generated from.
update filter.people set city = 'Rome' where id = 3;
update filter.people set city = 'Oslo' where id in (4, 10);
select status, detail from segmenter_refresh('filtered');
select * from filter.messages() where target = 'code';
select * from filter.wrong();

-- Somebody who is erased is removed where the filter is true.
select segment, rows, messages from segmenter_erase('9');
select * from filter.messages();
select segment, rows, messages from segmenter_erase('1');
select * from filter.messages();
select * from filter.wrong();
delete from filter.people where id in (1, 9);
select status from segmenter_refresh('filtered');
select target, operation from filter.messages();

-- Many members, in little memory.
set work_mem = '64kB';
update segmenter_subscriptions set params = params || '{"batch_size": 1500}' where target = 'rich';
insert into filter.people select g, 'e' || g, case g % 3 when 0 then 'Oslo' when 1 then 'Rome' end, g, 'tin' from generate_series(1001, 3000) g;
update segmenter_subscriptions set params = params || '{"where": "city = ''Rome'' or code is null"}' where target = 'code';
select status, added from segmenter_refresh('filtered');
update filter.people set city = case city when 'Rome' then 'Oslo' else 'Rome' end where id > 1000;
select status, changed from segmenter_refresh('filtered');
select target, operation, count(*) > 1 as are_many from filter.messages() group by target, operation order by target, operation;
select * from filter.wrong();
delete from filter.people where id > 1000;
select status, removed from segmenter_refresh('filtered');
select target, operation, count(*) > 1 as are_many from filter.messages() group by target, operation order by target, operation;
select * from filter.wrong();
reset work_mem;

-- What is no condition on columns alone is refused when it is written.
create function filter.stable(text) returns boolean language sql stable as 'select true';
create function filter.volatile(text) returns boolean language sql as 'select true';
create function filter.immutable(text) returns boolean language sql immutable as 'select $1 is not null';
create function filter.differ(text, text) returns boolean language sql as 'select $1 <> $2';
create operator filter.=== (leftarg = text, rightarg = text, function = filter.differ);
create type filter.pair as (level filter.level, since timestamptz);
create type filter.deep as (pairs filter.pair[], points int);
create type filter.plain as (city text, points int);
create domain filter.short as int check (filter.volatile(value::text));
create type filter.shorts as range (subtype = filter.short);
create domain filter.pairs as filter.pair[];
create type filter.mood as enum ('sad', 'glad');
create function filter.refused(condition text) returns table (code text, message text, detail text, hint text) language plpgsql as $$
begin
    update segmenter_subscriptions set params = params || jsonb_build_object('where', condition) where target = 'code';
    code := 'accepted';
    return next;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    return next;
end $$;
\pset format unaligned
select c as condition, r.* from unnest(array[
    'now() > ''2026-01-01''', 'city < current_date::text', 'random() < 0.5', 'current_user = ''postgres''', '''now''::timestamptz > ''2026-01-01''',
    'filter.stable(city)', 'filter.volatile(city)', 'city operator(filter.===) ''x''', 'city::timestamptz > ''2026-01-01''', 'to_char(points, ''9'') = ''1''',
    'exists (select)', 'points > (select 1)', 'points in (select 1)', 'array(select 1) = array[1]',
    'count(*) > 1', 'bool_or(points > 1)', 'row_number() over () = 1', 'generate_series(1, 2) = 1', 'unnest(array[true, false])',
    'nothing = 1', 'members.city = ''Oslo''', 't.city = ''Oslo''', 'd.operation = ''a''', 'operation = ''a''', 'actual_begin < ''2026-01-01''', 'segment_id is not null', 'ctid = ''(0,1)''', 'tableoid = 1', 'xmin is null',
    'member is not null', 'to_jsonb(member) ? ''id''', 'filter.immutable(member::text)',
    'points', 'city', '''true''', 'null', '1, 2', 'true as x', 'true x', '*', 'true from filter.people', 'true where true', 'true order by 1', 'true limit 1', 'true for update', 'distinct true', 'true union select true',
    'true) or (true', 'true)', '(true', 'true; drop table filter.people', 'true; --', ') as is_in from filter.people; --', '/* true', 'true /*', '''', '$1', '$1 = city', ':x', '', ' ', '--', '-- true', 'select true', 'true group by 1', 'true having true',
    'id || points = city', 'points || id = city', 'city = any (array[id || points])', 'city::filter.level = ''gold''', '''{gold}''::filter.level[] = null', 'array[level, ''gold''::filter.level] is null', 'array[city]::filter.level[] is null', 'null::filter.level[] is null',
    '''(gold,)''::filter.pair is null', 'row(city, null)::filter.pair is null', '''{"(gold,)"}''::filter.pair[] is null', '''({},1)''::filter.deep is null', '''[1,2)''::filter.shorts is null', '''{[1,2)}''::filter.shorts_multirange is null', '''{}''::filter.pairs is null',
    '''{now}''::timestamptz[] is null', '''[now,)''::tstzrange is null', '''{[now,)}''::tstzmultirange is null', '$$now$$::timestamptz is null', 'timestamptz $x$today$x$ is null', E'E''\\x6eow''::date is null', E'''no''\n''w''::date is null', 'date ''tomorrow'' is null',
    'filter.nowhere(city)', 'immutable(city)', 'nextval(''x'') = 1', 'points = any (current_schemas(true)::text[]::int[])',
    'points + 1 = ''x''', 'city like 5', 'case when points > 1 then 1 end', 'default', 'set_config(''role'', ''postgres'', true) = ''''', 'pg_sleep(1) is null', 'pg_read_file(''x'') is null'
]) with ordinality u (c, n), filter.refused(c) r order by n;
-- These are accepted.
select c as condition, r.code, r.message from unnest(array[
    'true', '(true)', 'true -- )', '/* ) */ true', E'city = ''Oslo''\nor points > 3', 'filter.immutable(city)', 'segmenter_bucket(id) >= 0 or true', 'points between 1 and 5', 'city ~ ''^O''', 'level in (''gold'', ''tin'')',
    'city collate "C" < ''Z''', 'row(city, points) is not null', 'hash_email like ''e%''', 'lower(city) = ''oslo''', 'points::bigint > 0', 'date ''2026-01-01'' < date ''2026-02-01''', 'greatest(points, 5) > 4', 'coalesce(points, 0) > 0', 'points = any (''{1,2}'')',
    'member.city = ''Oslo''', 'city is distinct from ''x''', 'id || points::text = city',
    'level = any (''{gold,tin}'')', 'array[level, ''gold''] is not null', '(city, points) = (''Oslo'', 1)', '''(Oslo,1)''::filter.plain is not null', 'row(city, points)::filter.plain is not null', '''sad''::filter.mood < ''glad''', '''[2026-01-01,2026-02-01)''::daterange is not null', '''{2026-01-01}''::date[] is not null'
]) with ordinality u (c, n), filter.refused(c) r order by n;
-- One that is too long.
select code, message, hint from filter.refused('city <> ' || quote_literal(repeat('x', 10000)));
select code from filter.refused('city <> ' || quote_literal(repeat('x', 9990)));
\pset format aligned

-- It is evaluated with the rights of the segment's owner, restricted, not of those who own the table and refresh.
create role sgm_filter login;
grant usage on schema filter to sgm_filter;
grant select, insert, update on filter.members to sgm_filter;
grant select on filter.people to sgm_filter;
create function filter.spy(text) returns boolean language plpgsql immutable as $$
begin
    raise notice 'as %', current_user;
    begin
        perform pg_catalog.set_config('role', 'none', false);
        raise notice 'not restricted';
    exception when insufficient_privilege then null;
    end;
    return true;
end $$;
update segmenter_segments set owner = 'sgm_filter' where name = 'filtered';
update segmenter_subscriptions set params = '{"where": "id = ''5'' and filter.spy(city)", "fields": ["id", "city"]}' where target = 'code';
select segment, messages from segmenter_run() where segment = 'filtered';
select * from filter.messages();
update filter.people set city = 'Turin' where id = 5;
select status, changed from segmenter_refresh('filtered');
select * from filter.messages() where target = 'code';
-- What its owner may not call, and may not read.
revoke execute on function filter.spy from public;
update segmenter_subscriptions set params = params || '{"where": "filter.spy(city)"}' where target = 'code';
update segmenter_subscriptions set params = params || '{"where": "pg_catalog.pg_read_file(city) is null"}' where target = 'code';
-- Its functions may lie, and write nothing.
create function filter.writes(text) returns boolean language sql immutable as $$ insert into filter.people values (99) returning true $$;
create function filter.writes_too(text) returns boolean language plpgsql immutable as $$ begin insert into filter.people values (99); return true; end $$;
grant insert on filter.people to sgm_filter;
update segmenter_subscriptions set params = params || '{"where": "filter.writes_too(city)"}' where target = 'code';
select segment, status, detail from segmenter_run() where segment = 'filtered';
select error from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id where u.target = 'code';
select count(*) from filter.people where id = 99;
-- Those who may write neither the segment nor its subscriptions.
set role sgm_filter;
update segmenter_subscriptions set params = params || '{"where": "city = ''Turin''"}' where target = 'code';
reset role;
update segmenter_consumers set subscribers = '{sgm_filter}' where name = 'filter';
set role sgm_filter;
update segmenter_subscriptions set params = params || '{"where": "filter.spy(city)"}' where target = 'code';
update segmenter_subscriptions set params = params || '{"where": "city = ''Turin''"}' where target = 'code';
reset role;
create role sgm_filter_other login;
set role sgm_filter_other;
update segmenter_subscriptions set params = params || '{"where": "true"}' where target = 'code';
insert into segmenter_subscriptions (consumer_id, segment_id, target, params) values (gen_random_uuid(), gen_random_uuid(), 'x', '{"where": "true"}');
reset role;
select params ->> 'where' as condition from segmenter_subscriptions where target = 'code';

\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name = 'filtered');
delete from segmenter_segments where name = 'filtered';
delete from segmenter_log where segment_name = 'filtered';
delete from segmenter_consumers where name = 'filter';
drop schema filter cascade;
drop owned by sgm_filter, sgm_filter_other cascade;
drop role sgm_filter, sgm_filter_other;
