-- Whether a row of a segment table is a member at the time @at@.
-- part of: ops/members/list_members
-- @at@: a parameter, e.g. $2
t.actual_begin operator(pg_catalog.<=) @at@ and t.actual_end operator(pg_catalog.>) @at@
