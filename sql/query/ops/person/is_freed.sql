-- Whether a period has ended after the time $6, and not after the time $5.
-- part of: ops/person/find_listed
t.actual_end operator(pg_catalog.<=) $5 and t.actual_end operator(pg_catalog.>) $6
