-- Active consumers that were asked for their audiences and have not answered: of the role $1, or all if it may act
-- as the set's owner, $2, or sees their figures, $3. Why is for members of the consumer's role (or of the set's
-- owner).
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: consumer text, detail text
select c.name::text as consumer,
    case
        when coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@) then r.error
        else 'members of the consumer''s role can see why'
    end as detail
from @reports@ r
join @consumers@ c on c.id = r.consumer_id
where r.error is not null and c.actual_end = 'infinity' and c.params ? 'list_every'
  -- It may be answering.
  and r.asked_at < clock_timestamp() - interval '1 minute'
  and ($3 or coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@))
order by c.name
