-- Records that the retention of the segment $1 was applied, to the end or not ($2), or that it could not be, because
-- of $3: it is tried again in an hour.
-- runs as: set owner
-- params: segment uuid, is_done boolean, error text
insert into @state@ as t (segment_id, pruned_at, prune_error)
values ($1, case when $2 then clock_timestamp() end, $3)
on conflict (segment_id) do update set
    pruned_at = excluded.pruned_at,
    prune_error = excluded.prune_error
