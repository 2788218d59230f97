drop table @deliveries@, @subscriptions@, @consumers@, @outbox@, @log@, @segments@, @mart@
