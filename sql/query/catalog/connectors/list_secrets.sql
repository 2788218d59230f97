-- The names of all secrets that connectors have.
-- runs as: extension owner
-- row: names text[]
select array_agg(distinct s.name order by s.name)
from @connectors@ c
cross join lateral jsonb_object_keys(c.spec -> 'secrets') s (name)
