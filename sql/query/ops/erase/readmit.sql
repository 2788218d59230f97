-- Readmits the person with the id $1, who was kept out: with $2 wherever that holds, else to the segments
-- of the roles that the role $3 may act as. Returns whether the person was kept out of any.
-- runs as: set owner
-- params: id text, is_whole boolean, caller oid
-- row: was_kept_out boolean
-- @secret_key@: catalog/secret_key, e.g. select null::bytea as inner_key, null::bytea as outer_key
with readmitted as (
    update @kept_out@ k
    set hash = null
    from (
@secret_key@
    ) s
    where k.hash = sha256(s.outer_key || sha256(s.inner_key || convert_to($1, 'UTF8')))
      and ($2 or k.owner <> 0::oid and pg_has_role($3, k.owner, @membership@))
    returning k.id
)
select exists (select from readmitted r) as was_kept_out
