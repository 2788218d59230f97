-- The active consumers that workers serve and whose role (or the set's owner, $2) $1 is a member
-- of (all if it sees their figures, $3): their function and role, their URL, or their foreign server.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: name text, function text, role text, url text, acts text, server text
select
    c.name::text,
    c.params #>> '{updater,function,name}' as function,
    c.role::oid::text as role,
    c.params #>> '{updater,http,url}' as url,
    -- Others do not get to see the URL.
    case when a.acts then 'true' end as acts,
    case when jsonb_typeof(c.params #> '{updater,server}') = 'string' then c.params #>> '{updater,server}' end as server
from @consumers@ c
cross join lateral (
    select coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@) as acts
) a
where ($3 or a.acts)
  and c.actual_end = 'infinity' and jsonb_typeof(c.params -> 'updater') = 'object'
order by c.name
