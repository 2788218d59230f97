-- The period of a person in the list $1 that is found by the id $2, the e-mail address $3 or the phone number $4: the
-- last one that holds at the time $5.
-- runs as: table owner
-- params: list uuid, id text, email text, phone text, at timestamp, after timestamp
-- row: since timestamptz
-- @table@: the table of the list, e.g. public.vip
-- @matches@: how members are compared, e.g. true
-- @period@: the condition of the period, e.g. true
select (t.actual_begin)::pg_catalog.timestamptz as since
from only @table@ as t
where t.segment_id operator(pg_catalog.=) $1 and (@matches@) and (@period@)
order by t.actual_begin desc
limit 1
