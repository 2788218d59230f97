-- Redacts the errors and receipts of the segment $1, of its hand-overs and of its deliveries, that
-- match one of the patterns $2; and the filters with which members were handed over, or held back, before:
-- those of the subscriptions' params are left. Their letters and digits are compared with $3, too (empty:
-- they are not).
-- runs as: set owner
-- params: segment uuid, patterns text[], letters text
with handovers as (
    update @handovers@ h
    set error = case when h.error ~ any ($2) then '(erased)' else h.error end,
        filter = case when f.filters[1] then jsonb_set(h.filter, '{where}', '"(erased)"') else h.filter end,
        failed_filter = case when f.filters[2] then '(erased)' else h.failed_filter end,
        held_params = case when f.filters[3] then jsonb_set(h.held_params, '{where}', '"(erased)"') else h.held_params end
    from @subscriptions@ u
    join @handovers@ k on k.subscription_id = u.id
    cross join lateral (
        select array_agg(
            coalesce(
                w.filter is distinct from u.params ->> 'where' and (
                    w.filter ~ any ($2)
                    or $3 <> '' and strpos(regexp_replace(w.filter, '[^[:alnum:]]', '', 'g'), $3) > 0
                ),
                false
            )
            order by w.place
        ) as filters
        from unnest(array[k.filter ->> 'where', k.failed_filter, k.held_params ->> 'where'])
            with ordinality w (filter, place)
    ) f
    where h.subscription_id = u.id and u.segment_id = $1 and (h.error ~ any ($2) or true = any (f.filters))
), deliveries as (
    update @deliveries@ d
    set last_error = case when d.last_error ~ any ($2) then '(erased)' else d.last_error end,
        last_receipt = case when d.last_receipt::text ~ any ($2) then '"(erased)"' else d.last_receipt end
    from @subscriptions@ u
    where u.id = d.subscription_id and u.segment_id = $1
      and concat_ws(' ', d.last_error, d.last_receipt) ~ any ($2)
)
update @attempts@ a
set message = '(erased)'
where a.segment_id = $1 and a.message ~ any ($2)
