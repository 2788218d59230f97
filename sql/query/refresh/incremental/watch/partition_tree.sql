-- The table $1 with its partitions and children, as a recursive WITH query named tree.
-- part of: the queries of watch and capture
tree as (
    select $1 as relation
    union
    select i.inhrelid
    from tree as t
    join pg_catalog.pg_inherits as i on i.inhparent operator(pg_catalog.=) t.relation
)
