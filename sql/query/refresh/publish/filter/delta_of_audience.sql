-- The delta of an audience whose members are filtered: operations are those of the audience.
-- part of: refresh/publish/list_changed_members
-- @values@: the values that are handed over, each after a comma, e.g. , d.n1
(
    select a.operation, d.id@values@
    from segmenter_delta as d
    join segmenter_audience as a on a.id operator(pg_catalog.=) d.id
    where d.operation operator(pg_catalog.=) any (array['a', 'r', 'c']::pg_catalog."char"[])
)
