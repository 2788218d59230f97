-- When the person $1 was erased and kept out: of the whole set, or of the segments of a role as which the role $2 may
-- act, or which is $3.
-- runs as: set owner
-- params: id text, reader oid, owner oid
-- row: at timestamptz, role text
-- @secret_key@: catalog/secret_key, e.g. select null::bytea as inner_key, null::bytea as outer_key
select k.kept_at as at, case when k.owner <> 0 then k.owner_name end as role
from @kept_out@ k
cross join (
@secret_key@
) s
where k.hash = sha256(s.outer_key || sha256(s.inner_key || convert_to($1, 'UTF8')))
  and (k.owner = 0 or k.owner = $3 or $3 is null and pg_has_role($2, k.owner, @membership@))
order by k.kept_at, role
