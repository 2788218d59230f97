-- When the consumer $1 is to be asked for its audiences, every $2; after a failure an hour later at most. A time
-- that was recorded while the clock was ahead counts for nothing. null: it is retired.
-- runs as: set owner
-- params: consumer uuid, list_every text
-- row: at timestamptz
select case
    when r.asked_at <= clock_timestamp() + interval '10 seconds'
        then r.asked_at + case when r.error is null then $2::interval else least($2::interval, interval '1 hour') end
    else clock_timestamp()
end as at
from @consumers@ c
left join @reports@ r on r.consumer_id = c.id
where c.id = $1 and c.actual_end = 'infinity'
