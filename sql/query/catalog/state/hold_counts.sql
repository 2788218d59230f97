-- Whether there are counts. Planning it locks their table and its indexes for the rest of the transaction: a run that
-- finds no memory for more locks counts what it leaves out.
-- runs as: set owner
-- row: has_counts boolean
select exists (select from @counts@ c) as has_counts
