-- Whether an active segment other than $2 has the name $1.
-- runs as: set owner
-- params: name text, id uuid
-- row: is_taken boolean
select exists (select from @segments@ s where s.name = $1 and s.actual_end = 'infinity' and s.id <> $2)
