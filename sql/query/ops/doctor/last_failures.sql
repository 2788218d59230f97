-- The active segments whose owner $1 is a member of (all if it sees their figures, $2) and whose last refresh was not ok, with its
-- status, the reason and whether it is refreshed automatically (null: by hand only).
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, status text, message text, automatic text
select
    s.name::text,
    a.status::text,
    case
        when pg_has_role($1, s.owner, @membership@) then a.message
        else 'members of the owner''s role can see why'
    end as message,
    case when s.refresh_auto then 'automatic' end as automatic
from @segments@ s
left join @state@ t on t.segment_id = s.id
join @attempts@ a on a.segment_id = s.id and a.refreshes = coalesce(t.refreshes, 0)
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@)) and a.status is not null
order by s.name
