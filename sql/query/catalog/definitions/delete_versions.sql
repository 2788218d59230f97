-- Deletes the versions $2 of the segments $1 (as many, in the same order).
-- runs as: set owner
-- params: segments uuid[], versions integer[]
delete from @definitions@ d
using unnest($1, $2) e (segment_id, version)
where d.segment_id = e.segment_id and d.version = e.version
