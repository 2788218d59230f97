-- The names of the mart $1 and its log, and the owner of the set. The log's name is null where the
-- log was dropped.
-- runs as: extension owner
-- params: mart oid
-- row: names text[]
select array[
    r.mart::text,
    case when exists (select from pg_class c where c.oid = r.log) then r.log::text end,
    pg_get_userbyid(m.relowner)::text
]
from @registry@ r
join pg_class m on m.oid = r.mart
where r.mart = $1
