-- The tables that are written by refreshes or by Segmenter itself, and that cannot be: they are
-- published, and PostgreSQL cannot tell their rows apart for subscribers. Of the segments those that $1
-- may act for (all if it sees their figures, $2). `columns`: a publication lists columns of a table whose identity is the whole row.
-- runs as: set owner
-- params: reader oid, sees_figures boolean
-- row: name text, what text
select n.name, n.what
from (
    select format('%I.%I', s.nspname, c.relname) as name,
        case
            when c.relreplident = 'f' then case when p.lists_columns then 'columns' end
            when c.relreplident = 'n' or not exists (
                select
                from pg_index i
                where i.indrelid = c.oid and i.indisvalid
                  and case c.relreplident when 'd' then i.indisprimary else i.indisreplident end
            ) then 'identity'
        end as what
    from (
        select g.table_name::oid as oid
        from @segments@ g
        where g.actual_end = 'infinity' and ($2 or pg_has_role($1, g.owner, @membership@))
        union
        select k.relation::oid
        from @registry_relations@ k
        where k.mart = '@text:mart@'::regclass and k.relkind = 'r' and k.kind <> 'mart'
        union
        select '@text:changes@'::regclass::oid
    ) t
    join pg_class c on c.oid = t.oid and c.relpersistence = 'p'
    join pg_namespace s on s.oid = c.relnamespace
    join lateral (
        select bool_or(r.prattrs is not null) as lists_columns
        from pg_publication p
        left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
        where (p.pubupdate or p.pubdelete)
          and (
            p.puballtables or r.prrelid is not null
            or exists (select from pg_publication_namespace b where b.pnpubid = p.oid and b.pnnspid = c.relnamespace)
          )
        having count(*) > 0
    ) p on true
) n
where n.what is not null
order by n.name
