-- Members that left or changed, with their old values: what is behind the places in segmenter_met.
-- A key that another one was taken for is an x.
select
    case when t.id is null or d.id operator(pg_catalog.<>) t.id::pg_catalog.text then 'x' else d.operation end as operation,
    coalesce(d.id, t.id::pg_catalog.text) collate pg_catalog."C" as id@values@, d.place
from segmenter_met as d
left join only @table@ as t on t.ctid operator(pg_catalog.=) d.place
