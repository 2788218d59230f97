-- Whether the id $1 belonged to a segment that is gone.
select exists (select from @log@ l where l.segment_id = $1)
    or exists (select from @outbox@ o where o.segment_id = $1)
