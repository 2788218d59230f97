-- Marks the messages that erasures wrote.
-- runs as: set owner
update @outbox@ o
set is_erasure = true
where exists (
    select from @log@ l
    where l.action = 'erase' and l.subscription_id = o.subscription_id and l.run_id = o.run_id
)
