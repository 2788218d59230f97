create extension segmenter;
create table people (id int primary key, hash_email text);
insert into people select id, md5('p' || id) from generate_series(1, 12) id;
select segmenter_create_segment('vip', 'select id, hash_email from public.people', '@daily');

-- A connector that has confirmed whatever there is, for as long as the database exists.
select pg_create_logical_replication_slot('segmenter', 'pgoutput');
\! echo "select pg_replication_slot_advance('segmenter', pg_current_wal_lsn()) \\watch 0.2" | "$PSQL" -X -d examples_readme >/dev/null 2>&1 &
-- Something for it to confirm.
select segmenter_subscribe('crm', 'vip', 'queue');
select segmenter_refresh('vip');
