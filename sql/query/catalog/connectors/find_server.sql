-- The foreign server $1, whether it is one of Segmenter, its options, and whether the role $2 may use
-- it; no row: there is none of that name.
-- runs as: extension owner
-- params: name text, user oid
-- row: server oid, is_ours boolean, may_use boolean, options jsonb
select
    s.oid as server,
    w.fdwname = 'segmenter_http' as is_ours,
    has_server_privilege($2, s.oid, 'usage') as may_use,
    coalesce(
        (select jsonb_object_agg(o.option_name, o.option_value) from pg_options_to_table(s.srvoptions) o), '{}'
    ) as options
from pg_foreign_server s
join pg_foreign_data_wrapper w on w.oid = s.srvfdw
where s.srvname = $1
