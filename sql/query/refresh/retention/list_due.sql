-- The segments with a retention, retired ones too; with $3 those that it was not applied to for an hour, or where
-- rows are left. Only those whose owner $1 is a member of, if it is given; at most $2, those that have waited
-- longest first.
-- runs as: set owner
-- params: reader oid, limit bigint, only_due boolean
-- row: id uuid, name text, owner oid
select s.id, s.name, s.owner::oid as owner
from @segments@ s
left join @state@ t on t.segment_id = s.id
where s.retention <> '{}' and ($1 is null or pg_has_role($1, s.owner, @membership@))
  and (not $3 or t.pruned_at is null or t.pruned_at not between now() - interval '1 hour' and now() + interval '10 seconds')
order by t.pruned_at nulls first, s.id
limit $2
