-- What has happened to the members of a delta: who was removed has exited, who was added has entered, and
-- whose values to hand over are others has changed. Those who have exited come first, those who have
-- entered last. The id, and what an event has.
-- runs as: table owner
-- params: segment uuid, at timestamp, reason text
-- row: id text, …
-- @member@: what an event has, e.g. d.id
-- @delta@: the delta with the alias d, e.g. segmenter_delta as d
-- @old@: names and old values, e.g. 'id', d.id
-- @new@: names and new values, e.g. 'id', d.id
select d.id, @member@
from @delta@
cross join lateral (
    select
        case d.operation
            when 'r'::pg_catalog."char" then 'exited'
            when 'a'::pg_catalog."char" then 'entered'
            else 'changed'
        end as event,
        $2 as at,
        $3 as reason
) as e
cross join lateral (
    -- Of a changed member: the old values of those that are others now.
    select case e.event
        when 'changed' then (
            select coalesce(pg_catalog.jsonb_object_agg(o.key, o.value), '{}')
            from pg_catalog.jsonb_each(pg_catalog.jsonb_build_object(@old@)) as o
            where o.value operator(pg_catalog.<>) (pg_catalog.jsonb_build_object(@new@) operator(pg_catalog.->) o.key)
        )
        else '{}'
    end as old
) as v
where d.operation operator(pg_catalog.=) any (array['a', 'r']::pg_catalog."char"[])
   or (
       d.operation operator(pg_catalog.=) 'c'::pg_catalog."char"
       and pg_catalog.jsonb_build_object(@old@) operator(pg_catalog.<>) pg_catalog.jsonb_build_object(@new@)
   )
order by case d.operation when 'r'::pg_catalog."char" then 1 when 'c'::pg_catalog."char" then 2 else 3 end
