-- Adds up the counts of segments that have more than $1 rows of them, at most $2 rows. Rows that another session
-- has locked are left to it. Returns whether there were any.
-- runs as: set owner
-- params: kept bigint, limit bigint
-- row: are_any boolean
with many as (
    select c.segment_id from @counts@ c where c.status is not null group by c.segment_id having count(*) > $1
), gone as (
    delete from @counts@ c
    where c.id in (
        select l.id
        from @counts@ l
        where l.status is not null and l.segment_id in (select m.segment_id from many m)
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
