-- What the doctor finds. The library is not preloaded here; with the workers it is looked at in
-- the cluster tests.
create schema doctor;
create view doctor.findings as
select "check", status, replace(detail, current_setting('timezone'), '(zone)') as detail, hint from segmenter_doctor()
where "check" not in ('library', 'time zones', 'summary', 'pg_cron') and (status <> 'ok' or "check" in ('schedules', 'due', 'tables', 'refreshes', 'sources', 'vacuum', 'hashes'));
select * from doctor.findings;
-- No library: no problem as long as nothing needs it.
select "check", status, detail from segmenter_doctor() where "check" = 'library';
begin;
insert into segmenter_consumers (name, params) values ('doctor pushed', '{"updater": {"http": {"url": "http://localhost/"}}}');
select "check", status, detail from segmenter_doctor() where "check" = 'library';
rollback;

create table doctor.orders (id int, loaded_at timestamptz);
select segmenter_create_segment('doctor one', 'select 1 as id', '@daily', 'doctor.one') is not null as created;
select segmenter_create_segment('doctor two', 'select 1 / 0 as id', '@daily', 'doctor.two') is not null as created;
select segmenter_create_segment('doctor three', 'select 1 as id', '0 0 30 2 *', 'doctor.three') is not null as created;
select "check", status, detail, hint is not null as has_hint from segmenter_doctor() where "check" = 'library';
update segmenter_segments set sources = '[{"table": "doctor.orders", "loaded_at": "loaded_at", "error_after": "1 day"}]',
    refresh_timezone = 'Pacific/Chatham' where name = 'doctor one';
update segmenter_segments set actual_begin = now() - interval '3 days' where name = 'doctor two';
set client_min_messages = error;
select segment, status from segmenter_refresh('doctor one');
select segment, status from segmenter_refresh('doctor two');
reset client_min_messages;
update segmenter_attempts set started_at = started_at - interval '2 days', ended_at = ended_at - interval '2 days' where segment_id = (select id from segmenter_segments where name = 'doctor two');
alter table doctor.three no inherit segmenter;
select "check", status, regexp_replace(detail, '\d{4}-.*', '(time)') as detail, hint from doctor.findings;
-- A zone that a segment has is a decision, and so is one that the database has; the default is none.
select "check", status, detail from segmenter_doctor() where "check" = 'time zones' and detail ~ 'doctor';
select current_database() as database \gset
select status, replace(detail, current_setting('timezone'), '(zone)') as detail, hint from segmenter_doctor() where "check" = 'time zones';
alter database :"database" set segmenter.timezone = 'UTC';
select status, detail from segmenter_doctor() where "check" = 'time zones';
alter database :"database" reset segmenter.timezone;
create index on doctor.orders (loaded_at);
select "check", status, detail from segmenter_doctor() where "check" = 'sources';
drop table doctor.three;
select "check", status, detail, hint from segmenter_doctor() where "check" = 'tables';

-- What an alert is for: an automatic segment that failed or was refused. One that is refreshed by hand, or waits
-- for its source, is a warning.
set client_min_messages = error;
select segmenter_create_segment('doctor four', 'select 1 as id', '@daily', 'doctor.four') is not null as created;
update segmenter_segments set guards = '{"min_members": 5}' where name = 'doctor four';
select segment, status from segmenter_refresh('doctor four');
select status, detail from segmenter_doctor() where "check" = 'refreshes';
update segmenter_segments set refresh_auto = false where name in ('doctor two', 'doctor four');
select status, detail from segmenter_doctor() where "check" = 'refreshes';
delete from segmenter_segments where name = 'doctor four';
reset client_min_messages;

-- Members who share the hash of an empty text: SHA-256 in capitals, MD5; among a few, and by the statistics of many.
select segmenter_create_segment('doctor five', $$
    select g as id, upper(encode(sha256(convert_to(case when g % 2 = 0 then '' else g::text end, 'UTF8')), 'hex')) as hash_email,
        md5(case when g < 5000 then g::text else '' end) as hash_phone
    from generate_series(1, 6000) g$$, null, 'doctor.five') is not null as created;
alter table doctor.five set (autovacuum_enabled = false);
select segment, status from segmenter_refresh('doctor five');
select status, detail, hint from segmenter_doctor() where "check" = 'hashes';
analyze doctor.five;
select status, detail from segmenter_doctor() where "check" = 'hashes';
select status, coverage from segmenter_refresh('doctor five', 'select 1 as id, md5(''x'') as hash_email, null as hash_phone', force => true);
select status, detail from segmenter_doctor() where "check" = 'hashes';
select status from segmenter_refresh('doctor five', 'select '''' as id union all select ''1''', force => true);
select status, detail, hint from segmenter_doctor() where "check" = 'hashes';
delete from segmenter_segments where name = 'doctor five';

-- A table that nobody vacuums.
alter table doctor.one set (autovacuum_enabled = false);
update segmenter_segments set sources = '[]', refresh_params = '{"query": {"sql": "select g as id, clock_timestamp()::text as hash_email from generate_series(1, 200) g"}}' where name = 'doctor one';
select segment, status, coverage from segmenter_refresh('doctor one');
select segment, status, changed from segmenter_refresh('doctor one');
select pg_stat_force_next_flush();
select 1;
select "check", status, detail, hint from segmenter_doctor() where "check" = 'vacuum';
vacuum doctor.one;
select pg_stat_force_next_flush();
select 1;
select "check", status, detail from segmenter_doctor() where "check" = 'vacuum';

delete from segmenter_log where segment_name like 'doctor %';
delete from segmenter_segments where name like 'doctor %';
set client_min_messages = error;
drop schema doctor cascade;
