-- The delivery state of the active subscriptions to segments whose owner $1 is a member of, or to
-- consumers whose role (or the set's owner, $2) it is a member of, with the consumer's name, and how
-- many messages wait; of all if it may see figures of all ($3). What the consumer answered is for members of its role: for the
-- segment's owner an error names the host of a URL at most, for others it is null, and there is no
-- receipt.
-- runs as: set owner
-- params: reader oid, set_owner oid, sees_figures boolean
-- row: subscription_id uuid, pending_messages bigint, delivered_at timestamptz, last_receipt jsonb, last_error text, consumer text
select
    u.id as subscription_id,
    (
        select count(*)
        from @outbox@ o
        where o.subscription_id = u.id and o.id > coalesce(d.delivered_through, 0)
    ) as pending_messages,
    d.delivered_at,
    case when a.acts then d.last_receipt end as last_receipt,
    case
        when a.acts or d.last_error is null then d.last_error
        when a.owns then concat_ws(': ',
            substring(c.params #>> '{updater,http,url}' from '(?i)^(https?://[^/?#@]+)(?:[/?#]|$)'),
            'the delivery failed; members of the consumer''s role can see why'
        )
    end as last_error,
    c.name::text as consumer
from @subscriptions@ u
left join @deliveries@ d on d.subscription_id = u.id
join @segments@ s on s.id = u.segment_id
join @consumers@ c on c.id = u.consumer_id
cross join lateral (
    select coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@) as acts,
        pg_has_role($1, s.owner, @membership@) as owns
) a
where u.actual_end = 'infinity' and (a.acts or a.owns or $3)
