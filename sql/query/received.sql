-- What the segment should hold, as the new side of a delta.
select (s.id)::pg_catalog.text collate pg_catalog."C" as id@new_values@
from (
@query@
) as s
