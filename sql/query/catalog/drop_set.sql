-- Drops the relations of a set.
-- runs as: caller
drop table @deliveries@, @subscriptions@, @consumers@, @outbox@, @log@, @segments@, @mart@
