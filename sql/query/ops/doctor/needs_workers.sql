-- Whether a segment of the set is refreshed, or a consumer of it served, without a session that asks for it.
-- runs as: set owner
-- row: is_needed boolean
select exists (select from @segments@ s where s.refresh_auto and s.actual_end = 'infinity')
    or exists (
        select from @consumers@ c
        where c.actual_end = 'infinity' and jsonb_typeof(c.params -> 'updater') = 'object'
    ) as is_needed
