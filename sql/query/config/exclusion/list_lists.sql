-- The segments whose members the segment $1 leaves out, by which columns, and their gains and losses
-- so far, and how many there are (null: not known). is_tracked: their members are written by refreshes, which count these; is_priority:
-- only the priority makes it a list. is_open: it is a suppression list, which holds for all, or the owner
-- of $1 may act as its owner. may_read: so it is, or the owner of $1 has the privileges to read it.
-- runs as: set owner
-- params: segment uuid
-- row: id uuid, name text, table_oid oid, owner oid, by text[], gains bigint, losses bigint, members bigint, is_tracked boolean, is_priority boolean, is_open boolean, may_read boolean
-- @edges@: config/exclusion/list_edges, e.g. select null::uuid as segment_id, null::uuid as list_id, '{id}'::text[] as by, 'named' as kind
select
    l.id,
    l.name,
    l.table_name::oid as table_oid,
    l.owner::oid as owner,
    e.by,
    coalesce(t.gains, 0) as gains,
    coalesce(t.losses, 0) as losses,
    t.members,
    l.refresh_params <> '{}' as is_tracked,
    e.is_priority,
    r.is_open,
    r.is_open
        or not exists (
            select
            from pg_attribute a
            where a.attrelid = l.table_name and a.attname = any (e.by || '{id,segment_id,actual_end}'::text[])
              and not has_column_privilege(s.owner, l.table_name, a.attnum, 'select')
        ) as may_read
from (
    select
        x.list_id,
        array_agg(distinct b.name order by b.name) as by,
        bool_or(x.kind = 'suppression') as is_suppression,
        bool_and(x.kind = 'priority') as is_priority
    from (
@edges@
    ) x
    cross join unnest(x.by) b (name)
    where x.segment_id = $1
    group by x.list_id
) e
join @segments@ l on l.id = e.list_id
join @segments@ s on s.id = $1
cross join lateral (select e.is_suppression or pg_has_role(s.owner, l.owner, @membership@) as is_open) r
left join @state@ t on t.segment_id = l.id
order by l.name
