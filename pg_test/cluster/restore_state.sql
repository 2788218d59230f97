-- All that must be the same in a database and its copy, in a form that can be compared.
-- :schema is where the relations are.
\set ON_ERROR_STOP on
\pset null (null)
set search_path = :"schema", public;
set timezone = 'UTC';

\echo == config rows
select 'segments', s::text from segmenter_segments s order by s.id;
select 'consumers', s::text from segmenter_consumers s order by s.id;
select 'subscriptions', s::text from segmenter_subscriptions s order by s.id;
\echo == log, outbox, deliveries
select 'log', s::text from segmenter_log s order by s.id;
select 'outbox', s::text from segmenter_outbox s order by s.id;
select 'deliveries', s::text from segmenter_deliveries s order by s.subscription_id;
select 'alerts', a::text from segmenter_alerts a order by a.id;
select 'alert states', a::text from segmenter_alert_states a order by a.alert_id, a.segment_id;
select 'withheld', w::text from segmenter_withheld w order by w.subscription_id, w.id;
select 'counts', c::text from segmenter_counts c order by c.id;
select 'reports', r::text from segmenter_reports r order by r.consumer_id;
select 'definitions', d::text from segmenter_definitions d order by d.segment_id, d.version;
\echo == kept out
select 'kept out', k::text from segmenter_kept_out k order by k.id;
select 'secret', s::text from segmenter_secret s order by s.made_at limit 1;
\echo == status
select 'status', s::text from segmenter_status s order by s.id, s.update_consumer, s.update_target, s::text;
set role marketing;
select 'status of marketing', s::text from segmenter_status s order by s.id, s.update_consumer, s.update_target, s::text;
reset role;
set role reader;
select 'rows that reader sees',
    (select count(*) from segmenter), (select count(*) from segmenter_log), (select count(*) from segmenter_segments),
    (select count(*) from segmenter_consumers), (select count(*) from segmenter_subscriptions), (select count(*) from segmenter_deliveries);
reset role;
\echo == mart
select m.tableoid::regclass, m from segmenter m order by m::text, m.tableoid::regclass::text;
select 'rows of the mart itself', count(*) from only segmenter;
\echo == segment tables
select inhrelid::regclass, inhparent::regclass from pg_inherits where inhparent = 'segmenter'::regclass order by inhrelid::regclass::text;
select 'extra', to_jsonb(t) from seg.extra t order by id, actual_begin;
select 'weird', to_jsonb(t) from "We""ird.Schema'"."Ta'ble \ ;--$$	x" t order by id;
\echo == constraints
select conrelid::regclass, conname, convalidated, connoinherit, conislocal, coninhcount, pg_get_constraintdef(oid)
from pg_constraint
-- Since 18 NOT NULL is one; the columns tell of it.
where contype <> 'n' and conrelid in (select oid from pg_class where relnamespace::regnamespace::text !~ '^(pg_|information_schema)') order by conrelid::regclass::text, 2;
\echo == indexes
select indexrelid::regclass, pg_get_indexdef(indexrelid) from pg_index
where indrelid in (select oid from pg_class where relnamespace::regnamespace::text !~ '^(pg_|information_schema)') order by indexrelid::regclass::text;
-- By name: pg_dump puts the columns that a table has from the mart before its own.
\echo == columns
select attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
    attinhcount, attcollation, pg_get_expr(adbin, adrelid), relkind
from pg_attribute join pg_class on pg_class.oid = attrelid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where attnum > 0 and not attisdropped and relkind in ('r', 'v')
    and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
order by attrelid::regclass::text, 2;
\echo == comments
select objoid::regclass, objsubid, description from pg_description
where classoid = 'pg_class'::regclass and objoid in (select oid from pg_class where relnamespace = 'seg'::regnamespace);
\echo == sequences
select schemaname, sequencename, last_value from pg_sequences order by 1, 2;
\echo == row level security and policies
select oid::regclass, relrowsecurity, relforcerowsecurity, relowner::regrole from pg_class
where relkind = 'r' and relnamespace::regnamespace::text !~ '^(pg_|information_schema)' order by oid::regclass::text;
select * from pg_policies order by schemaname, tablename, policyname;
\echo == triggers
select tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by tgrelid::regclass::text, 2;
\echo == privileges
select c.oid::regclass, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from pg_class c, aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
-- Since 17 there is a privilege that owners have.
where a.privilege_type <> 'MAINTAIN' and c.relkind in ('r', 'v', 'S') and c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' order by c.oid::regclass::text, a.grantor::regrole::text, a.grantee::regrole::text, 4;
select t.attrelid::regclass, t.attname, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from pg_attribute t cross join aclexplode(t.attacl) a
where (select c.relnamespace::regnamespace::text from pg_class c where c.oid = t.attrelid) !~ '^(pg_|information_schema)' order by t.attrelid::regclass::text, 2, 3, 4, 5;
select p.oid::regprocedure, p.proowner::regrole, p.prosecdef, p.proconfig, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace::regnamespace::text !~ '^(pg_|information_schema)' order by p.oid::regprocedure::text, a.grantor::regrole::text, a.grantee::regrole::text, 7;
\echo == registry
-- Without the extension's own set, which is made by CREATE EXTENSION.
select r.mart, r.schema_version, r.owner_name, r.owner, k.kind, k.relation, k.name, k.relkind
from segmenter_registry r join segmenter_registry_relations k using (mart) where r.owner_name is not null order by r.mart::text, k.kind;
\echo == extension
select extname, extowner::regrole, extnamespace::regnamespace, extversion, array(select c::regclass from unnest(extconfig) c order by c::regclass::text)
from pg_extension where extname = 'segmenter';
