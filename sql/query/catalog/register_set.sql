-- Registers a set: its relations have the kinds $1 and the names $2; its definition has the version
-- $3.
-- runs as: extension owner
-- params: kinds text[], names text[], schema_version integer
-- row: mart oid
with named as (
    select n.kind, n.name::regclass as relation from unnest($1, $2) n (kind, name)
), registered as (
    insert into @registry@ (mart, schema_version)
    select m.relation, $3 from named m where m.kind = 'mart'
    returning mart
), related as (
    insert into @registry_relations@ (mart, kind, relation)
    select m.mart, n.kind, n.relation from registered m cross join named n
)
select m.mart::oid from registered m
