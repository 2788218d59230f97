-- What changed of an audience, with the fields that are taken: people who left it with what the consumer has of
-- them, all others with their new values. Removals come first.
-- runs as: table owner
-- row: …
-- @values@: the fields that are taken, e.g. m.id
-- @changes@: the changes of members, e.g. select 'added' as change, '{}'::pg_catalog.jsonb as member
-- @fields@: all fields of a member, with their types, e.g. id pg_catalog."varchar"
select @values@
from (
@changes@
) as n
cross join lateral pg_catalog.jsonb_to_record(n.member) as m (@fields@)
order by pg_catalog.array_position(array['removed', 'changed', 'added'], n.change)
