-- Sets columns of the segment $1 to what they are in the definition $2.
-- runs as: caller
-- params: segment uuid, definition jsonb
-- row: is_restored boolean
-- @assignments@: the columns, e.g. description = d.description, refresh_params = d.refresh_params
update @segments@ s
set @assignments@
from jsonb_populate_record(null::@segments@, $2) d
where s.id = $1
returning true as is_restored
