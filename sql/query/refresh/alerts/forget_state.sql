-- Forgets what is known of the subject $3 of the segment $2 by the rule $1.
-- runs as: set owner
-- params: alert uuid, segment_id uuid, subject text
delete from @alert_states@ x where x.alert_id = $1 and x.segment_id = $2 and x.subject = $3
