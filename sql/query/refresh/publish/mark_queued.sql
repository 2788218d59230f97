-- Says of the subscriptions $1 that messages wait. One whose row somebody else has in hand is left
-- to him: neither a refresh nor a consumer waits for the other.
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
