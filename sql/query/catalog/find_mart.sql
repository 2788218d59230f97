-- The mart of the set that the relation $1 belongs to, or, if that is null, of the extension's own
-- set; no row: there is none.
-- runs as: extension owner
-- params: relation oid
-- row: mart oid
select b.mart::oid
from @registry_relations@ b
where b.relation = $1
union all
select r.mart::oid
from pg_extension e
join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
join @registry@ r on d.classid = 'pg_class'::regclass and r.mart = d.objid
where e.extname = 'segmenter' and $1 is null
