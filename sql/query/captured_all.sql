-- Whether something that the snapshot $3 did not see, of the tables $1 with the columns $2, concerns
-- every id; $4 as $5 in captured.sql.
select exists (
    select
    from unnest($1, $2) as w (source, id_column)
    join @changes@ c on c.source = w.source and c.id_column = w.id_column
    where c.ids is null
      and c.xid >= pg_snapshot_xmin($3::text::pg_snapshot)
      and (not pg_visible_in_snapshot(c.xid, $3::text::pg_snapshot) or c.xid = $4::text::xid8)
)
