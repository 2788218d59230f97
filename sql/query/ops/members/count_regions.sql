-- How many people are in exactly these of the segments $1, at the times $2: a row for each combination that
-- has any. A bit of words represents a segment, 63 to a word.
-- runs as: caller
-- params: segments uuid[], at timestamp[]
-- row: words bigint[], members bigint
-- @ids@: ops/members/list_ids of each segment, e.g. select 'a' as id, 1::bigint as w1
-- @combined@: the words of a person, each after a comma, e.g. , bit_or(i.w1) as w1
-- @words@: the words, e.g. p.w1
select array[@words@] as words, pg_catalog.count(*) as members
from (
    select i.id@combined@
    from (
@ids@
    ) i
    group by i.id
) p
group by @words@
