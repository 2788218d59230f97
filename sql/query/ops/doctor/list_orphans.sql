-- The active segments of families that are not there: no active segment of their owner has the name and is a family, or
-- it has another table; whose owner the role $1 may act as, grouped by family. Null: of all owners.
-- runs as: set owner
-- params: reader oid
-- row: family text, segments text[]
select s.refresh_params ->> 'family' as family, array_agg(s.name order by s.name) as segments
from @segments@ s
where s.refresh_params ? 'family' and s.actual_end = 'infinity'
  and ($1::oid is null or pg_has_role($1, s.owner, @membership@))
  and not exists (
    select
    from @segments@ f
    where f.name = s.refresh_params ->> 'family' and f.owner = s.owner and f.table_name = s.table_name and f.actual_end = 'infinity'
      and (f.refresh_params @> '{"query": {"family": true}}' or f.refresh_params @> '{"incremental": {"family": true}}')
  )
group by s.refresh_params ->> 'family'
order by 1
