-- Whether something that the snapshot $3 did not see, of the tables $1 with the columns $2, concerns
-- every id; $4 as $5 in captured.sql. 1: a change of all, 2: changes were pruned, up to a transaction.
-- runs as: extension owner
-- params: sources oid[], columns text[], snapshot text, own_transaction text
-- row: kind integer
select max(case when c.ids is null then 1 else 2 end)
from unnest($1, $2) as w (source, id_column)
join @changes@ c on c.source = w.source and c.id_column = w.id_column
where c.xid >= pg_snapshot_xmin($3::text::pg_snapshot)
  and case
    when c.ids is null then not pg_visible_in_snapshot(c.xid, $3::text::pg_snapshot) or c.xid = $4::text::xid8
    -- Long ones need not be fetched.
    when pg_column_size(c.ids) < 64 then c.ids = '{}'
  end
