-- The segments with a retention, retired ones too, whose owner $1 is a member of (all if it sees their figures, $2):
-- the last error of applying it, if there was one.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: id uuid, name text, table_oid oid, owner oid, retention jsonb, error text
select
    s.id,
    s.name,
    s.table_name::oid as table_oid,
    s.owner::oid as owner,
    s.retention,
    case
        when t.prune_error is null or pg_has_role($1, s.owner, @membership@) then t.prune_error
        else 'members of the owner''s role can see why'
    end as error
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.retention <> '{}' and ($2 or pg_has_role($1, s.owner, @membership@))
order by s.name, s.id
