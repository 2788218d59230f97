-- When the own transaction began.
-- runs as: caller
-- row: began timestamptz
select pg_catalog.now()
