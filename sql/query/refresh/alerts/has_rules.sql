-- Whether there is an active rule of alerts, or something is known of one that has ended.
-- runs as: set owner
-- row: has_rules boolean
select exists (select from @alerts@ a where a.actual_end = 'infinity') or exists (select from @alert_states@) as has_rules
