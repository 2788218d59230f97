-- Has workers of this place, $4, deliver to the consumers that are served from another one, or to that
-- with the name $3 of them: those whose role, or the set's owner $2, the role $1 is a member of. Returns
-- their number.
-- runs as: set owner
-- params: caller oid, set_owner oid, consumer text, place text
-- row: consumers bigint
with resumed as (
    update @consumers@ c
    set home = $4
    where c.home is distinct from $4 and ($3::text is null or c.name = $3)
      and (coalesce(pg_has_role($1, c.role, @membership@), false) or pg_has_role($1, $2, @membership@))
    returning c.id
)
select count(*) from resumed
