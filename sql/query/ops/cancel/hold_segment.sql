-- Holds the segment $1 until $2.
-- runs as: caller
-- params: segment uuid, hold_until timestamptz
update @segments@ s set hold_until = $2 where s.id = $1
