-- A time as the local time of the zone that the statement runs in.
-- runs as: set owner
-- params: at timestamptz
-- row: at timestamp
select $1::timestamp as at
