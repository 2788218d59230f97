-- segmenter_explain and segmenter_timeline: why a person is in a segment or not, and what happened; the reason of each change.
\i setup/columns.sql
\set VERBOSITY terse
set client_min_messages = warning;
create schema explain;
create table explain.people (id int primary key, email text, city text, until timestamptz);
insert into explain.people select g, 'h' || g, 'Oslo' from generate_series(1, 5) g;
create table explain.blocked (id int primary key);
create function explain.segment(name text, query text, history boolean default true) returns void language sql as $$
    select segmenter_create_segment(name, query, null, 'explain.' || quote_ident(name), history)
$$;
select explain.segment('optouts', 'select id from explain.blocked');
select explain.segment('oslo', 'select id, email as hash_email from explain.people where city = ''Oslo''');
update segmenter_segments set exclude = '["optouts"]' where name = 'oslo';
select explain.segment('gold', 'select id from explain.people where id = 3 and city = ''Gold''');
select explain.segment('silver', 'select id from explain.people where id = 3');
update segmenter_segments set priority_group = 'metals', priority = case name when 'gold' then 1 else 2 end where name in ('gold', 'silver');
select segmenter_subscribe('explain crm', 'oslo', 'mail') is not null as subscribed;
create function explain.why(segment text, id text, at timestamptz default null) returns table (step text, verdict text, has_since boolean, detail text) language sql as $$
    select step, verdict, since is not null, regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'RUN', 'g') from segmenter_explain(segment, id, at)
$$;
create function explain.life(id text, what text default '%') returns table (event text, segment text, has_run boolean, reason text, detail text) language sql as $$
    select event, segment, run_id is not null, reason, regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'RUN', 'g') from segmenter_timeline(id) where event like what
$$;

-- Before anything is refreshed.
select * from explain.why('oslo', '1');
select * from explain.life('1');

-- Each reason, one by one.
select segment, status, added, removed, changed, excluded from segmenter_run("all" => true);
select segment, status from segmenter_refresh('optouts') union all select segment, status from segmenter_refresh('oslo') union all select segment, status from segmenter_refresh('gold') union all select segment, status from segmenter_refresh('silver');
select * from explain.why('oslo', '1');
update explain.people set email = 'changed' where id = 1;
insert into explain.people values (6, 'h6', 'Oslo');
update explain.people set city = 'Rome' where id = 5;
select status, added, removed, changed from segmenter_refresh('oslo');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, email as hash_email from explain.people where city = ''Oslo'' and id <> 4"}}' where name = 'oslo';
select status, added, removed, changed from segmenter_refresh('oslo');
select status, added, removed, changed from segmenter_refresh('oslo', 'select id, email as hash_email from explain.people where id <> 6');
select status, added, removed, changed from segmenter_refresh('oslo');
-- Put on the list, and taken off it.
insert into explain.blocked values (2);
select segment, status, added, detail from segmenter_refresh('optouts');
select * from explain.why('oslo', '2');
delete from explain.blocked;
select segment, status, removed from segmenter_refresh('optouts', force => true);
select status, added from segmenter_refresh('oslo');
-- A higher priority.
update explain.people set city = 'Gold' where id = 3;
select segment, status, added, detail from segmenter_refresh('gold');
select * from explain.why('silver', '3');
update explain.people set city = 'Oslo' where id = 3;
select segment, status, removed from segmenter_refresh('gold', force => true);
select status, added from segmenter_refresh('silver');
select * from explain.life('1', '%ed');
select * from explain.life('2');
select * from explain.life('3') where segment in ('gold', 'silver');
select * from explain.life('4') where event <> 'handed over';
select * from explain.life('5') where event <> 'handed over';
select * from explain.life('6');

-- In the same refresh: a list that was loaded by hand has gained a member, and the data has changed.
create table explain.manual (:columns);
create unique index on explain.manual (id);
insert into segmenter_segments (name, table_name, refresh_params) values ('by hand', 'explain.manual', '{}');
update segmenter_segments set exclude = '["optouts", "by hand"]' where name = 'oslo';
insert into explain.manual (segment_id, id) select id, '1' from segmenter_segments where name = 'by hand';
update explain.people set city = 'Rome' where id = 6;
select status, removed from segmenter_refresh('oslo');
select * from explain.life('1') where event in ('excluded', 'exited');
select * from explain.life('6') where event in ('excluded', 'exited') order by 1 limit 10;

-- The clock, in an incremental segment.
select segmenter_watch('explain.people');
select explain.segment('fresh', 'select id from explain.people where until > segmenter_now()');
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["explain.people"], "sql": "select p.id from explain.people p join changed using (id) where p.until > segmenter_now()", "expires": "select id from explain.people where until > $1 and until <= $2"}}' where name = 'fresh';
update explain.people set until = 'infinity' where id in (1, 2);
update explain.people set until = clock_timestamp() + interval '5 seconds' where id = 3;
select status, added from segmenter_refresh('fresh');
select * from explain.why('fresh', '1') where step in ('query', 'captured', 'reads');
update explain.people set until = null where id = 2;
select * from explain.why('fresh', '2') where step in ('query', 'captured');
select * from explain.why('fresh', 'none such') where step in ('query', 'captured', 'table');
select status, removed from segmenter_refresh('fresh');
select pg_sleep(greatest(extract(epoch from until - clock_timestamp()), 0) + 0.01) from explain.people where id = 3;
select status, removed from segmenter_refresh('fresh');
select * from explain.life('1') where segment = 'fresh';
select * from explain.life('2') where segment = 'fresh';
select * from explain.life('3') where segment = 'fresh';

-- Resync, and the end of an audience.
select segmenter_resync('explain crm', 'oslo', 'mail') > 0 as resynced;
update segmenter_subscriptions set actual_end = now() where target = 'mail';
select count(*) from segmenter_run("all" => true);
select * from explain.life('4') where event = 'handed over';
select * from explain.life('3') where event = 'handed over';
select action, reason, count(*) from segmenter_log where segment_name = 'oslo' and status = 'ok' group by 1, 2 order by 1, 2;

-- A segment that reads others, that gives an id twice or fails, and one that is waiting.
select explain.segment('both', 'select id from segmenter_members(''oslo'') union all select id from explain.fresh where actual_end = ''infinity''');
select * from explain.why('both', '2') where step in ('table', 'refresh', 'query', 'reads');
update segmenter_segments set refresh_params = '{"query": {"sql": "select 7 as id union all select 7"}}' where name = 'both';
select status from segmenter_refresh('both');
select * from explain.why('both', '7') where step in ('refresh', 'query');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from explain.nothing"}}' where name = 'both';
select * from explain.why('both', '7') where step = 'query';
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call explain.load()"}}', sources = '[{"table": "explain.people", "min_rows": 100}]' where name = 'both';
select status from segmenter_refresh('both');
select * from explain.why('both', '7') where step in ('refresh', 'query');

-- At a time in the past.
create table explain.times as select clock_timestamp() as at;
select pg_sleep(0.01);
update explain.people set city = 'Riga' where id = 2;
select status, removed from segmenter_refresh('oslo');
select * from explain.why('oslo', '2');
select step, verdict, has_since from explain.why('oslo', '2', (select at from explain.times));
select * from explain.why('oslo', '2', '2000-01-01');

-- Without the log the changes are there, and the runs are not known.
create table explain.log as select * from segmenter_log;
truncate segmenter_log;
select * from explain.life('2', 'e%') where segment = 'oslo';
select verdict, detail from explain.why('oslo', '2') where step in ('table', 'refresh');

-- The timeline is what successive looks at the table tell, for every kind of table.
create table explain.looks (n int, segment text, id text, member text);
create table explain.latest (:columns, city text);
create unique index on explain.latest (id);
insert into segmenter_segments (name, table_name, refresh_params) values ('latest', 'explain.latest', '{"query": {"sql": "select id, city from explain.people"}}');
update segmenter_segments set sources = '[]', refresh_params = '{"query": {"sql": "select id, email as hash_email from explain.people where city <> ''Riga''"}}' where name in ('oslo', 'both');
truncate explain.oslo, explain.both;
create function explain.look(n int) returns void language sql as $$
    insert into explain.looks
    select n, s.name, m.id, m.hash_email from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name in ('both', 'oslo') and m.actual_end = 'infinity'
$$;
select setseed(0.5);
create function explain.rounds(count int) returns void language plpgsql as $$
begin
    perform explain.look(0);
    for n in 1 .. count loop
        delete from explain.people where random() < 0.1;
        update explain.people set city = (array['Oslo', 'Rome', 'Riga'])[1 + floor(random() * 3)] where random() < 0.3;
        update explain.people set email = 'h' || floor(random() * 5) where random() < 0.3;
        insert into explain.people select floor(random() * 30) + 1, 'new', 'Oslo' from generate_series(1, 4) on conflict do nothing;
        perform r.status from unnest(array['both', 'oslo']) s (name), segmenter_refresh(s.name) r;
        perform explain.look(n);
    end loop;
end $$;
-- (The values are no hashes; how many members that says depends on the order of the rows.)
set client_min_messages = error;
select explain.rounds(20);
reset client_min_messages;
with looks as (
    select b.n, s.segment, i.id, f.member as before, t.member as after, f.id is not null as was, t.id is not null as is_now
    from generate_series(1, 20) b (n)
    cross join (values ('both'), ('oslo')) s (segment)
    cross join (select distinct id from explain.looks) i
    left join explain.looks f on f.n = b.n - 1 and f.segment = s.segment and f.id = i.id
    left join explain.looks t on t.n = b.n and t.segment = s.segment and t.id = i.id
), expected as (
    select segment, id, case when was and is_now then 'changed' when was then 'exited' else 'entered' end as event,
        row_number() over (partition by segment, id order by n) as place
    from looks
    where was <> is_now or (was and is_now and before is distinct from after)
), told as (
    select t.segment, i.id, t.event, row_number() over (partition by t.segment, i.id order by t.at) as place
    from (select distinct id from explain.looks) i, segmenter_timeline(i.id) t
    where t.segment in ('both', 'oslo') and t.event <> 'handed over'
)
select
    (select count(*) from (select * from expected except all select * from told) d) as missing,
    (select count(*) from (select * from told except all select * from expected) d) as invented,
    (select count(*) > 100 from expected) as many;
select distinct reason from (select distinct id from explain.looks) i, segmenter_timeline(i.id) t where t.segment in ('both', 'oslo') and t.event <> 'handed over' and t.at > (select at from explain.times) order by 1;
select segmenter_unwatch('explain.people');

-- A list that compares by hashes: those that the query gives, or that the table had at the time.
create table explain.outs (id text primary key, email text);
create table explain.recipients (id text primary key, email text);
insert into explain.outs values ('o1', 'x');
insert into explain.recipients values ('r1', 'x'), ('r2', 'y'), ('r3', 'z');
create table explain.moments (name text primary key, at timestamptz);
create function explain.mark(name text) returns void language sql as $$ insert into explain.moments values (name, clock_timestamp()) $$;
select explain.segment('mailouts', 'select id, email as hash_email from explain.outs');
select explain.segment('mailed', 'select id, email as hash_email from explain.recipients');
select explain.segment('mailed last', 'select id, email as hash_email from explain.recipients', false);
update segmenter_segments set exclude = '[{"segment": "mailouts", "by": ["hash_email"]}]' where name in ('mailed', 'mailed last');
create function explain.barred(segment text, id text, moment text default null) returns table (verdict text, detail text) language sql as $$
    select verdict, detail from explain.why(segment, id, (select at from explain.moments m where m.name = moment)) where step = 'excluded'
$$;
select r.status, r.added from unnest(array['mailouts', 'mailed', 'mailed last']) s (name), segmenter_refresh(s.name) r;
select explain.mark('loaded');
select * from explain.barred('mailed', 'r1');
select * from explain.barred('mailed', 'r1', 'loaded');
select * from explain.barred('mailed', 'r2');
insert into explain.outs values ('o2', 'y');
select status, added from segmenter_refresh('mailouts');
select explain.mark('gained');
delete from explain.recipients where id in ('r1', 'r2');
select * from explain.barred('mailed', 'r1');
select * from explain.barred('mailed', 'r2');
select * from explain.barred('mailed', 'r3');
insert into explain.recipients values ('r2', 'new');
update explain.recipients set email = 'w' where id = 'r3';
select r.status, r.added, r.changed from unnest(array['mailed', 'mailed last']) s (name), segmenter_refresh(s.name) r;
select n.segment, i.id, m.name as moment, b.*
from unnest(array['mailed', 'mailed last']) n (segment), unnest(array['r2', 'r3']) i (id),
    (select name from explain.moments union all select null) m, explain.barred(n.segment, i.id, m.name) b
order by n.segment, i.id, m.name desc;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call explain.load()"}}' where name = 'mailed';
insert into explain.outs values ('o3', 'w');
select status, added from segmenter_refresh('mailouts');
select * from explain.barred('mailed', 'r1');
select * from explain.barred('mailed', 'r2');
select * from explain.barred('mailed', 'r3');
-- Columns of a former member that were cleared are not known.
update explain.mailed set hash_email = null where id = 'r3' and actual_end <> 'infinity';
select * from explain.barred('mailed', 'r3');

-- The conditions of hand-overs are those that were used.
update segmenter_segments set exclude = '[]' where name = 'mailed last';
select segmenter_subscribe('explain crm', 'mailed last', 'news', params => '{"where": "id <> ''first''"}') is not null as subscribed;
select status from segmenter_refresh('mailed last');
update segmenter_subscriptions set params = jsonb_build_object('where', 'id <> ''' || repeat('ü', 200) || '''') where target = 'news';
select status, messages from segmenter_refresh('mailed last');
update segmenter_subscriptions set params = '{"where": "id = ''r3''", "min_members": 2}' where target = 'news';
select status, messages from segmenter_refresh('mailed last');
select * from explain.life('r3', 'handed over');
select verdict, detail from explain.why('mailed last', 'r3') where step = 'delivered';

-- Of a person that was erased nothing is left to be told.
select count(*) > 0 as was_there from segmenter_timeline('1');
select count(*) > 0 as erased from segmenter_erase('1');
select * from segmenter_timeline('1');
select distinct action, reason from segmenter_log where action = 'erase';
select count(*) > 0 as erased from segmenter_erase('3', keep_out => true);
select * from explain.life('3');
select * from explain.why('oslo', '3') where step = 'excluded';
select segmenter_readmit('3');
select * from explain.life('3');

-- Rights: members, queries and reasons of roles that the caller may not act as are not shown.
create role explain_owner;
create role explain_reader;
grant usage on schema explain to explain_owner, explain_reader;
grant select, insert, update on explain.oslo to explain_owner;
grant select on explain.people to explain_owner;
grant select on explain.oslo to explain_reader;
update segmenter_segments set exclude = '[]' where name = 'oslo';
update segmenter_segments set owner = 'explain_owner' where name = 'oslo';
set role explain_reader;
select * from segmenter_explain('oslo', '2');
select count(*) from segmenter_timeline('2');
set role explain_owner;
select distinct segment from segmenter_timeline('2');
select step, verdict from segmenter_explain('oslo', '2');
select * from segmenter_explain('silver', '2');
reset role;
-- Since when a suppression list has a person is for roles that see the list's members: by their grants, and by policies.
create table explain.kept_from (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, is_suppression, refresh_params)
values ('kept from', 'explain.kept_from', true, '{"query": {"sql": "select ''2'' as id"}}');
select status from segmenter_refresh('kept from');
set role explain_owner;
select verdict, detail, since is not null as is_told from segmenter_explain('oslo', '2') where step = 'excluded';
reset role;
grant select on explain.kept_from to explain_owner;
set role explain_owner;
select verdict, detail, since is not null as is_told from segmenter_explain('oslo', '2') where step = 'excluded';
reset role;
alter table explain.kept_from enable row level security;
set role explain_owner;
select verdict, detail, since is not null as is_told from segmenter_explain('oslo', '2') where step = 'excluded';
reset role;
update segmenter_segments set is_suppression = false where name = 'kept from';
delete from segmenter_segments where name = 'kept from';
revoke select on explain.oslo from explain_owner;
set role explain_owner;
select * from segmenter_explain('oslo', '2');
select count(*) from segmenter_timeline('2');
reset role;
\set VERBOSITY default
select * from segmenter_explain('nobody', '2');
select * from segmenter_explain('oslo', null);
select * from segmenter_timeline(null);
select * from segmenter_explain('silver', '2', 'infinity');
select * from segmenter_explain('silver', '2', '-infinity');

delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_outbox;
delete from segmenter_log;
delete from segmenter_kept_out;
set client_min_messages = error;
drop schema explain cascade;
drop role explain_owner, explain_reader;
