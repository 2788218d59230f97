-- Which segments the segment $1 has left out the members of last, and how far they had got; whether it
-- was refreshed successfully.
-- runs as: set owner
-- params: segment uuid
-- row: lists jsonb, is_refreshed boolean
select t.lists, t.refreshes > 0 as is_refreshed from @state@ t where t.segment_id = $1
