-- Segments as code: segmenter_put_segment() creates a segment or makes an existing one what it is said to
-- be; a second call changes nothing.
\i setup/schema.sql
create schema put;
create table put.people (id int primary key, email text, city varchar(20), born date);
insert into put.people values (1, 'a', 'Bonn', '2000-01-01'), (2, 'b', 'Ulm', null), (3, 'c', 'Ulm', null);
create function put.columns(name regclass) returns text language sql as $$
    select string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
    from pg_attribute
    where attrelid = name and attnum > 0 and not attisdropped
      and attname not in ('segment_id', 'actual_begin', 'actual_end', 'processed')
$$;
-- The row and where it lies, which any write of it would change.
create view put.row_version as
select s.name, s.ctid as place, s.xmin as written from segmenter_segments s;
set search_path = put, :schema, public;
set timezone = 'UTC';

-- Created, and refreshed by hand only.
select * from segmenter_put_segment('vip', 'select id, email as hash_email from put.people');
select table_name, refresh_auto, refresh_cron, refresh_params, guards, sources, exclude from segmenter_segments where name = 'vip';
select put.columns('vip');
create table seen as select * from put.row_version;
-- A second time: nothing, not even a version of the row.
select * from segmenter_put_segment('vip', 'select id, email as hash_email from put.people');
select * from segmenter_put_segment('vip');
select count(*) as same from put.row_version v join seen s using (name, place, written);

-- Each argument changes what it names; null leaves what is there.
set client_min_messages = warning;
select * from segmenter_put_segment('vip', refresh_cron => '@daily', refresh_timezone => 'Europe/Oslo', description => 'who matters');
reset client_min_messages;
select * from segmenter_put_segment('vip', guards => '{"max_change": 0.5}', sources => '[{"name": "loaded", "ready": "select true"}]');
select * from segmenter_put_segment('vip', guards => '{"max_change":  0.50}', description => 'who matters');
select refresh_auto, refresh_cron, refresh_timezone, description, guards, sources from segmenter_segments where name = 'vip';
-- The schedule makes a segment automatic once; that it is not any more is the owner's decision.
update segmenter_segments set refresh_auto = false where name = 'vip';
select * from segmenter_put_segment('vip', refresh_cron => '@daily');
select * from segmenter_put_segment('vip', refresh_cron => '@hourly');
select refresh_auto, refresh_cron from segmenter_segments where name = 'vip';

-- Columns that the query newly gives are added, with their types.
select * from segmenter_put_segment('vip', 'select id, email as hash_email, city, born as "Born on", array[1.5::numeric(4, 1)] as scores from put.people', refresh => true);
select put.columns('vip');
select id, hash_email, city, "Born on" is null as no_birth, scores from vip where actual_end = 'infinity' order by id;
-- They stay when the query gives them no more; a lost one comes back.
select * from segmenter_put_segment('vip', 'select id from put.people where id < 3');
alter table vip drop column city;
select * from segmenter_put_segment('vip', 'select id, city from put.people');
select * from segmenter_put_segment('vip', 'select id, city from put.people');
alter table vip drop column city;
select * from segmenter_put_segment('vip', 'select id, city from put.people');

-- Other refreshers.
create procedure put.fill() language sql as 'select';
select * from segmenter_put_segment('vip', refresh_params => '{"procedure": {"sql": "call put.fill()"}}');
set client_min_messages = error;
select segmenter_watch('put.people');
select * from segmenter_put_segment('watching', refresh_params => '{"incremental": {"watch": ["put.people"], "sql": "select id, city, born from put.people join changed using (id)"}}', refresh => true);
select * from segmenter_put_segment('watching', refresh_params => '{"incremental": {"watch": ["put.people"], "sql": "select id, city, born, email as mail from put.people join changed using (id)"}}');
select put.columns('watching');
select segmenter_unwatch('put.people');
reset client_min_messages;
select * from segmenter_put_segment('by hand', refresh_params => '{}', history => false);
select put.columns('"by hand"');
select regexp_replace(indexdef, '.* USING', '') as index from pg_indexes where schemaname = 'put' and tablename = 'by hand';
select * from segmenter_put_segment('by hand', refresh_params => '{}', history => false);

-- A table that is there is used, and gets the columns.
create table put.kept (like segmenter including defaults);
create unique index on put.kept (id) where actual_end = 'infinity';
select * from segmenter_put_segment('kept', 'select id, city from put.people', table_name => 'put.kept');
select put.columns('kept');
-- The same table under any name that finds it; another one is where the segment moves, while it has no members.
set search_path = :schema, put, public;
select * from segmenter_put_segment('kept', table_name => 'kept');
reset search_path;
set search_path = put, :schema, public;
select * from segmenter_put_segment('kept', table_name => 'put.moved');
select table_name, to_regclass('put.kept') is not null as old_is_left from segmenter_segments where name = 'kept';
-- Two segments in one table.
create table put.shared (like segmenter including defaults);
create unique index on put.shared (segment_id, id) where actual_end = 'infinity';
select * from segmenter_put_segment('ulm', 'select id, city from put.people where city = ''Ulm''', table_name => 'put.shared', refresh => true);
select * from segmenter_put_segment('bonn', 'select id, city, born from put.people where city = ''Bonn''', table_name => 'put.shared', refresh => true);
select s.name, m.id, m.city from put.shared m join segmenter_segments s on s.id = m.segment_id order by 1, 2;

-- Segments whose members are left out.
select * from segmenter_put_segment('not ulm', 'select id from put.people', exclude => '["ulm"]', refresh => true);
select id from put."not ulm";
select * from segmenter_put_segment('not ulm', exclude => '["ulm"]');
select * from segmenter_put_segment('not ulm', exclude => '[]');

-- What is wrong is an error that names the argument, and changes nothing.
create procedure put.try(arguments text) language plpgsql as $$
declare
    hint text;
begin
    execute format('select segmenter_put_segment(%s)', arguments);
    raise 'it was accepted';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    raise info '[%] %', sqlstate, concat_ws(E'\nHINT:  ', sqlerrm, regexp_replace(nullif(hint, ''), '= ''[-0-9a-f]{36}''', '= …'));
end $$;
set client_min_messages = error;
create table before as select s.* from segmenter_segments s;
create view now as select s.* from segmenter_segments s;
call put.try($$null, 'select 1 as id'$$);
call put.try($$''$$);
call put.try($$'', 'select 1 as id'$$);
call put.try($$'new'$$);
call put.try($$'new', refresh_cron => '@daily'$$);
call put.try($$'vip', 'select 1 as id', refresh_params => '{}'$$);
call put.try($$'vip', 'selec id'$$);
call put.try($$'vip', 'select id, nothing from put.people'$$);
call put.try($$'vip', 'select email as hash_email from put.people'$$);
call put.try($$'vip', 'select id, 1 from put.people'$$);
call put.try($$'vip', 'select id, now() as processed from put.people'$$);
alter table put.vip add column if not exists born date;
call put.try($$'vip', 'select id, array[1] as born from put.people'$$);
call put.try($$'vip', 'select id, email, email from put.people'$$);
call put.try($$'vip', 'delete from put.people'$$);
call put.try($$'vip', 'with d as (delete from put.people returning id) select id from d'$$);
call put.try($$'vip', 'select 1 as id; select 2 as id'$$);
call put.try($$'vip', refresh_params => '[]'$$);
call put.try($$'vip', refresh_params => '{"query": {"sqll": "select 1 as id"}}'$$);
call put.try($$'vip', refresh_params => '{"procedure": {"sql": "call put.nothing()"}}'$$);
call put.try($$'vip', refresh_params => '{"incremental": {"watch": ["put.people"], "sql": "select id, x from changed"}}'$$);
call put.try($$'vip', refresh_params => '{"incremental": {"changed": "select id from put.nowhere", "sql": "select id from changed"}}'$$);
call put.try($$'vip', refresh_cron => '61 * * * *'$$);
call put.try($$'vip', refresh_timezone => 'Atlantis'$$);
call put.try($$'vip', guards => '{"max_chnage": 1}'$$);
call put.try($$'vip', sources => '{}'$$);
call put.try($$'vip', exclude => '["nobody"]'$$);
call put.try($$'vip', exclude => '{}'$$);
call put.try($$'vip', owner => 'nobody'$$);
call put.try($$'vip', history => false$$);
call put.try($$'vip', refresh => null$$);
call put.try($$'vip', table_name => 'put.people'$$);
call put.try($$'vip', table_name => 'nowhere.vip'$$);
call put.try($$'vip', table_name => 'put.elsewhere'$$);
call put.try($$'people', 'select id from put.people'$$);
call put.try($$repeat('n', 64), 'select 1 as id'$$);
call put.try($$'moved', 'select id from put.people'$$);
select to_regclass('put.elsewhere') as elsewhere, count(*) as changed
from (table now except table before) changed;
select to_regclass('put.new') as new, count(*) from put.people;
reset client_min_messages;

-- A refresh that fails leaves the segment as it was put.
select * from segmenter_put_segment('vip', 'select id / 0 as id from put.people', refresh => true);
select refresh_params from segmenter_segments where name = 'vip';

-- A retired segment is not altered: a new one is created, in another table.
update segmenter_segments set actual_end = now() where name = 'by hand';
select action from segmenter_put_segment('by hand', 'select 1 as id', table_name => 'put.by_query');
select name, table_name, actual_end = 'infinity' as active from segmenter_segments where name = 'by hand' order by 3;

-- Rights: another role's name is taken; a member acts for the role, which then owns segment and table.
reset search_path;
create role put_team;
create role put_ann;
create role put_eve;
grant put_team to put_ann;
grant usage on schema put to put_team, put_eve;
grant select on put.people to put_team;
set client_min_messages = warning;
set role put_eve;
call put.try($$'vip', 'select 1 as id'$$);
call put.try($$'vip', description => 'mine'$$);
call put.try($$'vip', refresh => true$$);
call put.try($$'team', 'select 1 as id', owner => 'put_team'$$);
call put.try($$'team', 'select 1 as id', table_name => 'put.team'$$);
reset role;
grant create on schema put to put_team;
set role put_ann;
select * from segmenter_put_segment('team', 'select id from put.people', table_name => 'put.team', owner => 'put_team', refresh => true);
select * from segmenter_put_segment('team', 'select id, city from put.people', owner => 'put_team');
reset role;
select s.owner, c.relowner::regrole from segmenter_segments s join pg_class c on c.oid = s.table_name where s.name = 'team';
-- The query is checked with the rights of the role that it runs as.
revoke select on put.people from put_team;
call put.try($$'team', 'select id, born from put.people'$$);
call put.try($$'vip', 'select id, city from put.people', owner => 'put_team'$$);
grant select on put.people to put_team;
-- A superuser gives a segment and its own table to another role.
select * from segmenter_put_segment('vip', 'select id, city from put.people', owner => 'put_team');
select s.owner, c.relowner::regrole from segmenter_segments s join pg_class c on c.oid = s.table_name where s.name = 'vip';
select * from segmenter_put_segment('vip', owner => 'put_team');
-- Who does not own the table adds no column to it.
set role put_team;
create table put.others (like segmenter including defaults);
create unique index on put.others (segment_id, id) where actual_end = 'infinity';
grant select, insert, update on put.others to put_eve;
set client_min_messages = warning;
select action from segmenter_put_segment('first', 'select id from put.people', table_name => 'put.others');
set role put_eve;
call put.try($$'second', 'select 1 as id, 2 as age', table_name => 'put.others'$$);
select action from segmenter_put_segment('second', 'select 1 as id', table_name => 'put.others', refresh => true);
select id from put.others;
reset role;
select put.columns('put.others');

-- Subscriptions by their names.
select segmenter_subscribe('put crm', 'team', 'mail') is not null as subscribed;
select segment, messages from segmenter_refresh('team');
select s.name, u.id = s.subscription_id as has_id from segmenter_status s join segmenter_subscriptions u on u.id = s.subscription_id;
select count(*) from segmenter_status where subscription_id is null;
select message_id is not null as claimed, operation from segmenter_claim('put crm', 10) order by message_id;
select segmenter_retry('put crm', 'team', 'mail');
select segmenter_skip('put crm', 'team', 'mail') = min(id) as skipped_the_first from segmenter_outbox;
select segmenter_resync('put crm', 'team', 'mail');
select segmenter_retry('put crm', 'team', 'post');
select segmenter_skip('put crm', null, 'mail');
set role put_eve;
select segmenter_retry('put crm', 'team', 'mail');
select segmenter_skip('put crm', 'team', 'mail');
select segmenter_resync('put crm', 'team', 'mail');
reset role;
-- An ended one is found as long as there is no other.
update segmenter_subscriptions set actual_end = now();
select segmenter_retry('put crm', 'team', 'mail');

-- All automatic segments, due or not.
delete from segmenter_subscriptions;
delete from segmenter_consumers;
update segmenter_segments set refresh_auto = name in ('team', 'not ulm'), refresh_cron = '0 0 29 2 *', actual_end = 'infinity' where table_name <> 'put."by hand"'::regclass;
select segment from segmenter_run();
select segment, status from segmenter_run("all" => true);
select segment, status from segmenter_run(true);
select segmenter_run(null);
call segmenter_run_each("all" => true);
select segment_name, count(*) from segmenter_log where action = 'refresh' and status = 'ok' and segment_name in ('team', 'not ulm') group by 1 order by 1;
select segment, hand_over_only from segmenter_run_plan(true) order by 1;

set client_min_messages = error;
delete from segmenter_segments;
delete from segmenter_log;
delete from segmenter_outbox;
drop schema put cascade;
drop role put_team, put_ann, put_eve;
