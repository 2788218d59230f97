lock table @segments@, @outbox@ in share row exclusive mode
