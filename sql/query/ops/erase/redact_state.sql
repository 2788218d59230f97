-- Redacts the errors and receipts of the segment $1, of its hand-overs and of its deliveries, that
-- match one of the patterns $2.
-- runs as: set owner
-- params: segment uuid, patterns text[]
with handovers as (
    update @handovers@ h
    set error = '(erased)'
    from @subscriptions@ u
    where u.id = h.subscription_id and u.segment_id = $1 and h.error ~ any ($2)
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
