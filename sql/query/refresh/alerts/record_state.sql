-- Records what is known of the subject $3 of the segment $2, whose name is $4, by the rule $1.
-- runs as: set owner
-- params: alert uuid, segment_id uuid, subject text, segment text, state text, reported text, since timestamptz, changes timestamptz[], seen bigint
insert into @alert_states@ (alert_id, segment_id, subject, segment, state, reported, since, changes, seen)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (alert_id, segment_id, subject) do update
set segment = $4, state = $5, reported = $6, since = $7, changes = $8, seen = $9
