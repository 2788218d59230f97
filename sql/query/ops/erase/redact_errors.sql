-- Redacts the last errors of the deliveries of the segment $1 that match the pattern $2.
-- runs as: set owner
-- params: segment uuid, pattern text
update @deliveries@ d
set last_error = '(erased)'
from @subscriptions@ u
where u.id = d.subscription_id and u.segment_id = $1 and d.last_error ~ $2
