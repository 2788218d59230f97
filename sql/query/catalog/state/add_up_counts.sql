-- Adds up the counts of the segments $1, at most $2 rows. Rows that another session has locked are left to it.
-- Returns whether there were any.
-- runs as: set owner
-- params: segments uuid[], limit bigint
-- row: are_any boolean
with gone as (
    delete from @counts@ c
    where c.id in (
        select l.id
        from @counts@ l
        where l.status is not null and l.segment_id = any ($1)
        limit $2
        for update skip locked
    )
    returning c.segment_id, c.status, c.refreshes
), added as (
    insert into @counts@ (segment_id, status, refreshes)
    select g.segment_id, g.status, sum(g.refreshes)
    from gone g
    group by g.segment_id, g.status
    returning 1
)
select exists (select from added) as are_any
