-- The active rules of alerts of roles that $1 is a member of, and those for consumers whose role, or the set's owner $2,
-- it is: the rule, whether its role is there, the names of segments that do not exist for it, whether it covers none,
-- and whether its alerts are stuck or have been waiting for a day. What the consumer answered is for members of its role.
-- runs as: set owner
-- params: reader oid, set_owner oid
-- row: consumer text, what text, detail text
select c.name::text as consumer, p.what, p.detail
from @alerts@ r
join @consumers@ c on c.id = r.consumer_id
join @subscriptions@ u on u.id = r.id
left join @deliveries@ d on d.subscription_id = r.id
cross join lateral (
    select pg_has_role($1, $2, @membership@) or coalesce(pg_has_role($1, c.role, @membership@), false) as acts
) a
cross join lateral (
    select 'failed' as what,
        case when a.acts then coalesce(d.last_error, '') else 'members of the consumer''s role can see why' end as detail
    where u.status = 'failed'
    union all
    select 'late', to_char(o.available_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
    from @outbox@ o
    where u.status <> 'failed' and o.subscription_id = r.id and o.id = (
          select min(k.id) from @outbox@ k where k.subscription_id = r.id and k.id > coalesce(d.delivered_through, 0)
      )
      and o.available_at < now() - interval '1 day'
    union all
    select 'owner', coalesce('role "' || r.owner_name || '"', 'the role')
    where not exists (select from pg_roles o where o.oid = r.owner)
    union all
    select 'rule', r.rule::text
    union all
    select 'unknown', n.name
    from jsonb_array_elements_text(
        case jsonb_typeof(r.rule -> 'segments') when 'array' then r.rule -> 'segments' else '[]' end
    ) n (name)
    where r.owner::oid <> 0 and not exists (
        select from @segments@ s
        where s.name = n.name and s.actual_end = 'infinity' and pg_has_role(r.owner, s.owner, @membership@)
    )
) p
where r.actual_end = 'infinity' and c.actual_end = 'infinity'
  and (a.acts or r.owner::oid <> 0 and pg_has_role($1, r.owner, @membership@))
order by c.name, r.id, p.what, p.detail
