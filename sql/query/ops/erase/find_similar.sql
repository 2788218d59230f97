-- Ids of the segment $1 that resemble $2, five at most: they differ in case, in blanks ($3) at the ends or
-- in how Unicode composes a letter (id), one is a common hash of the other (hash), or a contact of the
-- member is $2 or a hash of it (contact).
-- runs as: table owner
-- params: segment uuid, id text, blanks text
-- row: id text, likeness text
-- @table@: the segment table, e.g. public.vip
-- @contacts@: the contacts, as far as the table has them, e.g. t.hash_email::pg_catalog.text
with sought as materialized (
    select n.text, pg_catalog.convert_to(n.text, 'UTF8') as bytes
    from (values ($2), (pg_catalog.normalize(pg_catalog.lower(pg_catalog.btrim($2, $3)), 'NFC'))) n (text)
), hashes as materialized (
    select pg_catalog.encode(h.hash, 'hex') as text
    from sought s
    cross join lateral (
        values (pg_catalog.sha256(s.bytes)), (pg_catalog.sha512(s.bytes)), (pg_catalog.decode(pg_catalog.md5(s.bytes), 'hex'))
    ) h (hash)
)
select r.id, r.likeness
from (
    select
        p.id,
        case
            when p.plain operator(pg_catalog.=) pg_catalog.normalize(pg_catalog.lower(pg_catalog.btrim($2, $3)), 'NFC') then 'id'
            when p.plain operator(pg_catalog.=) any (array(select h.text from hashes h)) then 'hash'
            when case pg_catalog.length($2)
                when 32 then pg_catalog.md5(p.plain)
                when 64 then pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.plain, 'UTF8')), 'hex')
            end operator(pg_catalog.=) pg_catalog.lower($2) then 'hash'
            when exists (
                select
                from pg_catalog.unnest(p.contacts) c (text)
                where pg_catalog.lower(c.text) operator(pg_catalog.=) any (
                    array(select h.text from hashes h union all select s.text from sought s)
                )
            ) then 'contact'
        end as likeness
    from (
        select
            t.id::pg_catalog.text as id,
            pg_catalog.normalize(
                pg_catalog.lower(pg_catalog.btrim(t.id::pg_catalog.text collate pg_catalog."default", $3)), 'NFC'
            ) as plain,
            array[@contacts@]::pg_catalog.text[] as contacts
        from only @table@ as t
        where t.segment_id operator(pg_catalog.=) $1
    ) p
) r
where r.likeness is not null
group by r.id, r.likeness
order by r.likeness desc, r.id collate pg_catalog."C"
limit 5
