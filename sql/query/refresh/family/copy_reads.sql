-- Records for the active segments of the family $1, which has the name $2 and the owner $3, that they read what it reads.
-- runs as: set owner
-- params: family uuid, name text, owner oid
with family as (
    select a.reads, a.lineage from @attempts@ a where a.segment_id = $1
), free as materialized (
    select a.segment_id
    from @attempts@ a, family f
    where a.segment_id in (
        select s.id from @segments@ s
        where s.refresh_params ->> 'family' = $2 and s.owner::oid = $3 and s.actual_end = 'infinity'
    ) and (a.reads, a.lineage) is distinct from (f.reads, f.lineage)
    for update of a skip locked
)
update @attempts@ a
set reads = f.reads, lineage = f.lineage
from free, family f
where a.segment_id = free.segment_id
