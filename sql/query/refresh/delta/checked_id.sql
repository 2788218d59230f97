-- The id of a received row, unless it is too long to be stored.
-- part of: refresh/delta/checked_rows
-- @most@: the length of the longest id in bytes, e.g. 2600
case when pg_catalog.octet_length(q.id) operator(pg_catalog.<=) @most@ then q.id end
