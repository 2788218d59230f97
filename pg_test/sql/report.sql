-- segmenter_report(): facts about the page. It is looked at in a browser by the cluster test of this name.
\set VERBOSITY terse
set client_min_messages = error;
create schema report;
create function report.count(page text, what text) returns int immutable language sql
as $$ select (length(page) - length(replace(page, what, ''))) / length(what) $$;
create function report.says(page text, what text) returns boolean immutable language sql
as $$ select strpos(page, what) > 0 $$;
-- Whether a page is one, of nothing but our own tags.
create function report.is_page(page text) returns boolean immutable language sql as $$
    select page ~ '^<!DOCTYPE html><html lang="en">.*</html>$'
        and octet_length(page) = length(page) and page !~ '[^\n -~]' and length(page) < 2000000
        and page !~* '<(script|img|link|iframe|object|embed|base|form|a)[ />]' and page !~* 'https?:'
        and report.count(page, '<svg') = report.count(page, '</svg>')
        and report.count(page, '<svg') = report.count(page, 'role="img"')
        and report.count(page, '<style') = 1 and report.count(page, '</style') = 1
$$;
create function report.segment(name text, query text) returns void language sql
as $$ select segmenter_create_segment(name, query, null, 'report.' || quote_ident(md5(name))) $$;
create role report_owner;
create role report_other;
create role report_team in role report_owner, report_other;
grant usage, create on schema report to report_owner, report_other;

-- Without a segment.
set role report_owner;
select report.is_page(p), report.says(p, 'There is no segment that role <bdi>report_owner</bdi> may see'), report.count(p, '<svg') as pictures
from segmenter_report() p;

-- With one, which was never refreshed, and then was.
select report.segment('report one', 'select ''member-'' || g as id, ''hash-'' || g as hash_email from generate_series(1, 5) g');
select report.is_page(p), report.says(p, 'never refreshed'), report.says(p, 'There are no two segments') from segmenter_report() p;
select status, coverage from segmenter_refresh('report one');
select report.is_page(p), report.says(p, 'never refreshed'), report.says(p, '1 segment, 5 members'), report.says(p, 'role="img" width="330" height="130"'),
    report.says(p, '<title>report one: between 5 and 5 members; 5 came, 0 left</title>'), report.says(p, '<title>report one: 1 ok</title>') from segmenter_report() p;
-- Hours, days, and several days at a time.
select days, report.is_page(p), report.count(p, '<circle') > 0 as has_marks,
    report.says(p, 'the worst of each ' || step || '<') as has_step
from (values (1, 'hour'), (3, 'hour'), (4, 'day'), (100, 'day'), (101, 'step of several days'), (3660, 'step of several days')) d (days, step)
cross join lateral segmenter_report(days) p;
select segmenter_report(0);
select segmenter_report(3661);
select segmenter_report(null);

-- One that fails with a person's data in its message, one that waits, one that a guard refuses, one that has two in common.
create table report.contacts (email text);
insert into report.contacts values ('bob@example.com');
select report.segment('report failed', 'select email::int as id from report.contacts');
select report.segment('report waits', 'select 1 as id');
update segmenter_segments set sources = '[{"name": "report.crm load", "ready": "select false"}]' where name = 'report waits';
select report.segment('report refused', 'select 1 as id');
update segmenter_segments set guards = '{"min_members": 5}' where name = 'report refused';
select report.segment('report two', 'select ''member-'' || g as id from generate_series(4, 9) g');
select name, status from unnest('{report failed,report waits,report refused,report two}'::text[]) name, segmenter_refresh(name);
select report.is_page(p), report.says(p, 'bob@') as has_data, report.says(p, 'member-') as has_member, report.says(p, 'hash-') as has_hash from segmenter_report() p;
-- The answers on its first screen.
select report.says(p, 'late?</h2><p class="big"><bdi>report.crm load</bdi></p><p>1 segment had to wait') as late,
    report.says(p, 'wait?</h2><p class="big">1 segment</p><p><bdi>report waits</bdi> has waited for') as waits,
    report.says(p, 'source &quot;report.crm load&quot; is not ready') as reason,
    report.says(p, 'wrong?</h2><p class="big">2 segments</p>') as wrong,
    report.says(p, 'fewer than min_members') as guard,
    report.count(p, 'title="2 common members"') as common
from segmenter_report() p;
-- A segment that has shrunk: its log says what it had.
update segmenter_segments set refresh_params = '{"query": {"sql": "select ''member-'' || g as id from generate_series(6, 9) g"}}' where name = 'report two';
select removed from segmenter_refresh('report two');
reset role;
update segmenter_segments set actual_begin = now() - interval '30 days' where name = 'report two';
update segmenter_log set processed = processed - interval '8 days' where segment_name = 'report two' and id in (
    select min(id) from segmenter_log where segment_name = 'report two' and action = 'refresh');
set role report_owner;
select report.says(p, 'week?</h2><p class="big"><bdi>report two</bdi></p><p>6 &#8594; 4 members (&#8722;33&#160;%)') as shrank from segmenter_report() p;

-- Messages that wait for a consumer, and what segments are made from.
select segmenter_subscribe('report mail', 'report two', 'news') is not null as subscribed;
select status from segmenter_refresh('report two');
select report.says(p, 'wait?</h2><p class="big">1 segment, 2 messages</p>') as waits, report.says(p, '<bdi>report two</bdi> in <bdi>news</bdi>') as audience
from segmenter_report() p;
create table report.orders (id int);
select report.segment('report reads', 'select id from report.orders');
select report.says(p, '<td><bdi>report.orders</bdi></td><td>table</td>') as reads, report.says(p, 'class="lineage"') as drawn from segmenter_report() p;

-- What other roles see: nothing, not even as a member of pg_monitor; and a member of both sees all.
reset role;
grant pg_monitor to report_other;
set role report_other;
select report.is_page(p), report.says(p, 'report one'), report.says(p, 'report mail'), report.says(p, 'There is no segment that role') from segmenter_report() p;
select report.segment('report other', 'select 1 as id');
select report.is_page(p), report.count(p, '<bdi>report other</bdi>') > 0 as own, report.says(p, 'report one'), report.says(p, 'report two'), report.says(p, 'report mail'), report.says(p, 'report.crm load') from segmenter_report() p;
set role report_team;
select report.is_page(p), report.says(p, 'report one'), report.says(p, 'report other') from segmenter_report() p;
reset role;
select report.says(p, 'report one'), report.says(p, 'report other') from segmenter_report() p;
-- Members that the caller may not read are not compared.
set role report_owner;
do $$ begin execute format('revoke select on report.%I from report_owner', md5('report two')); end $$;
select report.is_page(p), report.says(p, '1 segment with members is left out: the role may not read them') from segmenter_report() p;
do $$ begin execute format('grant select on report.%I to report_owner', md5('report two')); end $$;

-- Hostile names are texts.
select report.segment(name, 'select 1 as id') from unnest(array[
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '</title></style></svg><b>', E'new\nline \u202e right', '&lt;&#60;', 'Тверь'
]) name;
select report.is_page(p), report.says(p, '&lt;script&gt;alert(1)&lt;/script&gt;'), report.says(p, '&amp;lt;&amp;#60;'), report.says(p, '&#1058;&#1074;&#1077;&#1088;&#1100;'), report.says(p, '&#8238;') as overrides
from segmenter_report() p;
-- It writes nothing.
begin read only;
select report.is_page(segmenter_report());
rollback;

reset role;
delete from segmenter_outbox where consumer_id in (select id from segmenter_consumers where name = 'report mail');
delete from segmenter_subscriptions;
delete from segmenter_consumers where name = 'report mail';
delete from segmenter_segments;
delete from segmenter_log;
drop schema report cascade;
drop role report_team, report_other, report_owner;
