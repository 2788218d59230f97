-- Redacts errors, receipts and one-off lists in the log of the segment $1. $2 are patterns that
-- match the person's id and hashes, $3 the letters and digits of the id. One-off lists may spell
-- an id in any way, so their letters and digits are compared, too.
-- runs as: set owner
-- params: segment uuid, patterns text[], letters text
update @log@ l
set
    message = case when l.message ~ any ($2) then '(erased)' else l.message end,
    error = case
        when l.error::text ~ any ($2)
            then jsonb_build_object('sqlstate', l.error -> 'sqlstate', 'message', '(erased)')
        else l.error
    end,
    params = case
        when f.is_listed then jsonb_set(l.params, '{refresh_params}', '"(erased)"')
        when l.params ->> 'receipt' ~ any ($2) then jsonb_set(l.params, '{receipt}', '"(erased)"')
        else l.params
    end
from @log@ k
cross join lateral (
    select k.params @> '{"one_off": true}' and (
        k.params ->> 'refresh_params' ~ any ($2)
        or ($3 <> '' and strpos(regexp_replace(k.params ->> 'refresh_params', '[^[:alnum:]]', '', 'g'), $3) > 0)
    ) as is_listed
) f
where k.id = l.id and k.segment_id = $1
  and (k.error is not null or k.action = 'deliver' or k.params @> '{"one_off": true}')
  and (f.is_listed or concat_ws(' ', k.message, k.error, k.params ->> 'receipt') ~ any ($2))
