-- The active subscriptions without the consumer's consent: the segment's owner is not a member of the
-- consumer's role, nor of one of its subscribers. Those to segments whose owner $1 is a member of (all if it sees their figures, $3), and
-- those of consumers whose role (or the set's owner, $2) it is a member of.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: consumer text, target text, segment text, owner text
select c.name::text as consumer, u.target::text, s.name::text as segment, s.owner::text as owner
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
where u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity'
  and not pg_has_role(s.owner, coalesce(c.role, $2), @membership@)
  and not pg_has_role(s.owner, $2, @membership@)
  and not exists (select from unnest(c.subscribers) a (role) where pg_has_role(s.owner, a.role, @membership@))
  and (
      $3
      or pg_has_role($1, s.owner, @membership@)
      or coalesce(pg_has_role($1, c.role, @membership@), false)
      or pg_has_role($1, $2, @membership@)
  )
order by c.name, u.target, s.name
