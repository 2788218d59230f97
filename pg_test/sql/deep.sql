-- Expressions that are nested more deeply than the stack allows: an error of what has them, and of nothing else.
\set VERBOSITY terse
\i setup/columns.sql
create schema deep;
create table deep.people (id int primary key);
insert into deep.people select generate_series(1, 3);
create view deep.chosen as select id, true as is_in from deep.people;
create table deep.members (:columns);
create unique index on deep.members (id) where actual_end = 'infinity';
create table deep.others (like deep.members including all);
create table deep.third (like deep.members including all);
insert into segmenter_segments (name, table_name, refresh_auto, refresh_params) values
    ('deep', 'deep.members', true, '{"query": {"sql": "select id from deep.chosen where is_in"}}'),
    ('deep other', 'deep.others', true, '{"query": {"sql": "select id from deep.people"}}');
insert into segmenter_consumers (name) values ('deep');
set max_stack_depth = '1MB';

-- A subscription: the error names it.
insert into segmenter_subscriptions (consumer_id, segment_id, target) select c.id, s.id, 'deep' from segmenter_consumers c, segmenter_segments s where c.name = 'deep' and s.name = 'deep';
create function deep.refused(condition text) returns table (code text, message text) language plpgsql as $$
begin
    update segmenter_subscriptions set params = jsonb_build_object('where', condition) where target = 'deep';
    code := 'accepted';
    return next;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text;
    return next;
end $$;
select * from deep.refused(repeat('not ', 2400) || 'true');
select * from deep.refused(repeat('not ', 10) || 'true');

-- A segment: it is refused, or fails alone.
select segment, status, added from segmenter_run() where segment like 'deep%' order by segment;
do $$ begin execute 'create or replace view deep.chosen as select id, ' || repeat('not ', 2400) || 'true as is_in from deep.people'; end $$;
insert into deep.people values (4);
select segment, status, added, detail from segmenter_run() where segment like 'deep%' order by segment;
select segment, status, added, detail from segmenter_run() where segment like 'deep%' order by segment;
do $$ begin
    execute format($sql$insert into segmenter_segments (name, table_name, refresh_params) values ('deep third', 'deep.third', %L)$sql$,
        jsonb_build_object('query', jsonb_build_object('sql', 'select id from deep.people where ' || repeat('not ', 2400) || 'true')));
end $$;
select segment, status, detail from segmenter_refresh('deep third');
create or replace view deep.chosen as select id, true as is_in from deep.people;
select segment, status, added, detail from segmenter_run() where segment = 'deep';

\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where target = 'deep';
delete from segmenter_segments where name like 'deep%';
delete from segmenter_log where segment_name like 'deep%';
delete from segmenter_consumers where name = 'deep';
drop schema deep cascade;
