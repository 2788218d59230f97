-- The service relations, functions and settings as the contract names them: this output is the
-- interface that users' scripts rely on.
create schema relations;
create view relations.members as
select d.classid, d.objid
from pg_depend d
join pg_extension e on e.oid = d.refobjid and e.extname = 'segmenter'
where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e';

select
    c.relname as relation, a.attname as "column", format_type(a.atttypid, a.atttypmod) as type,
    case when a.attnotnull then 'not null' else '' end as "null",
    case a.attidentity when 'a' then 'identity' else coalesce(pg_get_expr(d.adbin, d.adrelid), '') end as "default"
from pg_class c
join relations.members m on m.classid = 'pg_class'::regclass and m.objid = c.oid
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relkind in ('r', 'v')
order by c.relname, a.attnum;

select conrelid::regclass as relation, conname, pg_get_constraintdef(k.oid) as definition
from pg_constraint k
join relations.members m on m.classid = 'pg_class'::regclass and m.objid = k.conrelid
-- Since 18 NOT NULL is one; the columns tell of it.
where k.contype <> 'n'
order by 1::text collate "C", 2;
select tablename, regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX \S+ ON public\.\S+', '\1') as definition
from pg_indexes
where schemaname = 'public' and tablename like 'segmenter%'
order by tablename, indexname;

-- The status in the contract's order, and what has come to it since.
select (array_agg(attname::text order by attnum))[1:24] = array[
    'id', 'name', 'description', 'table_name', 'context', 'refresh_auto', 'refresh_params', 'refresh_cron', 'last_refresh', 'last_status',
    'last_error', 'next_refresh', 'coverage', 'added', 'removed', 'changed', 'update_consumer', 'update_target', 'update_name',
    'update_params', 'update_cron', 'update_status', 'pending_messages', 'last_delivery'
] as as_agreed
from pg_attribute
where attrelid = 'segmenter_status'::regclass and attnum > 0;

-- A row per actual segment and actual subscription, one for a segment without.
insert into segmenter_consumers (name) values ('crm'), ('ads');
select segmenter_create_segment('two', 'select 1 as id', table_name => 'relations.two') as two \gset
select segmenter_create_segment('none', 'select 1 as id', '@daily', 'relations.none') as none \gset
insert into segmenter_subscriptions (consumer_id, segment_id, target, name, cron)
select c.id, :'two', c.name || '-target', '{{consumer}}: {{name}} ({{target}}) {{other}}', '@daily' from segmenter_consumers c;
insert into segmenter_subscriptions (consumer_id, segment_id, target, actual_end)
select c.id, :'two', 'ended', 'now' from segmenter_consumers c;
select count(*) from segmenter_refresh('two') where status = 'ok';
select name, table_name, refresh_auto, refresh_cron, last_status, last_error, next_refresh > now() as is_next, coverage, added, removed, changed
from segmenter_status;
select name, update_consumer, update_target, update_name, update_params, update_cron, update_status, pending_messages, last_delivery from segmenter_status;
set client_min_messages = error;
delete from segmenter_subscriptions;
reset client_min_messages;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_log;

-- The mart holds no row of its own.
\set VERBOSITY terse
insert into segmenter (segment_id) values (gen_random_uuid());
\set VERBOSITY default

-- The functions, and their behaviour in plans.
select
    p.proname as function, pg_get_function_arguments(p.oid) as arguments, pg_get_function_result(p.oid) as result,
    p.prokind as kind, p.provolatile as volatility, p.proparallel as parallel, p.prosecdef as definer
from pg_proc p
join relations.members m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
order by 1, 2;

-- Who may do what: nothing is granted to all that row-level security does not hold in.
select
    c.relname as relation, c.relrowsecurity as has_policies,
    coalesce(string_agg(a.privilege_type, ' ' order by a.privilege_type), '') as granted_to_public
from pg_class c
join relations.members m on m.classid = 'pg_class'::regclass and m.objid = c.oid
left join lateral aclexplode(c.relacl) a on a.grantee = 0
where c.relkind <> 'i'
group by 1, 2
order by 1;
select tablename, policyname, cmd, roles, qual, with_check from pg_policies where tablename like 'segmenter%' order by 1, 2;

-- What pg_dump takes along.
select unnest(extconfig)::regclass::text as dumped, unnest(extcondition) as "where" from pg_extension where extname = 'segmenter' order by 1;

-- Everything bears a comment.
select pg_describe_object(m.classid, m.objid, 0) as without_comment
from relations.members m
where obj_description(m.objid, m.classid::regclass::text) is null and not exists (
    -- What belongs to a relation: its row type, its TOAST table, an identity's sequence, rules of views.
    select from pg_depend d where d.classid = m.classid and d.objid = m.objid and d.deptype = 'i'
)
order by 1;
select a.attrelid::regclass, a.attname as without_comment
from pg_attribute a
join relations.members m on m.classid = 'pg_class'::regclass and m.objid = a.attrelid
join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'v')
where a.attnum > 0 and col_description(a.attrelid, a.attnum) is null;
select t.tgrelid::regclass, t.tgname as without_comment
from pg_trigger t
join relations.members m on m.classid = 'pg_class'::regclass and m.objid = t.tgrelid
where not t.tgisinternal and obj_description(t.oid, 'pg_trigger') is null;
select p.polrelid::regclass, p.polname as without_comment
from pg_policy p
where p.polrelid::regclass::text like 'segmenter%' and obj_description(p.oid, 'pg_policy') is null;

-- The settings.
select name, setting, context, vartype, short_desc, extra_desc from pg_settings where name like 'segmenter.%' order by 1;
set segmenter.timezone = 'Mars/Olympus';
set segmenter.timezone = '+02';
set segmenter.timezone = '';
set segmenter.no_such_setting = 1;
create role relations_user;
set role relations_user;
set segmenter.timezone = 'Europe/Berlin';
show segmenter.timezone;
reset role;
drop role relations_user;

set client_min_messages = warning;
drop schema relations cascade;
