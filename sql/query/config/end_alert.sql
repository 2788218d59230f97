-- Sets the period of the subscription of the rule $1. Of a rule that has ended, nothing is known any more.
-- runs as: set owner
-- params: alert uuid, actual_begin timestamptz, actual_end timestamptz
with forgotten as (
    delete from @alert_states@ x where x.alert_id = $1 and $3 <> 'infinity'
)
update @subscriptions@ u
set actual_begin = $2, actual_end = $3
where u.id = $1 and u.segment_id is null and (u.actual_begin, u.actual_end) is distinct from ($2, $3)
