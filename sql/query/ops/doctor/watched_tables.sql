-- The tables that active segments of the set name in "watch".
-- runs as: set owner
-- row: tables oid[]
select array_agg(distinct w.relation::oid) filter (where w.relation is not null)
from @segments@ s
cross join lateral jsonb_array_elements(
    case jsonb_typeof(s.refresh_params #> '{incremental,watch}')
        when 'array' then s.refresh_params #> '{incremental,watch}'
        else '[]'
    end
) e (entry)
cross join lateral (
    select case jsonb_typeof(e.entry) when 'string' then e.entry #>> '{}' else e.entry ->> 'table' end as name
) n
cross join lateral (
    -- A text that cannot be a name would raise an error: the refresh of its segment says so.
    select case
        when n.name ~ '^("[^"]+"|[[:alnum:]_$]+)([.]("[^"]+"|[[:alnum:]_$]+))?$' then to_regclass(n.name)
    end as relation
) w
where s.actual_end = 'infinity'
