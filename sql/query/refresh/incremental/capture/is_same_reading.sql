-- Whether the captured changes of the tables $1 with the columns $2 that a position ($6 and $7, as below) has
-- not seen, and the active snapshot sees, are those that were read before: what the snapshot $3 did not
-- see, or the transaction $4 captured, which took it, and the snapshot $5 saw. What the transaction $8,
-- the current one, has captured may have been so after that.
-- runs as: extension owner
-- params: sources oid[], columns text[], read_after text, read_own text, seen_by text, after text, own text, current text
-- row: is_same boolean
select not exists (
    select
    from unnest($1, $2) as w (source, id_column)
    join @changes@ c on c.source = w.source and c.id_column = w.id_column
    where c.xid >= least(
        pg_snapshot_xmin($3::text::pg_snapshot), pg_snapshot_xmin($5::text::pg_snapshot), pg_snapshot_xmin($6::text::pg_snapshot)
    )
      and (
        not pg_visible_in_snapshot(c.xid, $5::text::pg_snapshot)
        or coalesce(c.xid = $8::text::xid8, false)
        or (not pg_visible_in_snapshot(c.xid, $3::text::pg_snapshot) or coalesce(c.xid = $4::text::xid8, false))
            <> (not pg_visible_in_snapshot(c.xid, $6::text::pg_snapshot) or coalesce(c.xid = $7::text::xid8, false))
      )
)
