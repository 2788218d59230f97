-- The privileges among $3 that the role $2 lacks on the table $1.
-- runs as: set owner
-- params: table oid, role oid, privileges text[]
-- row: missing text[]
select array_agg(p.privilege order by p.place) as missing
from unnest($3::text[]) with ordinality p (privilege, place)
where not has_table_privilege($2, $1, p.privilege)
