-- Deletes the row of the segment $1.
-- runs as: set owner
-- params: segment uuid
delete from @segments@ s
where s.id = $1
