-- The other active segments of the priority group $2: whether one has the priority $3 of the segment $1,
-- and whether each belongs to a role that the owner of $1 may act as, or the other way round.
-- runs as: set owner
-- params: segment uuid, priority_group text, priority integer
-- row: same text, strange_owner oid
select
    min(r.name) filter (where r.priority = $3) as same,
    min(r.owner::oid) filter (
        where (pg_has_role(s.owner, r.owner, @membership@) or pg_has_role(r.owner, s.owner, @membership@)) is not true
    ) as strange_owner
from @segments@ s
join @segments@ r on r.priority_group = $2 and r.actual_end = 'infinity' and r.id <> s.id
where s.id = $1
