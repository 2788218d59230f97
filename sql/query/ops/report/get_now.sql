-- The time of the transaction, as local time of the zone of the set.
-- runs as: set owner
-- row: now text
select to_char(now(), 'YYYY-MM-DD HH24:MI') as now
