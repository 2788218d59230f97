-- Redacts the errors and receipts of the segment $1, of its hand-overs and of its deliveries, that
-- match the pattern $2.
-- runs as: set owner
-- params: segment uuid, pattern text
with handovers as (
    update @handovers@ h
    set error = '(erased)'
    from @subscriptions@ u
    where u.id = h.subscription_id and u.segment_id = $1 and h.error ~ $2
), deliveries as (
    update @deliveries@ d
    set last_error = case when d.last_error ~ $2 then '(erased)' else d.last_error end,
        last_receipt = case when d.last_receipt::text ~ $2 then '"(erased)"' else d.last_receipt end
    from @subscriptions@ u
    where u.id = d.subscription_id and u.segment_id = $1
      and concat_ws(' ', d.last_error, d.last_receipt) ~ $2
)
update @attempts@ a
set message = '(erased)'
where a.segment_id = $1 and a.message ~ $2
