-- Sets the period of the subscription of the rule $1.
-- runs as: set owner
-- params: alert uuid, actual_begin timestamptz, actual_end timestamptz
update @subscriptions@ u
set actual_begin = $2, actual_end = $3
where u.id = $1 and u.segment_id is null and (u.actual_begin, u.actual_end) is distinct from ($2, $3)
