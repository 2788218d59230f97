-- Creates a consumer.
-- runs as: caller
-- params: name text, role regrole
-- row: id uuid
insert into @consumers@ (name, role) values ($1, $2) returning id
