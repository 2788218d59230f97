-- How many rows of a query have the id $1, and what they say of the person.
-- runs as: segment owner
-- params: id text
-- row: given bigint, email text, phone text
-- @query@: the query, e.g. select 1 as id
-- @email@: the hashed e-mail address, e.g. null
-- @phone@: the hashed phone number, e.g. null
select
    pg_catalog.count(*) as given,
    pg_catalog.min((@email@)::pg_catalog.text) as email,
    pg_catalog.min((@phone@)::pg_catalog.text) as phone
from (
@query@
) as s
where (s.id)::pg_catalog.text operator(pg_catalog.=) $1
