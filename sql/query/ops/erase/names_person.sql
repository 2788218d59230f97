-- Whether the row of the segment $1 itself names a person, by the patterns $2, in a column other than $3.
-- runs as: set owner
-- params: segment uuid, patterns text[], closed text[]
-- row: is_named boolean
select exists (
    select
    from @segments@ s
    cross join lateral jsonb_each(to_jsonb(s)) c
    where s.id = $1 and not c.key = any ($3) and c.value::text ~ any ($2)
) as is_named
