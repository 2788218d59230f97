-- The mart of the set that the relation $1 belongs to.
select r.mart::oid
from @registry@ r
where $1 in (r.mart, r.segments, r.consumers, r.subscriptions, r.log, r.outbox, r.deliveries)
