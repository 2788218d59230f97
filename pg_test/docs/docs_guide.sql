create extension segmenter;

-- Every five minutes a list of the guide is due: that must not come in the midst of it.
select pg_sleep(case when l.seconds < 90 then l.seconds + 1 else 0 end)
from (select 300 - extract(epoch from clock_timestamp())::bigint % 300 as seconds) l;
