-- Counts a refresh of the segment $1 that did not succeed, with its status $2: failed, refused, waiting or
-- skipped.
-- runs as: set owner
-- params: segment uuid, status text
insert into @counts@ (segment_id, status, refreshes) values ($1, $2, 1)
