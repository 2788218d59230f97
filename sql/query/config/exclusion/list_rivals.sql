-- The other active segments of the priority group $2. same: one has the priority $3 of the segment $1.
-- is_strange: one belongs to a role that the role $4 may not act as. unread: one whose members must be read
-- as the owner `reader` of a segment that comes after it, who may not.
-- runs as: set owner
-- params: segment uuid, priority_group text, priority integer, caller oid
-- row: same text, is_strange boolean, unread text, reader oid
with rival as (
    select r.name, r.priority, r.owner, o.*
    from @segments@ s
    join @segments@ r on r.priority_group = $2 and r.actual_end = 'infinity' and r.id <> s.id
    cross join lateral (
        select
            case when r.priority < $3 then r.name else s.name end as unread,
            case when r.priority < $3 then s.owner else r.owner end as reader,
            case when r.priority < $3 then r.owner else s.owner end as first_owner,
            case when r.priority < $3 then r.table_name else s.table_name end as first_table
    ) o
    where s.id = $1
), unread as (
    select r.unread, r.reader
    from rival r
    where r.priority <> $3 and not pg_has_role(r.reader, r.first_owner, @membership@)
      and exists (
        select
        from pg_attribute a
        where a.attrelid = r.first_table and a.attname in ('id', 'segment_id', 'actual_end')
          and not has_column_privilege(r.reader, r.first_table, a.attnum, 'select')
      )
    order by r.priority
    limit 1
)
select
    (select min(r.name) from rival r where r.priority = $3) as same,
    exists (select from rival r where not pg_has_role($4, r.owner, @membership@)) as is_strange,
    (select u.unread from unread u) as unread,
    (select u.reader::oid from unread u) as reader
