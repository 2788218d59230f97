-- Those of the segments $2 that read the table of the segment $1 themselves, through other segments or
-- not, as far as it is known.
-- runs as: set owner
-- params: segment uuid, upstream uuid[]
-- row: ids uuid[]
with recursive reading (upstream, id) as (
    select u.id, u.id from unnest($2) u (id)
    union
    select r.upstream, s.id
    from reading r
    join @attempts@ k on k.segment_id = r.id
    cross join unnest(k.reads) n (name)
    join @segments@ s on s.table_name = to_regclass(n.name) and s.actual_end = 'infinity'
)
select array_agg(distinct r.upstream) from reading r where r.id = $1
