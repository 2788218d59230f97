-- The parents of the tables in tree that are not in it themselves, up to the root, as a recursive WITH
-- query named above. What is written through one of them fires no trigger of a statement in tree.
-- part of: the queries of watch and capture
above as (
    select i.inhparent as relation
    from tree as t
    join pg_catalog.pg_inherits as i on i.inhrelid operator(pg_catalog.=) t.relation
    where not exists (select from tree as n where n.relation operator(pg_catalog.=) i.inhparent)
    union
    select i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid operator(pg_catalog.=) a.relation
)
