-- Definitions have a history: a version for each change of a segment's row. An audit trigger of the test's own
-- says what the versions must be.
\i setup/schema.sql
create schema def;
create role def_ann;
create role def_bob;
create role def_eve;
grant usage, create on schema def to def_ann, def_bob;
set search_path = def, :schema, public;
set timezone = 'America/New_York';
create table def.vip (like segmenter including defaults, unique (id));
create table def.other (like segmenter including defaults, unique (id));
alter table def.other owner to def_bob;
create table def.audit (place int generated always as identity, operation text, id uuid, old jsonb, new jsonb, by text, as_role text);
grant insert on def.audit to public;
create function def.audit() returns trigger language plpgsql security definer set search_path = pg_catalog set timezone = 'UTC' as $$
begin
    insert into def.audit (operation, id, old, new, by)
    values (lower(tg_op), coalesce(new.id, old.id), to_jsonb(old), to_jsonb(new), session_user);
    return null;
end
$$;
create trigger a_audit after insert or update or delete on segmenter_segments for each row execute function def.audit();
-- The versions that the audit asks for: those of its rows that change something.
create view def.expected as
select
    a.id as segment_id, row_number() over (partition by a.id order by a.place) as version, a.new as definition,
    (
        select jsonb_object_agg(k, jsonb_build_object('old', a.old -> k, 'new', a.new -> k))
        from jsonb_object_keys(coalesce(a.old, a.new)) k
        where a.old -> k is distinct from a.new -> k
    ) as changed
from def.audit a
where a.old is distinct from a.new;
create view def.differences as
select 'lacks' as what, e.* from (select * from def.expected except all select segment_id, version, definition, changed from segmenter_definitions where segment_id in (select id from def.audit)) e
union all
select 'has', e.* from (select segment_id, version, definition, changed from segmenter_definitions where segment_id in (select id from def.audit) except all select * from def.expected) e;
-- What the changes add up to, in order.
create view def.folded as
select d.segment_id, jsonb_object_agg(c.key, c.value -> 'new' order by d.version) as definition
from segmenter_definitions d
cross join jsonb_each(d.changed) c
group by d.segment_id;
create function def.as_row(s segmenter_segments) returns jsonb language sql stable set search_path = pg_catalog set timezone = 'UTC'
as 'select to_jsonb(s)';
create view def.folds as
select s.name, f.definition = (select d.definition from segmenter_definitions d where d.segment_id = s.id order by d.version desc limit 1) as folds,
    d.row = f.definition as is_row
from segmenter_segments s
left join def.folded f on f.segment_id = s.id
cross join lateral (select def.as_row(s) as row) d
order by s.name;
create view def.versions with (security_invoker = true) as
select s.name, d.version, d.changed_by = session_user as by_session, d.changed_as,
    (select string_agg(k, ', ' order by k) from jsonb_object_keys(d.changed) k) as changed
from segmenter_definitions d
join segmenter_segments s on s.id = d.segment_id;
grant usage on schema def to public;
grant select on def.versions to public;

-- A version for each change, by the session's role with the rights of the current one.
insert into segmenter_segments (name, table_name, refresh_params)
values ('def vip', 'def.vip', '{"query": {"sql": "select g as id from generate_series(1, 3) g"}}');
select version, changed_as = current_user as as_self, definition ->> 'name' as name, changed -> 'name' as changed_name,
    changed ? 'priority' as has_all from segmenter_definitions where definition ->> 'name' = 'def vip';
update segmenter_segments set description = 'of worth', guards = '{"max_added": 5}' where name = 'def vip';
update segmenter_segments set owner = 'def_ann' where name = 'def vip';
alter table def.vip owner to def_ann;
set role def_ann;
update segmenter_segments set refresh_params = '{"query": {"sql": "select g as id from generate_series(1, 4) g"}}' where name = 'def vip';
select name, version, by_session, changed_as, changed from def.versions where name = 'def vip' and version > 1 order by version;
select changed -> 'owner' ->> 'new' as owner, changed -> 'guards' as guards from segmenter_definitions where version in (2, 3) order by version;
reset role;
-- A change that changes nothing is none, whatever writes it.
update segmenter_segments set name = name, table_name = table_name, refresh_params = refresh_params || '{}', guards = '{"max_added":   5}' where name = 'def vip';
select * from segmenter_put_segment('def vip', 'select g as id from generate_series(1, 4) g', description => 'of worth');
insert into segmenter_segments (name, table_name) values ('def vip', 'def.other') on conflict (name) where actual_end = 'infinity' do nothing;
select max(version) from segmenter_definitions where definition ->> 'name' = 'def vip';
-- A transaction that is rolled back leaves no gap.
begin;
update segmenter_segments set context = 'TASK-1' where name = 'def vip';
rollback;
begin;
update segmenter_segments set context = 'TASK-2' where name = 'def vip';
savepoint s;
update segmenter_segments set context = 'TASK-3' where name = 'def vip';
rollback to s;
update segmenter_segments set context = 'TASK-4' where name = 'def vip';
commit;
select version, changed -> 'context' as context from segmenter_definitions where changed ? 'context' and version > 1 and definition ->> 'name' = 'def vip' order by version;
select * from def.folds;

-- A refresh says in the log and in the state which version it ran with.
select status from segmenter_refresh('def vip');
update segmenter_segments set refresh_params = '{"query": {"sql": "select g as id from generate_series(1, 9) g"}}' where name = 'def vip';
select status from segmenter_refresh('def vip');
update segmenter_segments set guards = '{}' where name = 'def vip';
select status from segmenter_refresh('def vip');
select status from segmenter_refresh('def vip', query => 'select 1 as id');
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1/0 as id"}}' where name = 'def vip';
set client_min_messages = error;
select status from segmenter_refresh('def vip');
reset client_min_messages;
select l.status, l.definition, l.definition = (
    select max(d.version) from segmenter_definitions d where d.segment_id = l.segment_id and d.changed_at <= l.processed
) as by_time, t.definition as state
from segmenter_log l join segmenter_state t using (segment_id) where l.segment_name = 'def vip' and l.action = 'refresh' order by l.id;

-- Another name, another table, retired and back: all of it is the definition.
update segmenter_segments set name = 'def gold', table_name = table_name, actual_end = now() where name = 'def vip';
update segmenter_segments set name = 'def vip', actual_end = 'infinity' where name = 'def gold';
select version, (select string_agg(k, ', ' order by k) from jsonb_object_keys(changed) k) as changed from segmenter_definitions where definition ->> 'name' in ('def vip', 'def gold') and changed ? 'actual_end' and version > 1 order by version;
select * from def.folds;
select * from def.differences;

-- Restored: a new version, equal to the old one.
select max(version) as last from segmenter_definitions \gset
select segmenter_restore_definition('def vip', 4) = :last + 1 as is_next;
select a.definition = b.definition as same, b.version - :last as later, (select string_agg(k, ', ' order by k) from jsonb_object_keys(b.changed) k) as changed
from segmenter_definitions a join segmenter_definitions b on b.segment_id = a.segment_id and b.version = :last + 1 where a.version = 4;
select description, guards, context, refresh_params from segmenter_segments where name = 'def vip';
select segmenter_restore_definition('def vip', 4) = :last + 1 as same_again;
select * from def.folds;
-- What cannot be restored is an error that says what, and changes nothing.
delete from def.vip;
update segmenter_segments set table_name = 'def.other', owner = 'def_bob', name = 'def moved' where name = 'def vip';
select max(version) as last from segmenter_definitions \gset
alter table def.vip rename to gone;
select segmenter_restore_definition('def moved', 4);
alter table def.gone rename to vip;
alter role def_ann rename to def_gone;
select segmenter_restore_definition('def moved', 4);
alter role def_gone rename to def_ann;
create table def.taken (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name) values ('def vip', 'def.taken');
select segmenter_restore_definition('def moved', 4);
select segmenter_restore_definition('def moved', 1);
update segmenter_segments set name = 'def taken' where name = 'def vip';
select segmenter_restore_definition('def moved', 0);
select segmenter_restore_definition('def moved', 99);
select segmenter_restore_definition('def moved', null);
select segmenter_restore_definition(null, 1);
select segmenter_restore_definition('def none', 1);
select max(version) = :last as unchanged from segmenter_definitions;
set role def_eve;
select segmenter_restore_definition('def moved', 4);
select count(*) from segmenter_definitions;
-- Rights as to update the row: not to give it to a role that the caller is no member of, nor to take a table.
set role def_bob;
select segmenter_restore_definition('def moved', 4);
select count(*) > 0 as sees from segmenter_definitions;
insert into segmenter_definitions (segment_id, version, changed) select segment_id, 99, '{}' from segmenter_definitions limit 1;
update segmenter_definitions set changed_by = 'def_eve';
delete from segmenter_definitions;
reset role;
select segmenter_restore_definition('def moved', 4) = :last + 1 as is_next;
select name, table_name, owner from segmenter_segments where name like 'def%' order by name;
-- A retired segment comes back with the version in which it was active.
update segmenter_segments set actual_end = now() where name = 'def vip';
select segmenter_restore_definition('def vip', 4) > 0 as restored;
select name, actual_end from segmenter_segments where name = 'def vip';

select * from def.folds;
select what, version from def.differences;

-- A trigger of others that changes the row again: one version, of the row as it is.
create function def.again() returns trigger language plpgsql as $$
begin
    update segmenter_segments set context = 'again' where id = new.id;
    return null;
end
$$;
create trigger b_again after update of description on segmenter_segments for each row execute function def.again();
update segmenter_segments set description = 'twice' where name = 'def taken';
drop trigger b_again on segmenter_segments;
select version, changed from segmenter_definitions where definition ->> 'name' = 'def taken' order by version desc limit 1;
select * from def.folds;

-- A segment whose row is older than its history: what it was becomes the first version.
delete from segmenter_definitions where segment_id = (select id from segmenter_segments where name = 'def taken');
select status from segmenter_refresh('def taken', query => 'select 1 as id');
select definition is null as unknown from segmenter_log where segment_name = 'def taken' order by id desc limit 1;
update segmenter_segments set description = 'late' where name = 'def taken';
select version, changed_by is null as unknown, changed_as is null as unknown_too, definition ->> 'description' as description, changed -> 'description' as changed
from segmenter_definitions where definition ->> 'name' = 'def taken' order by version;
select version, changed_by is null as unknown from segmenter_definitions where definition ->> 'name' = 'def taken' order by 1;

-- Erasing redacts what names the person, in every version, and says where the row itself does.
update segmenter_segments set refresh_params = '{"query": {"sql": "select ''cust-4711'' as id, ''a1b2c3'' as hash_email"}}', description = 'with cust-4711' where name = 'def taken';
select status from segmenter_refresh('def taken');
update segmenter_segments set description = 'without' where name = 'def taken';
select segment, rows from segmenter_erase('cust-4711');
select version, definition ->> 'description' as description, definition -> 'refresh_params' as refresh_params, changed -> 'description' as changed, changed -> 'refresh_params' as changed_params
from segmenter_definitions where definition ->> 'name' = 'def taken' order by version;
-- What was not changed there is no change of the next version; what was redacted cannot be restored.
update segmenter_segments set context = 'after' where name = 'def taken';
select version, changed, definition -> 'refresh_params' as refresh_params from segmenter_definitions where definition ->> 'name' = 'def taken' order by version desc limit 1;
select f.definition = d.definition as folds from segmenter_definitions d join def.folded f using (segment_id) where d.definition ->> 'name' = 'def taken' order by d.version desc limit 1;
select segmenter_restore_definition('def taken', 3);
update segmenter_segments set refresh_params = '{}' where name = 'def taken';
select segment, rows from segmenter_erase('cust-4711');
select count(*) filter (where definition::text || changed::text ~ 'cust-4711|a1b2c3') as left from segmenter_definitions;
select segmenter_restore_definition('def taken', 2) > 0 as restored;
select description, refresh_params from segmenter_segments where name = 'def taken';
-- A short id is no part of other words and numbers; spellings of a long one are found.
update segmenter_segments set description = 'since 2030, no 79001234567', context = '+7 (900) 123-45-67' where name = 'def taken';
update segmenter_segments set description = null, context = null where name = 'def taken';
set client_min_messages = error;
select segment, rows from segmenter_erase('30');
reset client_min_messages;
select definition ->> 'description' as description, definition ->> 'context' as context from segmenter_definitions where definition ->> 'description' like '%2030%';
set client_min_messages = error;
select segment, rows from segmenter_erase('79001234567');
reset client_min_messages;
select count(*) from segmenter_definitions where definition::text ~ '123-45-67|79001234567';

-- Deleted: the versions stay, the last one says by whom; a segment with the same id goes on.
select id as taken from segmenter_segments where name = 'def taken' \gset
select max(version) as last from segmenter_definitions where segment_id = :'taken' \gset
update segmenter_segments set owner = 'def_ann' where name = 'def taken';
alter table def.taken owner to def_ann;
set role def_ann;
select segmenter_drop_segment('def taken');
select count(*) from segmenter_definitions where segment_id = :'taken';
reset role;
select version - :last as later, changed_as, definition is null as deleted, changed -> 'name' as name from segmenter_definitions where segment_id = :'taken' order by version desc limit 1;
insert into segmenter_segments (id, name, table_name) values (:'taken', 'def again', 'def.taken');
select version - :last as later, changed -> 'name' as name from segmenter_definitions where segment_id = :'taken' order by version desc limit 1;
delete from segmenter_segments where id = :'taken';
select d.version, def.as_row(s) is null as gone from segmenter_definitions d left join segmenter_segments s on s.id = d.segment_id where d.segment_id = :'taken' and d.definition is null and d.version > :last order by 1 desc limit 1 \gset
select :'gone' as gone;

-- They are kept as long as the log, and then deleted with it.
select count(*) > 0 as kept from segmenter_definitions where segment_id = :'taken';
select segmenter_prune();
select count(*) > 0 as kept from segmenter_definitions where segment_id = :'taken';
update segmenter_definitions set changed_at = now() - interval '91 days';
select segmenter_prune();
select count(*) from segmenter_definitions where segment_id = :'taken';
select count(*) > 5 as kept from segmenter_definitions;
-- Of one that exists all are kept, up to a thousand.
insert into segmenter_definitions (segment_id, version, changed_at, changed) select id, g, now() - interval '100 days', '{}' from segmenter_segments, generate_series(101, 1100) g where name = 'def vip';
select segmenter_prune();
select min(version), count(*) from segmenter_definitions d join segmenter_segments s on s.id = d.segment_id where s.name = 'def vip';

drop trigger a_audit on segmenter_segments;
set client_min_messages = error;
delete from segmenter_segments where name like 'def%';
delete from segmenter_definitions;
delete from segmenter_log;
drop schema def cascade;
drop role def_ann, def_bob, def_eve;
