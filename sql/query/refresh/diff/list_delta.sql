-- The members of a delta, with their old and new values, as segmenter_diff returns them.
-- runs as: table owner
-- params: segment uuid
-- row: operation text, id text, old jsonb, new jsonb
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @old@: the old values with the names of their columns, e.g. d.o1 as hash_email
-- @new@: the new values with the names of their columns, e.g. d.n1 as hash_email
select
    case
        when d.operation operator(pg_catalog.=) 'a'::pg_catalog."char" then 'added'
        when d.operation operator(pg_catalog.=) 'r'::pg_catalog."char" then 'removed'
        else 'changed'
    end::pg_catalog.text as operation,
    (d.id)::pg_catalog.text as id,
    case
        when d.operation operator(pg_catalog.<>) 'a'::pg_catalog."char"
            then (select pg_catalog.to_jsonb(r) from (select @old@) as r)
    end as old,
    case
        when d.operation operator(pg_catalog.<>) 'r'::pg_catalog."char"
            then (select pg_catalog.to_jsonb(r) from (select @new@) as r)
    end as new
from @delta@
where d.operation operator(pg_catalog.=) any (array['a', 'r', 'c']::pg_catalog."char"[])
