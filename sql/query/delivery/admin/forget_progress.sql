-- Forgets how far the work on a message of the subscription $1 is, which a resync discards. Returns whether
-- the target system has said that the audience is gone. No row: there was nothing to forget.
-- runs as: set owner
-- params: subscription uuid
-- row: is_gone boolean
update @deliveries@ d
set progress = null
from (select l.subscription_id, l.progress from @deliveries@ l where l.subscription_id = $1) l
where d.subscription_id = l.subscription_id and l.progress is not null
returning coalesce(l.progress -> 'gone' = 'true', false) as is_gone
