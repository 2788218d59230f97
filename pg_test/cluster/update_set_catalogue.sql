-- What the catalogue knows of one set: of each relation, by its word in segmenter_definition(). In the order of columns;
-- where :by_name is true, by their names, without their numbers. See update_set.sql for :set and :log.
\i :dir/update_set.sql
\pset null (null)
set search_path = pg_catalog;
select extnamespace::regnamespace as schema from pg_extension where extname = 'segmenter' \gset
create temporary view relation as
select w.word, c.*
from (
    select distinct m[1] as word from regexp_matches(:schema.segmenter_definition(), '@(?:text:)?([a-z_]+)@', 'g') m where m[1] <> 'schema'
) w
cross join lateral (
    select case w.word when 'mart' then :'mart' when 'log' then :'log' else format('%I.%I', n[1], n[2] || '_' || w.word) end as name
    from parse_ident(:'set') n
) n
left join pg_class c on c.oid = to_regclass(n.name)::oid;
create temporary view part as
-- Sequences and indexes, too.
select r.word, r.oid from relation r
union
select r.word || ' ' || c.relkind::text, c.oid from relation r
join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
join pg_class c on c.oid = d.objid and c.relkind in ('S', 'i')
union
select r.word || ' index', i.indexrelid from relation r join pg_index i on i.indrelid = r.oid;

\echo == relations
select r.word, r.oid is null as is_missing, r.relkind, r.relpersistence, r.relrowsecurity, r.relforcerowsecurity, r.relreplident, r.reloptions, r.reltablespace,
    pg_get_userbyid(r.relowner), r.relnamespace::regnamespace
from relation r order by 1;
select p.word, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relnamespace::regnamespace from part p join pg_class c on c.oid = p.oid order by 1, 2;
select p.word, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle from pg_sequence join part p on p.oid = seqrelid order by 1;
\echo == columns
select r.word, case when not :by_name then a.attnum end, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
    a.attcollation::regcollation, a.attislocal, array(select o from unnest(a.attoptions) o where o !~ '^pg_attver='), pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a join relation r on r.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 and (not :by_name or not a.attisdropped) order by 1, 2, 3;
\echo == constraints
select r.word, conname, contype, convalidated, connoinherit, condeferrable, confdeltype, pg_get_constraintdef(k.oid)
from pg_constraint k join relation r on r.oid = conrelid order by 1, 2;
\echo == indexes
select r.word, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary, i.indisclustered, i.indisreplident from pg_index i join relation r on r.oid = i.indrelid order by 1, 2;
\echo == triggers and rules
select r.word, tgname, tgenabled, pg_get_triggerdef(t.oid) from pg_trigger t join relation r on r.oid = tgrelid where not tgisinternal order by 1, 2;
select r.word, rulename, ev_enabled, pg_get_ruledef(u.oid) from pg_rewrite u join relation r on r.oid = ev_class order by 1, 2;
\echo == policies
select r.word, polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
from pg_policy p join relation r on r.oid = polrelid order by 1, 2;
\echo == comments
select r.word, i.type, i.identity, s.description
from relation r
join (
    select oid as relation, 'pg_class'::regclass as classid, oid from pg_class
    union all select tgrelid, 'pg_trigger'::regclass, oid from pg_trigger
    union all select polrelid, 'pg_policy'::regclass, oid from pg_policy
    union all select conrelid, 'pg_constraint'::regclass, oid from pg_constraint
    union all select indrelid, 'pg_class'::regclass, indexrelid from pg_index
) o on o.relation = r.oid
join pg_description s on s.classoid = o.classid and s.objoid = o.oid
cross join pg_identify_object(s.classoid, s.objoid, s.objsubid) i order by 1, 2, 3;
\echo == privileges
select p.word, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from part p join pg_class c on c.oid = p.oid and c.relkind <> 'i'
cross join aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
order by 1, 2, 3, 4;
select r.word, attname, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from relation r join pg_attribute t on t.attrelid = r.oid and attacl is not null cross join aclexplode(attacl) a order by 1, 2, 3, 4, 5;
\echo == what the set is registered as
select cfg_table, log_table, owner from :schema.segmenter_sets() where cfg_table = :'mart';
-- Whatever columns there are.
select r.* from :schema.segmenter_registry r where r::text like '%' || replace(:'mart', '"', '""') || '%' or r::text like '%' || :'mart' || '%' order by r::text;
\echo == what of it belongs to the extension
select p.word, c.relname, d.deptype from part p join pg_class c on c.oid = p.oid
join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = p.oid and d.refclassid = 'pg_extension'::regclass order by 1, 2;
select p.word, c.relname, i.privtype from part p join pg_class c on c.oid = p.oid join pg_init_privs i on i.classoid = 'pg_class'::regclass and i.objoid = p.oid order by 1, 2;
\echo == the end
