-- Derives from the log how many refreshes of each segment did not succeed, of those that it still has.
-- runs as: set owner
insert into @counts@ (segment_id, status, refreshes)
select l.segment_id, o.status, count(*)
from @log@ l
join @segments@ s on s.id = l.segment_id
cross join lateral (select case l.status when 'interrupted' then 'failed' else l.status end as status) o
where l.action = 'refresh' and o.status in ('failed', 'refused', 'waiting', 'skipped')
group by l.segment_id, o.status
