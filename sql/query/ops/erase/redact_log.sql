-- Redacts messages with their errors, receipts, filters and one-off lists in the log of the segment $1. $2
-- are patterns that match the person's id and hashes, $3 the letters and digits of the id. One-off lists
-- may spell an id in any way, so their letters and digits are compared, too; those of filters with $4
-- (empty: they are not compared).
-- runs as: set owner
-- params: segment uuid, patterns text[], letters text, filter_letters text
update @log@ l
set
    message = case when f.is_told and l.message is not null then '(erased)' else l.message end,
    error = case
        when f.is_told and l.error is not null
            then jsonb_build_object('sqlstate', l.error -> 'sqlstate', 'message', '(erased)')
        else l.error
    end,
    params = l.params
        || case when f.is_listed then '{"refresh_params": "(erased)"}'::jsonb else '{}' end
        || case when f.is_received then '{"receipt": "(erased)"}'::jsonb else '{}' end
        || case when f.is_filter then '{"where": "(erased)"}'::jsonb else '{}' end
from @log@ k
cross join lateral (
    select
        -- The message of an error is that of the entry.
        coalesce(concat_ws(' ', k.message, k.error) ~ any ($2), false) as is_told,
        coalesce(k.params ->> 'receipt' ~ any ($2), false) as is_received,
        k.params @> '{"one_off": true}' and (
            k.params ->> 'refresh_params' ~ any ($2)
            or ($3 <> '' and strpos(regexp_replace(k.params ->> 'refresh_params', '[^[:alnum:]]', '', 'g'), $3) > 0)
        ) as is_listed,
        k.params ? 'where' and (
            k.params ->> 'where' ~ any ($2)
            or ($4 <> '' and strpos(regexp_replace(k.params ->> 'where', '[^[:alnum:]]', '', 'g'), $4) > 0)
        ) as is_filter
) f
where k.id = l.id and k.segment_id = $1
  and (k.message is not null or k.error is not null or k.action = 'deliver' or k.params ?| '{one_off,where}')
  and (f.is_told or f.is_received or f.is_listed or f.is_filter)
