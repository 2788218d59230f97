-- What errors, consumers and lists that were loaded by hand say of a person, in the log of the
-- segment $1: $2 is a pattern of what tells him.
update @log@ l
set
    message = case when l.message ~ $2 then '(erased)' else l.message end,
    error = case
        when l.error::text ~ $2
            then jsonb_build_object('sqlstate', l.error -> 'sqlstate', 'message', '(erased)')
        else l.error
    end,
    params = case
        when l.params ->> 'refresh_params' ~ $2
            then jsonb_set(l.params, '{refresh_params}', '"(erased)"')
        when l.params ->> 'receipt' ~ $2
            then jsonb_set(l.params, '{receipt}', '"(erased)"')
        else l.params
    end
where l.segment_id = $1
  and (l.error is not null or l.action = 'deliver' or l.params @> '{"one_off": true}')
  and concat_ws(' ', l.message, l.error, l.params ->> 'refresh_params', l.params ->> 'receipt') ~ $2
