-- The active consumers that workers serve and whose role (or the set's owner, $2) $1 is a member
-- of (all if it sees their figures, $3): their function and role, or their URL.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: name text, function text, role text, url text, acts text
select
    c.name::text,
    c.params #>> '{updater,function,name}' as function,
    c.role::text,
    c.params #>> '{updater,http,url}' as url,
    -- Others do not get to see the URL.
    case when a.acts then 'true' end as acts
from @consumers@ c
cross join lateral (
    select coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@) as acts
) a
where ($3 or a.acts)
  and c.actual_end = 'infinity' and jsonb_typeof(c.params -> 'updater') = 'object'
order by c.name
