-- The active segments, other than $1, that read its table $2, or it under its name $3, as far as it is known, whose sources name
-- it, that belong to it as a family, or that leave out its members; if it is a suppression list, those that are exempt from it ($5) or
-- are not: the names of those whose owner the role $4 may act as, and the number of the others.
-- runs as: set owner
-- params: segment uuid, table oid, name text, caller oid, exempt boolean
-- row: names text[], hidden bigint
select
    coalesce(array_agg(s.name order by s.name) filter (where r.is_visible), '{}') as names,
    count(*) filter (where r.is_visible is not true) as hidden
from @segments@ s
left join @attempts@ k on k.segment_id = s.id
cross join lateral (select pg_has_role($4, s.owner, @membership@) as is_visible) r
where s.actual_end = 'infinity' and s.id <> $1
  and (
      (
          select format('%I.%I', n.nspname, c.relname)
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          where c.oid = $2
      ) = any (k.reads)
      or k.lineage @> jsonb_build_array(jsonb_build_object('segment', $3))
      or s.sources @> jsonb_build_array(jsonb_build_object('segment', $3))
      or s.refresh_params ->> 'family' = $3 and s.owner = (select f.owner from @segments@ f where f.id = $1)
      or s.exclude ? $3 or s.exclude @> jsonb_build_array(jsonb_build_object('segment', $3))
      or not s.is_suppression and s.exempt ? $3 = $5
  )
