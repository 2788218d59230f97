-- The offsets from UTC, in seconds, that the times $1 have in the zone that the statement runs in.
-- runs as: set owner
-- params: times timestamptz[]
-- row: offsets integer[]
select array_agg(extract(timezone from t.at)::integer order by t.place)
from unnest($1) with ordinality t (at, place)
