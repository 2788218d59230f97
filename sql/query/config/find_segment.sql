-- The active segment with the name $1, or the segment with the id $2. has_lists: it leaves out members of
-- others, or did so at its last refresh; is_list: others leave out its members; definition: its
-- version; has_kept_out: people are or were kept out of segments of the set; held_until: until when automatic
-- refreshes rest, if they do.
-- runs as: set owner
-- params: name text, id uuid
-- row: id uuid, name text, table_oid oid, owner oid, refresh_params jsonb, guards jsonb, sources jsonb, refresh_cron text, refresh_timezone text, actual boolean, exempt jsonb, is_suppression boolean, has_lists boolean, is_list boolean, definition integer, has_kept_out boolean, held_until timestamptz
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.refresh_params,
    s.guards,
    s.sources,
    s.refresh_cron,
    s.refresh_timezone,
    s.actual_end = 'infinity' as actual,
    nullif(s.exempt, '{}') as exempt,
    s.is_suppression,
    s.exclude <> '[]' or s.priority_group is not null
        or exists (select from @segments@ l where l.is_suppression and l.actual_end = 'infinity' and l.id <> s.id)
        or exists (select from @state@ t where t.segment_id = s.id and t.lists is not null) as has_lists,
    s.is_suppression or s.priority_group is not null
        or exists (
            select from @segments@ d
            where d.exclude <> '[]' and d.actual_end = 'infinity'
              and (d.exclude ? s.name or d.exclude @> jsonb_build_array(jsonb_build_object('segment', s.name)))
        ) as is_list,
    (select max(d.version) from @definitions@ d where d.segment_id = s.id) as definition,
    exists (select from @kept_out@) as has_kept_out,
    case when s.hold_until > clock_timestamp() then s.hold_until end as held_until
from @segments@ s
where (s.name = $1 and s.actual_end = 'infinity') or s.id = $2
