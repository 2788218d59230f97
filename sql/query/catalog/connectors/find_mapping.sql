-- The user mapping of the role $2 for the foreign server $1, or that of PUBLIC: its user (null: PUBLIC)
-- and its options; no row: there is neither.
-- runs as: extension owner
-- params: server oid, user oid
-- row: mapping oid, user_name text, options jsonb
select
    m.oid as mapping,
    r.rolname::text as user_name,
    coalesce(
        (select jsonb_object_agg(o.option_name, o.option_value) from pg_options_to_table(m.umoptions) o), '{}'
    ) as options
from pg_user_mapping m
left join pg_roles r on r.oid = m.umuser
where m.umserver = $1 and m.umuser in ($2, 0)
order by m.umuser = 0
limit 1
