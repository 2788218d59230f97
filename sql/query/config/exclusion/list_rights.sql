-- The active segments named $2 that the segment $1 leaves out, in their order: whether the role $3 or the
-- owner of $1 may know of them, and whether this owner may read their members, by their ids and the
-- columns in $4 (for each name a list that is separated by commas). is_open: this owner may act as theirs.
-- runs as: set owner
-- params: segment uuid, names text[], caller oid, columns text[]
-- row: name text, id uuid, is_suppression boolean, is_known boolean, table_oid oid, reader oid, is_open boolean, may_read boolean, is_family boolean
select
    n.name,
    l.id,
    l.is_suppression,
    coalesce(
        pg_has_role($3, l.owner, @membership@) or has_any_column_privilege($3, l.table_name, 'select')
            or r.may_act or has_any_column_privilege(s.owner, l.table_name, 'select'),
        false
    ) as is_known,
    l.table_name::oid as table_oid,
    s.owner::oid as reader,
    coalesce(r.may_act, false) as is_open,
    coalesce(r.may_act or c.may_read, false) as may_read,
    coalesce(
        l.refresh_params @> '{"query": {"family": true}}' or l.refresh_params @> '{"incremental": {"family": true}}',
        false
    ) as is_family
from @segments@ s
cross join unnest($2, $4) with ordinality n (name, columns, place)
left join @segments@ l on l.name = n.name and l.actual_end = 'infinity'
left join lateral (select pg_has_role(s.owner, l.owner, @membership@) as may_act) r on true
left join lateral (
    select bool_and(has_column_privilege(s.owner, l.table_name, c.name, 'select')) as may_read
    from unnest(string_to_array('id,segment_id,actual_end,' || n.columns, ',')) c (name)
) c on true
where s.id = $1
order by n.place
