-- Whether an unread change of the tables $1 with the columns $2 concerns all ids: the kind is 1 if
-- all ids are affected (TRUNCATE, or the column is gone), 2 if unread changes were pruned,
-- otherwise null. Unread is what the snapshot $3 does not see, and what the transaction $4, which
-- took it, captured.
-- runs as: extension owner
-- params: sources oid[], columns text[], snapshot text, own_transaction text
-- row: kind integer
select max(case when c.ids is null then 1 else 2 end)
from unnest($1, $2) as w (source, id_column)
join @changes@ c on c.source = w.source and c.id_column = w.id_column
where c.xid >= pg_snapshot_xmin($3::text::pg_snapshot)
  and case
    when c.ids is null then not pg_visible_in_snapshot(c.xid, $3::text::pg_snapshot) or c.xid = $4::text::xid8
    -- Long arrays are not the marker of pruned changes and need not be fetched.
    when pg_column_size(c.ids) < 64 then c.ids = '{}'
  end
