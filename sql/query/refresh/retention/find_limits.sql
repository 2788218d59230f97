-- What the retention of the segment $1 says, and the local times before which a membership period must have
-- ended for its row to be deleted, or to lose its contacts.
-- runs as: set owner
-- params: segment uuid
-- row: retention jsonb, keep_before timestamp, contacts_before timestamp
select
    s.retention,
    n.now - (s.retention ->> 'keep')::interval as keep_before,
    n.now - (s.retention ->> 'without_contacts_after')::interval as contacts_before
from @segments@ s
left join @state@ t on t.segment_id = s.id
cross join lateral (
    select clock_timestamp() at time zone coalesce(t.timezone, current_setting('TimeZone')) as now
) n
where s.id = $1
