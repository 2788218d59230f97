-- segmenter_cron_next(): when a schedule comes next, by the wall clock of a zone.
set timezone = 'UTC';
set datestyle = 'ISO, YMD';
create schema cron;
create table cron.example (id int generated always as identity, expression text, after timestamptz, zone text);
insert into cron.example (expression, after, zone) values
    -- Fields, lists, ranges, steps, names.
    ('* * * * *', '2024-05-15 12:00:00', null),
    ('* * * * *', '2024-05-15 12:00:59.999', null),
    ('*/15 * * * *', '2024-05-15 12:50', null),
    ('5,35 9-17 * * *', '2024-05-15 17:35', null),
    ('0 0 31 * *', '2024-05-31 00:00', null),
    ('0 0 29 2 *', '2024-02-29 00:00', null),
    ('0 12 * JAN,jul Mon-FRI', '2024-05-15 00:00', null),
    ('0 0 * * 7', '2024-05-15 00:00', null),
    ('0 0 * * 0', '2024-05-15 00:00', null),
    ('0 0 * * fri-sun', '2024-05-18 00:00', null),
    (E'  0\t0  *   * *  ', '2024-05-15 00:00', null),
    -- Both day fields restricted: either; one that begins with *: both.
    ('0 0 13 * fri', '2024-05-15 00:00', null),
    ('0 0 */2 * fri', '2024-05-15 00:00', null),
    -- The last day of the month.
    ('0 0 $ * *', '2024-02-01 00:00', null),
    ('0 0 $ 2 *', '2024-02-29 00:00', null),
    -- Names and seconds.
    ('@hourly', '2024-05-15 12:00', null),
    ('@daily', '2024-05-15 12:00', null),
    ('@midnight', '2024-05-15 12:00', null),
    ('@weekly', '2024-05-15 12:00', null),
    ('@Monthly', '2024-05-15 12:00', null),
    ('@yearly', '2024-05-15 12:00', null),
    ('@annually', '2024-05-15 12:00', null),
    ('30 seconds', '2024-05-15 12:00:45', null),
    ('1 second', '2024-05-15 12:00:45', null),
    -- Never.
    ('0 0 30 2 *', '2024-05-15 00:00', null),
    ('* * * * *', 'infinity', null),
    ('0 0 1 1 *', '-infinity', null),
    -- Zones.
    ('0 9 * * *', '2024-05-15 12:00', 'Asia/Tokyo'),
    ('0 9 * * *', '2024-05-15 12:00', 'America/New_York'),
    ('0 9 * * *', '2024-05-15 12:00', 'europe/berlin'),
    -- A spring gap (31 March, 02:00 to 03:00) and an autumn overlap (27 October, 03:00 to 02:00).
    ('30 2 * * *', '2024-03-30 12:00', 'Europe/Berlin'),
    ('30 2 * * *', '2024-03-31 01:00', 'Europe/Berlin'),
    ('30 2 * * *', '2024-10-26 12:00', 'Europe/Berlin'),
    ('30 2 * * *', '2024-10-27 00:30', 'Europe/Berlin'),
    ('30 * * * *', '2024-10-27 00:30', 'Europe/Berlin'),
    ('*/30 * * * *', '2024-03-31 00:30', 'Europe/Berlin');
select e.expression, e.after, e.zone, segmenter_cron_next(e.expression, e.after, e.zone) as next
from cron.example e
order by e.id;

-- The zone by default is the setting; the session's changes what is shown, not what is meant.
select segmenter_cron_next('0 9 * * *', '2024-05-15 12:00+00');
alter database segmenter_regress set segmenter.timezone = 'Asia/Tokyo';
select segmenter_cron_next('0 9 * * *', '2024-05-15 12:00+00');
alter database segmenter_regress reset segmenter.timezone;
set timezone = 'America/New_York';
select segmenter_cron_next('0 9 * * *', '2024-05-15 12:00+00');
set timezone = 'UTC';
select segmenter_cron_next('* * * * *') - now() between '0' and '1 minute' as within_a_minute;

-- What is wrong is named.
\set VERBOSITY default
select segmenter_cron_next('0 25 * * *');
select segmenter_cron_next('0 0 32 * *');
select segmenter_cron_next('0 0 * 13 *');
select segmenter_cron_next('0 0 * * 8');
select segmenter_cron_next('0 0 * * * *');
select segmenter_cron_next('@fortnightly');
select segmenter_cron_next('0 seconds');
select segmenter_cron_next('');
select segmenter_cron_next('* * * * *', timezone => 'Nowhere');
select segmenter_cron_next(null);
select segmenter_cron_next('* * * * *', null);

drop table cron.example;
drop schema cron;
