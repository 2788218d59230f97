-- Locks the segments and the outbox of a set that is about to be dropped.
-- runs as: caller
lock table @segments@, @outbox@ in share row exclusive mode
