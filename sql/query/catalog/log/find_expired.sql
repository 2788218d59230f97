-- Up to $2 log entries older than $1; entries of deliveries must also be older than $3. The last
-- entry of each action and status of a segment and subscription is left out, unless the segment was
-- deleted.
-- runs as: set owner
-- params: before timestamptz, limit bigint, delivered_before timestamptz
-- row: ids bigint[]
select array_agg(o.id)
from (
    select l.id
    from @log@ l
    where l.processed < $1 and (l.action <> 'deliver' or l.processed < $3)
      and (
        not exists (select from @segments@ s where s.id = l.segment_id)
        or exists (
            select
            from @log@ later
            where later.segment_id = l.segment_id and later.id > l.id
              and (later.action, later.status, later.subscription_id, later.params -> 'attempted')
                is not distinct from (l.action, l.status, l.subscription_id, l.params -> 'attempted')
        )
      )
    order by l.processed
    limit $2
) o
