-- The number of active segments, the number of those whose owner $1 is a member of, and the owners of
-- the others.
-- runs as: set owner
-- params: reader oid
-- row: segments bigint, seen bigint, owners text[]
select
    count(*) as segments,
    count(*) filter (where pg_has_role($1, s.owner, @membership@)) as seen,
    array_agg(distinct s.owner::text order by s.owner::text) filter (where not pg_has_role($1, s.owner, @membership@)) as owners
from @segments@ s
where s.actual_end = 'infinity'
