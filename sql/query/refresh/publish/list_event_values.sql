-- What has happened to the members of a delta, in the order of list_events, with values as they are: what an
-- event has, and the old and the new values.
-- runs as: table owner
-- params: segment uuid, at timestamp, reason text
-- row: operation "char", id text, …
-- @member@: what an event has, e.g. d.id
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @old@: the old values, e.g. d.id
-- @new@: the new values, e.g. d.id
select d.operation, d.id, @member@, @old@, @new@
from @delta@
cross join lateral (
    select
        case d.operation
            when 'r'::pg_catalog."char" then 'exited'
            when 'a'::pg_catalog."char" then 'entered'
            else 'changed'
        end as event,
        $2 as at,
        $3 as reason,
        '{}'::pg_catalog.jsonb as old
) as e
where d.operation operator(pg_catalog.=) any (array['a', 'r', 'c']::pg_catalog."char"[])
order by case d.operation when 'r'::pg_catalog."char" then 1 when 'c'::pg_catalog."char" then 2 else 3 end
