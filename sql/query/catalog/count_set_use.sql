-- The number of active segments whose owner $1 is a member of, and the number of undelivered
-- messages.
-- runs as: set owner
-- params: reader oid
-- row: counts bigint[]
select array[
    (select count(*) from @segments@ s where s.actual_end = 'infinity' and pg_has_role($1, s.owner, @membership@)),
    (
        select count(*)
        from @outbox@ o
        join @subscriptions@ u on u.id = o.subscription_id
        left join @deliveries@ d on d.subscription_id = u.id
        where o.id > coalesce(d.delivered_through, 0)
    )
]
