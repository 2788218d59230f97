-- Records that the figures of the segments $1, or of those of their subscriptions $2 that are not null (as many, in the
-- same order), were reset now, when they were $3. What is recorded of resets before is deleted, but rows that another
-- session has locked.
-- runs as: set owner
-- params: segments uuid[], subscriptions uuid[], bases text[]
with reset as (
    select v.segment_id, v.subscription_id, v.base::jsonb as base
    from unnest($1, $2, $3) v (segment_id, subscription_id, base)
), earlier as (
    delete from @counts@ c
    where c.id in (
        select l.id
        from @counts@ l
        join reset n on n.segment_id = l.segment_id and n.subscription_id is not distinct from l.subscription_id
        where l.status is null
        for update of l skip locked
    )
)
insert into @counts@ (segment_id, subscription_id, reset_at, base)
select n.segment_id, n.subscription_id, clock_timestamp(), n.base
from reset n
