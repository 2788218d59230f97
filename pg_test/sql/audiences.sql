-- What is in target systems: reports of consumers, compared with what was handed over; max_drift and heal.
\set VERBOSITY terse
create role audiences_owner;
create role audiences_ads;
create role audiences_other;
create schema audiences authorization audiences_owner;
set role audiences_owner;
create table audiences.people (id int primary key);
insert into audiences.people select generate_series(1, 10);
select segmenter_create_segment('audiences', 'select id from audiences.people', table_name => 'audiences.members') is not null as is_created;
reset role;
insert into segmenter_consumers (name, role, subscribers) values ('audiences ads', 'audiences_ads', '{audiences_owner}'), ('audiences other', 'audiences_other', '{audiences_owner}');
create function audiences.subscribe(consumer text, target text, params jsonb) returns void language sql as $$
    insert into segmenter_subscriptions (consumer_id, segment_id, target, params, name)
    select c.id, s.id, $2, '{"fields": ["id"]}' || $3, 'audience ' || $2 from segmenter_consumers c, segmenter_segments s where c.name = $1 and s.name = 'audiences'
$$;
-- Delivers what waits. The audience has an id, unless its target is called so.
create function audiences.deliver(consumer text) returns text language plpgsql as $$
declare
    message record;
    ids text := '';
begin
    loop
        select * into message from segmenter_claim(consumer);
        exit when not found;
        ids := ids || ' ' || message.operation;
        perform segmenter_ack(message.lease, message.message_id,
            case when message.operation = 'create' and message.target <> 'nameless' then jsonb_build_object('external_id', 'id of ' || message.target) else '{}' end);
    end loop;
    return ids;
end $$;
create view audiences.shown as
select consumer, target, audience, external_id, state, members, size, match_rate, drift, reported_at between now() - interval '1 minute' and clock_timestamp() as is_recent
from segmenter_audiences where consumer like 'audiences %';
grant usage on schema audiences to public; grant select on audiences.shown to public;

-- Checked when it is written.
\set VERBOSITY default
select audiences.subscribe('audiences ads', 'wrong', '{"max_drift": -1}');
select audiences.subscribe('audiences ads', 'wrong', '{"heal": true}');
select audiences.subscribe('audiences ads', 'wrong', '{"mode": "events", "max_drift": 0.1}');
update segmenter_consumers set params = '{"list_every": "1 day"}' where name = 'audiences ads';
update segmenter_consumers set params = '{"updater": {"function": {"name": "audiences.push(jsonb)"}}, "list_every": "often"}' where name = 'audiences ads';
update segmenter_consumers set params = '{"updater": {"function": {"name": "audiences.push(jsonb)"}}, "list_every": "0 s"}' where name = 'audiences ads';
\set VERBOSITY terse
select audiences.subscribe('audiences ads', 'vip', '{"max_drift": 0.1}');
select audiences.subscribe('audiences ads', 'healed', '{"max_drift": 0.1, "heal": true}');
select audiences.subscribe('audiences ads', 'nameless', '{}');
select audiences.subscribe('audiences ads', 'events', '{"mode": "events"}');
select audiences.subscribe('audiences other', 'vip', '{}');
select status from segmenter_refresh('audiences');
select * from audiences.shown;

-- Nothing is missing before it was delivered.
select segmenter_report_audiences('audiences ads', '[]');
select target, state, is_recent from audiences.shown;
select audiences.deliver('audiences ads');
select target, external_id, state from audiences.shown;

-- Known by the id, or by the name where there is none; for one target, or any.
select segmenter_report_audiences('audiences ads', '[
    {"external_id": "id of vip", "name": "whatever", "size": 9, "match_rate": 0.87, "status": "ready"},
    {"external_id": "id of healed", "target": "elsewhere", "size": 1},
    {"external_id": 77, "name": "old test", "size": 90},
    {"external_id": "n", "name": "audience nameless", "size": 4},
    {"external_id": "id of events"}
]');
select * from audiences.shown;
select status, detail, hint from segmenter_doctor() where "check" = 'audiences' order by detail;
-- The last report counts, as a whole.
select segmenter_report_audiences('audiences ads', '[{"external_id": "audience nameless", "size": 0}, {"external_id": "id of vip", "target": "vip", "size": 8}, {"external_id": "id of vip", "size": 1}]');
select * from audiences.shown where state in ('known', 'foreign');
select detail from segmenter_doctor() where "check" = 'audiences' and detail like '%max_drift%';
-- A report that is older than a delivery says nothing.
delete from audiences.people where id > 8;
select status from segmenter_refresh('audiences');
select detail from segmenter_doctor() where "check" = 'audiences' and detail like '%max_drift%';
select audiences.deliver('audiences ads');
select detail from segmenter_doctor() where "check" = 'audiences' and detail like '%max_drift%';
select target, members, size, match_rate, drift from audiences.shown where target = 'vip' and state = 'known';

-- heal: all members, once for each report, not while messages wait, and only of those that have it.
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of vip", "size": 1}, {"external_id": "id of healed", "size": 9}]');
select target, drift from audiences.shown where target in ('vip', 'healed') and state = 'known';
select detail, hint from segmenter_doctor() where "check" = 'audiences' and detail like '%max_drift%' order by 1;
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of vip", "size": 1}, {"external_id": "id of healed", "size": 9}]');
select segment, messages from segmenter_run() where segment = 'audiences';
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of healed", "size": 9}]');
select segment, messages from segmenter_run() where segment = 'audiences' and messages > 0;
select audiences.deliver('audiences ads');
select segment, messages from segmenter_run() where segment = 'audiences' and messages > 0;
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of healed", "size": 8}]');
select segment, messages from segmenter_run() where segment = 'audiences' and messages > 0;
select action, status, target, message, reason from segmenter_log where segment_name = 'audiences' and (message like '%report%' or reason = 'resync') order by id;

-- What ended is not missing. What is there of it is known until its end was delivered.
update segmenter_subscriptions set actual_end = now() where target in ('vip', 'nameless') and consumer_id = (select id from segmenter_consumers where name = 'audiences ads');
select count(*) from segmenter_run();
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of vip"}, {"external_id": "id of healed", "size": 8}]');
select target, external_id, state from audiences.shown where consumer = 'audiences ads';
select audiences.deliver('audiences ads');
select target, external_id, state from audiences.shown where consumer = 'audiences ads';

-- The consumer's role reports; the segment's owner sees its own audiences, nobody those of others.
set role audiences_ads;
select segmenter_report_audiences('audiences ads', '[{"external_id": "id of healed", "size": 8}, {"external_id": "foreign"}]');
select consumer, target, external_id, state, size from audiences.shown;
select consumer_id is not null as is_shown, jsonb_array_length(audiences) from segmenter_reports;
select segmenter_report_audiences('audiences other', '[]');
select segmenter_report_audiences('audiences nobody', '[]');
set role audiences_owner;
select consumer, target, external_id, state, size from audiences.shown;
select count(*) from segmenter_reports;
select segmenter_report_audiences('audiences ads', '[]');
set role audiences_other;
select consumer, target, external_id, state, size from audiences.shown;
insert into segmenter_reports (consumer_id) select id from segmenter_consumers;
reset role;

-- What is no report.
\set VERBOSITY default
select segmenter_report_audiences('audiences ads', '{}');
select segmenter_report_audiences('audiences ads', '[{"name": "x"}]');
select segmenter_report_audiences('audiences ads', '[{"external_id": "1"}, {"external_id": "2", "size": -1}]');
select segmenter_report_audiences('audiences ads', '[{"external_id": "1", "rate": 1}]');
select segmenter_report_audiences('audiences ads', '[{"external_id": "1", "match_rate": 87}]');
select segmenter_report_audiences('audiences ads', '[{"external_id": "1"}, {"external_id": 1}]');
select segmenter_report_audiences('audiences ads', '[{"external_id": "1", "size": 1e400}]');
select segmenter_report_audiences('audiences ads', null);
\set VERBOSITY terse
select external_id, state, size from audiences.shown where state = 'foreign';
\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name = 'audiences');
delete from segmenter_segments where name = 'audiences';
delete from segmenter_log where segment_name = 'audiences';
delete from segmenter_consumers where name like 'audiences %';
drop schema audiences cascade;
drop role audiences_owner, audiences_ads, audiences_other;
