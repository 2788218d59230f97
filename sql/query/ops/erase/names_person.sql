-- Whether the row of the segment $1 itself names a person, by the patterns $2, in a column other than $3; and
-- the subscriptions to it, ended ones too, whose filter does.
-- runs as: set owner
-- params: segment uuid, patterns text[], closed text[]
-- row: is_named boolean, subscriptions text[]
select
    exists (
        select
        from @segments@ s
        cross join lateral jsonb_each(to_jsonb(s)) c
        where s.id = $1 and not c.key = any ($3) and c.value::text ~ any ($2)
    ) as is_named,
    array(
        select format('"%s" for "%s" of segment "%s"', c.name, u.target, s.name)
        from @subscriptions@ u
        join @consumers@ c on c.id = u.consumer_id
        join @segments@ s on s.id = u.segment_id
        where u.segment_id = $1 and u.params ->> 'where' ~ any ($2)
        order by c.name, u.target, u.id
    ) as subscriptions
