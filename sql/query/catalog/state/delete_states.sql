-- Deletes the states, counts and attempts of segments that no longer exist: of the segment $1, or of all. A
-- refresh that is recorded as running stays until its end is recorded.
-- runs as: set owner
-- params: segment uuid
with gone as (
    select g.segment_id
    from (
        select t.segment_id from @state@ t
        union select a.segment_id from @attempts@ a
        union select c.segment_id from @counts@ c
    ) g
    where ($1::uuid is null or g.segment_id = $1)
      and not exists (select from @segments@ s where s.id = g.segment_id)
      and not exists (
        select
        from @attempts@ a
        left join @state@ t on t.segment_id = a.segment_id
        where a.segment_id = g.segment_id and a.running_since is not null and a.refreshes = coalesce(t.refreshes, 0)
    )
), attempts as (
    delete from @attempts@ a using gone g where a.segment_id = g.segment_id
), counts as (
    delete from @counts@ c using gone g where c.segment_id = g.segment_id
)
delete from @state@ t using gone g where t.segment_id = g.segment_id
