-- The segment tables with many dead rows that were never vacuumed, of active segments whose owner
-- $1 is a member of (all if it sees their figures, $2).
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: table_name text
select distinct t.relid::regclass::text as table_name
from @segments@ s
join pg_stat_all_tables t on t.relid = s.table_name
where s.actual_end = 'infinity' and ($2 or pg_has_role($1, s.owner, @membership@))
  and t.vacuum_count + t.autovacuum_count = 0
  and t.n_dead_tup > 50 + 0.2 * t.n_live_tup
order by table_name
