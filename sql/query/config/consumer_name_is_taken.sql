-- Whether an active consumer other than $2 has the name $1.
-- runs as: set owner
-- params: name text, id uuid
-- row: is_taken boolean
select exists (select from @consumers@ c where c.name = $1 and c.actual_end = 'infinity' and c.id <> $2)
