-- Whether the retention of the segment $1 clears columns of former members.
-- runs as: set owner
-- params: segment uuid
-- row: may_be_cleared boolean
select s.retention ->> 'without_contacts_after' is not null as may_be_cleared
from @segments@ s
where s.id = $1
