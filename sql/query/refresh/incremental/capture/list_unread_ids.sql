-- Captured ids that the snapshot $4 did not see, each with the number of its watched table. $1, $2
-- and $3 are parallel arrays: the numbers, the tables with their partitions and children, and the
-- columns. All changes of the transaction $5, which took the snapshot, count as unread, because
-- they may have been captured after it. An id that was captured often is listed as often.
-- runs as: extension owner
-- params: numbers integer[], sources oid[], columns text[], snapshot text, own_transaction text
-- row: number integer, id text
select w.number, u.id
from unnest($1, $2, $3) as w (number, source, id_column)
join @changes@ c on c.source = w.source and c.id_column = w.id_column
cross join unnest(c.ids) as u (id)
where c.xid >= pg_snapshot_xmin($4::text::pg_snapshot)
  and (not pg_visible_in_snapshot(c.xid, $4::text::pg_snapshot) or c.xid = $5::text::xid8)
