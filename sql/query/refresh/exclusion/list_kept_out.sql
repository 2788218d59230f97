-- Those of the ids in the relation segmenter_ids whose people are kept out of the segments of the role $1, or
-- of the whole set, as members of a list.
-- runs as: set owner
-- params: owner oid
-- row: id text, hash_email text, hash_phone text
-- @secret_key@: catalog/secret_key, e.g. select null::bytea as inner_key, null::bytea as outer_key
select i.id, null::text as hash_email, null::text as hash_phone
from segmenter_ids i
cross join (
@secret_key@
) s
where exists (
    select
    from @kept_out@ k
    where k.hash = sha256(s.outer_key || sha256(s.inner_key || convert_to(i.id, 'UTF8')))
      and k.owner = any (array[$1, 0::oid])
)
