-- Deletes the messages $1, except those that are locked by another transaction. Since they were found
-- another session may have deleted them, and written other ones under their ids, if the sequence was
-- set back: what is not delivered stays.
-- runs as: set owner
-- params: ids bigint[]
delete from @outbox@ o
where o.id in (
    select l.id
    from @outbox@ l
    left join @deliveries@ d on d.subscription_id = l.subscription_id
    where l.id = any ($1) and (d.subscription_id is null or l.id <= d.delivered_through)
    for update of l skip locked
)
