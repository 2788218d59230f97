-- The subscriptions to segments whose owner $1 is a member of, with what was handed over to them:
-- all, those to the segment $2, or the subscription $3. Ended ones are included, because their end
-- may still have to be handed over.
-- runs as: set owner
-- params: reader oid, segment uuid, subscription uuid
-- row: id uuid, consumer_id uuid, segment_id uuid, segment text, target text, name text, params jsonb, cron text, timezone text, external_id text, consumer text, consumer_params jsonb, is_actual boolean, was_served boolean, last_operations jsonb, last_fields jsonb, failed_fields jsonb
select
    u.id,
    u.consumer_id,
    u.segment_id,
    s.name as segment,
    u.target,
    u.name,
    u.params,
    u.cron,
    u.timezone,
    u.external_id,
    c.name as consumer,
    c.params as consumer_params,
    u.actual_end = 'infinity' and s.actual_end = 'infinity' and c.actual_end = 'infinity' as is_actual,
    d.subscription_id is not null as was_served,
    good.operations as last_operations,
    good.fields as last_fields,
    case when last.status = 'failed' then last.fields end as failed_fields
from @subscriptions@ u
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
left join @deliveries@ d on d.subscription_id = u.id
left join lateral (
    select l.status, l.params -> 'fields' as fields
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over'
    order by l.id desc
    limit 1
) last on true
left join lateral (
    select l.params -> 'operations' as operations, l.params -> 'fields' as fields
    from @log@ l
    where l.subscription_id = u.id and l.action = 'hand over' and l.status = 'ok'
    order by l.id desc
    limit 1
) good on true
where pg_has_role($1, s.owner, @membership@)
  and ($2::uuid is null or u.segment_id = $2)
  and ($3::uuid is null or u.id = $3)
order by s.name, c.name, u.target, u.id
