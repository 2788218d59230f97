-- The id of a received row, unless it is too long to be stored.
-- part of: refresh/delta/received_rows
-- @most@: the length of the longest id in bytes, e.g. 2600
case when pg_catalog.octet_length((s.id)::pg_catalog.text) operator(pg_catalog.<=) @most@ then (s.id)::pg_catalog.text end
