-- Records that what the table of the segment $1 holds is not what the last refresh left: $2.
-- runs as: set owner
-- params: segment uuid, content jsonb
update @state@ t set content = $2 where t.segment_id = $1
