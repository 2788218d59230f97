-- Creates a segment table that keeps the latest state.
-- Rows are updated and deleted in it, which PostgreSQL refuses for a published table without a
-- replica identity.
-- runs as: caller, segment owner
-- @table@: the new table, e.g. public.made
-- @columns@: further columns, each after a comma, e.g. , city text
-- @key@: what is unique, e.g. segment_id, id
create table @table@ (
    segment_id uuid not null,
    id varchar,
    hash_email varchar,
    hash_phone varchar@columns@,
    actual_begin timestamp not null default now(),
    actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(),
    unique (@key@)
);
alter table @table@ replica identity full
