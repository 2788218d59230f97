-- Whether a row of a segment table is a current member. It uses a time, so that it can replace the other one.
-- part of: ops/members/list_members
t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog."timestamp"
