-- Active incremental segments whose owner $1 is a member of (all if it sees their figures, $2), and whose last refresh reported missed
-- changes, a watermark that does not advance, or watched tables that are not captured, and why.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, missed text, kept text, incomplete text, why text, full_at text
select s.name::text, i.missed, i.kept, i.incomplete, i.why, i.full_at
from @segments@ s
join @state@ t on t.segment_id = s.id
cross join lateral (
    select
        nullif(t.checkpoint ->> 'missed', '0') as missed,
        t.checkpoint ->> 'kept' as kept,
        t.checkpoint ->> 'incomplete' as incomplete,
        t.checkpoint ->> 'why' as why,
        t.checkpoint ->> 'full_at' as full_at
) i
where s.actual_end = 'infinity' and s.refresh_params ? 'incremental' and ($2 or pg_has_role($1, s.owner, @membership@))
  and coalesce(i.missed, i.kept, i.incomplete) is not null
order by s.name
