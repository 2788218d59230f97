-- The active consumers that workers serve and whose role (or the set's owner, $2) $1 is a member
-- of: their function and role, or their URL.
-- runs as: set owner
-- params: reader oid, set_owner oid
-- row: name text, function text, role text, url text
select
    c.name::text,
    c.params #>> '{updater,function,name}' as function,
    c.role::text,
    c.params #>> '{updater,http,url}' as url
from @consumers@ c
where (pg_has_role($1, c.role, @membership@) or pg_has_role($1, $2, @membership@))
  and c.actual_end = 'infinity' and jsonb_typeof(c.params -> 'updater') = 'object'
order by c.name
