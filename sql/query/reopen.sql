-- Where one row a member is kept, whoever returns finds it there.
on conflict (@key@) do update
set actual_begin = excluded.actual_begin,
    actual_end = excluded.actual_end,
    processed = excluded.processed@assignments@
