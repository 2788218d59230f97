-- The ids of added members of the relation segmenter_delta, and with $2 of changed ones, whose people are
-- kept out of the segments of the role $1, or of the whole set.
-- runs as: set owner
-- params: owner oid, changed_too boolean
-- row: id text
-- @secret_key@: catalog/secret_key, e.g. select null::bytea as inner_key, null::bytea as outer_key
select d.id
from segmenter_delta d
cross join (
@secret_key@
) s
where (d.operation = 'a' or $2 and d.operation = 'c')
  and exists (
    select
    from @kept_out@ k
    where k.hash = sha256(s.outer_key || sha256(s.inner_key || convert_to(d.id, 'UTF8')))
      and k.owner = any (array[$1, 0::oid])
  )
