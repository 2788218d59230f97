-- In a table with one row for each member, a returning member's row is opened again.
-- part of: refresh/apply/insert_rows
-- @key@: the columns of the unique index, e.g. id
-- @assignments@: further assignments, each after a comma, e.g. , hash_email = excluded.hash_email
on conflict (@key@) do update
set actual_begin = excluded.actual_begin,
    actual_end = excluded.actual_end,
    processed = excluded.processed@assignments@
