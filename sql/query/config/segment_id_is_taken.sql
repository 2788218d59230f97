-- Whether the id $1 occurs in the log or the outbox: it was used by a deleted segment.
-- runs as: set owner
-- params: id uuid
-- row: is_taken boolean
select exists (select from @log@ l where l.segment_id = $1)
    or exists (select from @outbox@ o where o.segment_id = $1)
