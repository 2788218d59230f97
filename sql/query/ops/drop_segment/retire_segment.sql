-- Retires the segment $1.
-- runs as: set owner
-- params: segment uuid
update @segments@ s
set actual_end = now()
where s.id = $1 and s.actual_end = 'infinity'
