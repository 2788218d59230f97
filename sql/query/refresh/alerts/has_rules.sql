-- Whether there is an active rule of alerts.
-- runs as: set owner
-- row: has_rules boolean
select exists (select from @alerts@ a where a.actual_end = 'infinity') as has_rules
