-- The commands that replace PUBLIC's privileges on the config tables by privileges on their columns:
-- with a privilege on a whole table every role could lock it. What was revoked stays revoked.
-- runs as: set owner
-- row: command text
with granted as (
    select c.oid::regclass as relation, a.privilege_type
    from pg_class c
    cross join aclexplode(c.relacl) a
    where c.oid in ('@text:segments@'::regclass, '@text:consumers@'::regclass, '@text:subscriptions@'::regclass)
      and a.grantee = 0 and a.privilege_type in ('INSERT', 'UPDATE')
)
select format('revoke insert, update, delete on %s from public', c.oid::regclass)
from pg_class c
where c.oid in ('@text:segments@'::regclass, '@text:consumers@'::regclass, '@text:subscriptions@'::regclass)
union all
select format('grant %s (%s) on %s to public', g.privilege_type, columns.names, g.relation)
from granted g
cross join lateral (
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) as names
    from pg_attribute a
    where a.attrelid = g.relation and a.attnum > 0 and not a.attisdropped
      -- Where a consumer is served from is not a role's to write.
      and not (g.relation = '@text:consumers@'::regclass and a.attname = 'home')
) columns
