-- The active consumers that workers serve from another place than $3, of which this database is a copy,
-- and whose role (or the set's owner, $2) $1 is a member of, or whose messages are of segments whose
-- owner it is a member of; all if it sees their figures, $4.
-- runs as: set owner
-- params: reader oid, set_owner oid, place text, sees_figures boolean
-- row: name text, cluster text, database text
select c.name::text, split_part(c.home, '/', 1) as cluster, split_part(c.home, '/', 2) as database
from @consumers@ c
where c.home is distinct from $3 and c.actual_end = 'infinity' and jsonb_typeof(c.params -> 'updater') = 'object'
  and (
      $4 or coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@)
      or exists (
          select from @subscriptions@ u
          join @segments@ s on s.id = u.segment_id
          where u.consumer_id = c.id and u.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@)
      )
  )
order by c.name
