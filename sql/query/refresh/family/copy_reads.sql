-- Records for segments of a family that they read what the family $1 reads.
-- runs as: set owner
-- params: family uuid, segments uuid[]
with family as (
    select a.reads, a.lineage from @attempts@ a where a.segment_id = $1
), free as materialized (
    select a.segment_id
    from @attempts@ a, family f
    where a.segment_id = any ($2) and (a.reads, a.lineage) is distinct from (f.reads, f.lineage)
    for update of a skip locked
)
update @attempts@ a
set reads = f.reads, lineage = f.lineage
from free, family f
where a.segment_id = free.segment_id
