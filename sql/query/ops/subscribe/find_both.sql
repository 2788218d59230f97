-- The active segment $1 and the active consumer $2, as far as the caller may see them.
-- runs as: caller
-- params: segment text, consumer text
-- row: segment_id uuid, consumer_id uuid
select
    (
        select s.id from @segments@ s
        where s.name operator(pg_catalog.=) $1 and s.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamptz
    ) as segment_id,
    (
        select c.id from @consumers@ c
        where c.name operator(pg_catalog.=) $2 and c.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamptz
    ) as consumer_id
