-- Sets the status of the subscriptions $1 to `queued`. Rows that are locked are skipped, so that a
-- refresh and a consumer never wait for each other.
-- runs as: set owner
-- params: subscriptions uuid[]
update @subscriptions@ u
set status = 'queued'
where u.id in (
    select s.id
    from @subscriptions@ s
    where s.id = any ($1) and s.status in ('not uploaded', 'uploaded')
    for no key update skip locked
)
