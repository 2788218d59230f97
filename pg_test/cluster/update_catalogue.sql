-- One part of what the catalogue knows of the extension, in a form that can be compared.
\set ON_ERROR_STOP on
set client_min_messages = warning;
set search_path = pg_catalog;
create temporary view member as
select d.classid, d.objid, i.type, i.identity
from pg_depend d
join pg_extension e on e.oid = d.refobjid and e.extname = 'segmenter'
cross join pg_identify_object(d.classid, d.objid, 0) i
where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e';
create temporary view relation as
select c.* from pg_class c join member m on m.classid = 'pg_class'::regclass and m.objid = c.oid;
create temporary view owned as
-- Members, and what belongs to them: columns, constraints, indexes, triggers, policies, rules.
select d.classid, d.objid, d.objsubid
from pg_depend d
where d.refclassid = 'pg_class'::regclass and d.refobjid in (select oid from relation) and d.deptype in ('a', 'i')
union
select classid, objid, 0 from member
union
select 'pg_class'::regclass, a.attrelid, a.attnum::int from pg_attribute a where a.attrelid in (select oid from relation) and a.attnum > 0;

select :'part' = 'members' as is_members, :'part' = 'relations' as is_relations, :'part' = 'columns' as is_columns,
    :'part' = 'constraints' as is_constraints, :'part' = 'indexes' as is_indexes, :'part' = 'triggers' as is_triggers,
    :'part' = 'policies' as is_policies, :'part' = 'functions' as is_functions, :'part' = 'views' as is_views,
    :'part' = 'comments' as is_comments, :'part' = 'privileges' as is_privileges, :'part' = 'dumped' as is_dumped \gset
\if :is_members
select type, identity from member order by 1, 2;
\elif :is_relations
select oid::regclass::text, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions,
    pg_get_userbyid(relowner) = current_user
from relation order by 1;
select oid::regclass::text, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle
from pg_sequence join relation on oid = seqrelid order by 1;
\elif :is_columns
select a.attrelid::regclass::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
    a.attstorage, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a join relation r on r.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 order by 1, 2;
\elif :is_constraints
select conrelid::regclass::text, conname, contype, convalidated, connoinherit, condeferrable, pg_get_constraintdef(k.oid)
from pg_constraint k join relation r on r.oid = conrelid order by 1, 2;
\elif :is_indexes
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid
from pg_index i join relation r on r.oid = i.indrelid order by 1;
\elif :is_triggers
select tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(t.oid)
from pg_trigger t join relation r on r.oid = tgrelid where not tgisinternal order by 1, 2;
\elif :is_policies
select polrelid::regclass::text, polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
from pg_policy p join relation r on r.oid = polrelid order by 1, 2;
\elif :is_functions
select p.oid::regprocedure::text, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.prokind, p.provolatile,
    p.proparallel, p.proisstrict, p.prosecdef, p.proleakproof, p.procost, p.prorows, p.proconfig, p.probin, l.lanname, p.prosrc
from pg_proc p join member m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
join pg_language l on l.oid = p.prolang order by 1;
\elif :is_views
select oid::regclass::text, pg_get_viewdef(oid) from relation where relkind = 'v' order by 1;
\elif :is_comments
select i.type, i.identity, s.description
from pg_description s
join owned o on o.classid = s.classoid and o.objid = s.objoid and o.objsubid = s.objsubid
cross join pg_identify_object(s.classoid, s.objoid, s.objsubid) i
order by 1, 2;
\elif :is_privileges
select oid::regclass::text, a.grantee::regrole, a.privilege_type, a.is_grantable
from relation cross join aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))) a
union all
select p.oid::regprocedure::text, a.grantee::regrole, a.privilege_type, a.is_grantable
from pg_proc p join member m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
union all
select a.attrelid::regclass || '.' || a.attname, g.grantee::regrole, g.privilege_type, g.is_grantable
from pg_attribute a join relation r on r.oid = a.attrelid cross join aclexplode(a.attacl) g
order by 1, 2, 3;
select i.type, i.identity, p.privtype, p.initprivs
from pg_init_privs p join member m on m.classid = p.classoid and m.objid = p.objoid
cross join pg_identify_object(p.classoid, p.objoid, p.objsubid) i order by 1, 2;
\elif :is_dumped
select c::regclass::text, w from pg_extension cross join unnest(extconfig, extcondition) u (c, w) where extname = 'segmenter' order by 1;
\endif
