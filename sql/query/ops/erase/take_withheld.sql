-- Deletes what is recorded of the person $2 while changes of the segment $1 are held back. Returns what the
-- consumer of each subscription has of the person; null: nothing.
-- runs as: set owner
-- params: segment uuid, id text
-- row: subscription_id uuid, member text
delete from @withheld@ w
using @subscriptions@ u
where u.id = w.subscription_id and u.segment_id = $1 and w.id = $2
returning w.subscription_id, w.member::text
