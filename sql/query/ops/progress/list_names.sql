-- The names of the segments $2, of those whose owner $1 is a member of (null: of all).
-- runs as: set owner
-- params: reader oid, segments uuid[]
-- row: id uuid, name text
select s.id, s.name::text
from @segments@ s
where s.id = any ($2) and ($1::oid is null or pg_has_role($1, s.owner, @membership@))
