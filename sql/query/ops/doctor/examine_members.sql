-- The number of members of the segment $1 in its table, and the columns in which members have the hash of an
-- empty text, one of $2: among a thousand members, or, where PostgreSQL's statistics know such a value as
-- common, among all of them. And id, if there is a member with an empty one. no_hashes: the columns in which
-- members, of these thousand, have what is no hash: it is shorter than $3 characters, or an address.
-- runs as: segment owner
-- params: segment uuid, hashes text[], shortest int
-- row: members bigint, columns text[], no_hashes text[]
-- @table@: the segment table, e.g. public.vip
select
    (
        select pg_catalog.count(*)
        from only @table@ t
        where t.segment_id operator(pg_catalog.=) $1 and t.id is not null
          and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
    ) as members,
    pg_catalog.array_agg(distinct f.name::pg_catalog.text order by f.name::pg_catalog.text)
        filter (where not f.is_none) as columns,
    pg_catalog.array_agg(distinct f.name::pg_catalog.text order by f.name::pg_catalog.text)
        filter (where f.is_none) as no_hashes
from (
    select h.name, pg_catalog.lower(h.hash::pg_catalog.text) operator(pg_catalog.<>) all ($2) as is_none
    from (
        select t.hash_email, t.hash_phone
        from @table@ t
        where t.segment_id operator(pg_catalog.=) $1
          and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
        limit 1000
    ) m
    cross join lateral (values ('hash_email', m.hash_email), ('hash_phone', m.hash_phone)) h (name, hash)
    where pg_catalog.lower(h.hash::pg_catalog.text) operator(pg_catalog.=) any ($2)
       or pg_catalog.octet_length(h.hash::pg_catalog.text) operator(pg_catalog.<) $3
       or pg_catalog.strpos(h.hash::pg_catalog.text, '@') operator(pg_catalog.>) 0
    union all
    select 'id', false
    where exists (
        select
        from @table@ t
        where t.segment_id operator(pg_catalog.=) $1 and t.id operator(pg_catalog.=) ''
          and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
    )
    union all
    select s.attname::pg_catalog.text, false
    from pg_catalog.pg_stats s
    -- By constants: otherwise the statistics of all tables are read.
    where s.schemaname operator(pg_catalog.=) (pg_catalog.parse_ident('@text:table@'))[1]::pg_catalog.name
      and s.tablename operator(pg_catalog.=) (pg_catalog.parse_ident('@text:table@'))[2]::pg_catalog.name
      and s.attname operator(pg_catalog.=) any (array['hash_email', 'hash_phone']::pg_catalog.name[])
      and s.most_common_vals::pg_catalog.text::pg_catalog.text[] operator(pg_catalog.&&) $2
      and exists (
          select
          from @table@ t
          where t.segment_id operator(pg_catalog.=) $1
            and t.actual_end operator(pg_catalog.=) 'infinity'::pg_catalog.timestamp
            and pg_catalog.lower(
                case when s.attname operator(pg_catalog.=) 'hash_email' then t.hash_email else t.hash_phone end::pg_catalog.text
            ) operator(pg_catalog.=) any ($2)
      )
) f
