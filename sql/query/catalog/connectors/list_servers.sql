-- The foreign servers that use the connector $1.
-- runs as: extension owner
-- params: connector text
-- row: names text[]
select array_agg(quote_ident(s.srvname) order by s.srvname)
from pg_foreign_server s
join pg_foreign_data_wrapper w on w.oid = s.srvfdw and w.fdwname = 'segmenter_http'
where exists (
    select from pg_options_to_table(s.srvoptions) o
    where o.option_name = 'connector' and o.option_value = $1
)
