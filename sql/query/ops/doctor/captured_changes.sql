-- How large the captured changes are, and whether some are there that a segment had seen before $2, the
-- start of the retention period, and that should have been deleted since. No row where $1 is no member of
-- the extension's owner.
-- runs as: extension owner
-- params: reader oid, since timestamptz
-- row: size bigint, is_expired boolean
select
    pg_total_relation_size('@text:changes@'::regclass) as size,
    exists (
        select
        from @change_readers@ r
        join @changes@ c on c.source = any (r.sources) and c.xid < r.through
        where r.read_at < $2
          and case when pg_column_size(c.ids) < 64 then c.ids is distinct from '{}' else true end
    ) as is_expired
where pg_has_role($1, current_user, @membership@)
