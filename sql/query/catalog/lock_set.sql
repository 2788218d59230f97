-- Locks the relations of a set that is to be dropped.
-- runs as: caller
lock table @segments@, @outbox@ in share row exclusive mode
