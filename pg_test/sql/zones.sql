-- Members' times are local times in the zone segmenter.timezone, and the text of a key is always
-- the same, whatever the session's TimeZone, DateStyle and other settings are.
create schema zones;
select segmenter_create_segment('zones', 'select 1 as id', table_name => 'zones.segment') is not null as created;
-- How far a time is from what the clock shows in a zone.
create function zones.is_now(moment timestamp, zone text) returns boolean language sql as $$
    select abs(extract(epoch from timezone(zone, clock_timestamp()) - nullif(moment, 'infinity'))) < 60
$$;

set timezone = 'Asia/Tokyo';
select status, added from segmenter_refresh('zones');
select zones.is_now(actual_begin, 'UTC') as began, zones.is_now(processed, 'UTC') as processed from zones.segment;
set timezone = 'America/New_York';
select status, removed, added from segmenter_refresh('zones', 'select 2 as id');
select id, zones.is_now(actual_begin, 'UTC') as began, zones.is_now(actual_end, 'UTC') as ended, zones.is_now(processed, 'UTC') as processed
from zones.segment
order by id;

-- Further east the local time is later, and so are the members' times from then on.
alter database segmenter_regress set segmenter.timezone = 'Europe/Berlin';
select status, removed, added from segmenter_refresh('zones', 'select 3 as id');
select id, zones.is_now(actual_begin, 'Europe/Berlin') as began, zones.is_now(processed, 'Europe/Berlin') as processed
from zones.segment
where actual_end = 'infinity';
-- The SQL of a segment runs in that zone.
select status, added from segmenter_refresh('zones', 'select current_setting(''TimeZone'') as id');
select id from zones.segment where actual_end = 'infinity';
-- Back west the local time is earlier, but time does not run backwards in a segment.
alter database segmenter_regress set segmenter.timezone = 'America/New_York';
select status, added, removed from segmenter_refresh('zones', 'select 4 as id');
select status, added, removed from segmenter_refresh('zones', 'select 5 as id');
select count(*), bool_and(actual_begin <= actual_end) as in_order from zones.segment;
select count(*) as overlaps
from zones.segment a
join zones.segment b on b.id = a.id and b.ctid <> a.ctid and b.actual_begin < a.actual_end and a.actual_begin < b.actual_end;
alter database segmenter_regress reset segmenter.timezone;

-- The text of a key.
create table zones.key (kind text, a_date date, a_time timestamptz, a_number float8, some_bytes bytea, an_interval interval, a_decimal numeric, a_range daterange);
insert into zones.key values ('k', '2024-05-01', '2024-05-01 12:00+00', 0.1::float8 + 0.2::float8, '\x00ff', '1 day 2 hours', 1.50, '[2024-05-01,2024-05-02)');
create function zones.keys() returns text language sql as $$
    select 'select a_date::text || e.sep || a_time::text || e.sep || a_number || e.sep || some_bytes || e.sep || an_interval || e.sep || a_decimal || e.sep || a_range as id from zones.key, (values ('' / '')) e (sep)'
$$;
select status, added from segmenter_refresh('zones', zones.keys());
select id from zones.segment where actual_end = 'infinity';
set timezone = 'Asia/Tokyo';
set datestyle = 'German, DMY';
set intervalstyle = 'iso_8601';
set extra_float_digits = -5;
set bytea_output = 'escape';
set lc_numeric = 'C';
select status, added, removed from segmenter_refresh('zones', zones.keys());
-- A key of each type as it comes.
create procedure zones.stable(expression text) language plpgsql as $$
declare
    query text := format('select %s as id from zones.key', expression);
    moved bigint;
begin
    set local datestyle = 'ISO, YMD';
    set local timezone = 'UTC';
    perform segmenter_refresh('zones', query);
    set local datestyle = 'SQL, DMY';
    set local timezone = 'Asia/Kolkata';
    set local intervalstyle = 'postgres_verbose';
    set local extra_float_digits = -3;
    set local bytea_output = 'escape';
    select added into moved from segmenter_refresh('zones', query);
    raise info '%: % new', (select id from zones.segment where actual_end = 'infinity'), moved;
end $$;
call zones.stable('a_date');
call zones.stable('a_time');
call zones.stable('a_number');
call zones.stable('some_bytes');
call zones.stable('an_interval');
call zones.stable('a_decimal');
call zones.stable('a_range');
call zones.stable('kind');
call zones.stable('''x''::char(5)');
call zones.stable('true');
call zones.stable('array[1, 2]');
call zones.stable('row(1, null, ''a b'')');
call zones.stable('''{"b": 1, "a": 2}''::jsonb');

reset all;
delete from segmenter_segments;
delete from segmenter_log;
set client_min_messages = warning;
drop schema zones cascade;
