-- The jobs of pg_cron that refresh segments of this database.
-- runs as: extension owner
-- row: jobs text[]
select array_agg(j.jobid::text order by j.jobid)
from cron.job j
where j.active and j.database = current_database() and j.command ~* 'segmenter_(run|refresh)'
