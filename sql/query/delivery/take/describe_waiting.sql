-- The messages of the subscription $1 after $2: the last one, their number, the first one from which on they say
-- what the audience is, and 1 or 0 for whether the first one creates the audience, whether any has all members or
-- ends the audience, whether any ends it, and whether the last one does.
-- runs as: set owner
-- params: subscription uuid, through bigint
-- row: waiting bigint[]
select array[
    max(o.id),
    count(*),
    coalesce(
        max(o.id) filter (where o.operation in ('create', 'delete') or o.operation = 'replace' and o.part = 1),
        min(o.id)
    ),
    (min(o.id) = coalesce(min(o.id) filter (where o.operation = 'create'), 0))::int,
    (count(*) filter (where o.operation in ('replace', 'delete')) > 0)::int,
    (count(*) filter (where o.operation = 'delete') > 0)::int,
    (max(o.id) = coalesce(max(o.id) filter (where o.operation = 'delete'), 0))::int
] as waiting
from @outbox@ o
where o.subscription_id = $1 and o.id > $2
