-- Alerts: each rule fires for the fault that is put in, once, and clears.
create schema alerts;
create role alerts_owner;
create role alerts_other;
create role alerts_ops;
grant usage, create on schema alerts to alerts_owner, alerts_other;
create table alerts.people (id int primary key, email text);
insert into alerts.people select g, 'mail' || g from generate_series(1, 100) g;
grant select on alerts.people to alerts_owner, alerts_other;
create table alerts.loaded (at timestamptz);
grant select on alerts.loaded to alerts_owner;
insert into segmenter_consumers (name, role, subscribers) values ('alerts ops', 'alerts_ops', '{alerts_owner}') returning id as consumer \gset

set role alerts_owner;
\set VERBOSITY terse
select segmenter_create_segment('alerts vip', 'select id, email as hash_email from alerts.people', table_name => 'alerts.vip') is not null as created;
select segmenter_create_segment(E'alerts "q" \\ 🛒', 'select id from alerts.people where id < 4', table_name => 'alerts.odd') is not null as created;
set role alerts_other;
select segmenter_create_segment('alerts of other', 'select id from alerts.people', table_name => 'alerts.other') is not null as created;

-- Rules that are not valid.
set role alerts_owner;
set client_min_messages = warning;
\set VERBOSITY verbose
select segmenter_alert('alerts ops', '[]');
select segmenter_alert('alerts ops', '{"on": []}');
select segmenter_alert('alerts ops', '{"on": ["fail"]}');
select segmenter_alert('alerts ops', '{"on": ["waiting > soon"]}');
select segmenter_alert('alerts ops', '{"on": ["waiting >= 1 hour"]}');
select segmenter_alert('alerts ops', '{"on": ["late > 2"]}');
select segmenter_alert('alerts ops', '{"on": ["late > -1 hour"]}');
select segmenter_alert('alerts ops', '{"on": ["size > 30"]}');
select segmenter_alert('alerts ops', '{"on": ["late"], "flapping": {"within": "often"}}');
select segmenter_alert('alerts ops', '{"on": ["late"], "segments": ["alerts of other"]}');
select segmenter_alert('alerts ops', null);
select segmenter_alert(null, '{"on": ["late"]}');
insert into segmenter_alerts (consumer_id, rule) values ('00000000-0000-0000-0000-000000000000', '{"on": ["late"]}');
insert into segmenter_alerts (consumer_id, rule, owner_name) values (:'consumer', '{"on": ["late"]}', 'alerts_other');
insert into segmenter_alerts (consumer_id, rule) values (:'consumer', null);
insert into segmenter_alerts (consumer_id, rule, actual_end) values (:'consumer', '{"on": ["late"]}', 'yesterday');
-- A consumer that has not permitted it.
set role alerts_other;
select segmenter_alert('alerts ops', '{"on": ["late"]}');
reset role;
-- The subscription of a rule is written with it, and has no segment.
insert into segmenter_subscriptions (consumer_id, target) select c.id, 'alerts' || 1 from segmenter_consumers c where c.name = 'alerts ops';
\set VERBOSITY terse

-- What is reported.
create view alerts.reported with (security_invoker = true) as
select o.payload #>> '{segment,name}' as segment, a."on", a.was, a."is", a.firing, a.flapping,
    regexp_replace(a.summary, '[0-9]+ days', '… days') as summary, a.detail
from segmenter_outbox o
cross join lateral jsonb_to_record(o.payload -> 'alert') a ("on" text, was text, "is" text, firing boolean, flapping boolean, summary text, detail text)
where o.operation = 'alert'
order by o.id;
grant select on alerts.reported to alerts_owner, alerts_other, alerts_ops;

set role alerts_owner;
select segmenter_alert('alerts ops', '{"on": ["failed", "refused", "waiting", "late", "size", "delivery", "drift", "definition"], "flapping": false}') as rule \gset
-- The same again.
\set VERBOSITY terse
select segmenter_alert('alerts ops', '{"on": ["failed", "refused", "waiting", "late", "size", "delivery", "drift", "definition"], "flapping": false}');
\set VERBOSITY default
select consumer_id is not null as has_consumer, rule ->> 'on' as rule, owner_name, owner, actual_end from segmenter_alerts;

-- Nothing is wrong. Segments of other roles are not covered.
set client_min_messages = error;
select status from segmenter_refresh('alerts vip');
reset client_min_messages;
select status from segmenter_refresh(E'alerts "q" \\ 🛒');
set role alerts_other;
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'alerts of other';
select status from segmenter_refresh('alerts of other');
reset role;
select * from alerts.reported;

-- A look that finds nothing new writes nothing.
select segmenter_run_prune();
begin;
select segmenter_run_prune();
select count(*) from segmenter_run();
select pg_current_xact_id_if_assigned() is null as no_id;
commit;

-- failed: once, however often it fails, and once that it is over.
set role alerts_owner;
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id', dry_run => true);
select status from segmenter_refresh('alerts vip');
select status from segmenter_refresh('alerts vip');
select * from alerts.reported;
reset role;
truncate segmenter_outbox;

-- refused, from failed: one alert each. What is reported of a dry run is nothing.
set role alerts_owner;
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
select status from segmenter_refresh('alerts vip', query => 'select id from alerts.people where false');
select status from segmenter_refresh('alerts vip');
select segment, "on", was, "is", firing, summary, detail from alerts.reported;
reset role;
truncate segmenter_outbox;

-- waiting.
set role alerts_owner;
update segmenter_segments set sources = '[{"table": "alerts.loaded", "loaded_at": "at", "error_after": "1 day"}]' where name = 'alerts vip';
select status from segmenter_refresh('alerts vip');
select status from segmenter_refresh('alerts vip');
reset role;
insert into alerts.loaded values (now());
set role alerts_owner;
select status from segmenter_refresh('alerts vip');
select segment, "on", was, "is", firing, summary, detail from alerts.reported where "on" <> 'definition';
-- definition: it is reported, and nothing ends.
select segment, was, "is", firing, summary, detail from alerts.reported where "on" = 'definition';
reset role;
truncate segmenter_outbox;

-- What has changed between two looks is reported together.
set role alerts_owner;
update segmenter_segments set description = 'ours' where name = 'alerts vip';
reset role;
update segmenter_segments set context = 'shop' where name = 'alerts vip';
select segmenter_run_prune();
select segment, was, "is", firing, summary, detail from alerts.reported where "on" = 'definition';
truncate segmenter_outbox;

-- size: half of them go, and the next refresh is as usual. Both are reported.
delete from alerts.people where id > 50;
set role alerts_owner;
select status from segmenter_refresh('alerts vip');
select status from segmenter_refresh('alerts vip');
select segment, "on", was, "is", firing, summary, detail from alerts.reported;
reset role;
truncate segmenter_outbox;

-- late: seen by a run, which looks at all segments.
set role alerts_owner;
update segmenter_segments set refresh_auto = true, refresh_cron = '0 4 * * *' where name = 'alerts vip';
reset role;
truncate segmenter_outbox;
update segmenter_state t set started_at = now() - interval '3 days', ended_at = now() - interval '3 days'
from segmenter_segments s where s.id = t.segment_id and s.name = 'alerts vip';
select segmenter_run_prune();
select segmenter_run_prune();
select "on", was, "is", firing, summary, detail from alerts.reported where "on" = 'late';
set role alerts_owner;
select segment, status from segmenter_run() where segment = 'alerts vip';
select "on", was, "is", firing, summary, detail from alerts.reported where "on" = 'late' and not firing;
reset role;
truncate segmenter_outbox;

-- delivery and drift: of a subscription.
set role alerts_owner;
update segmenter_segments set refresh_auto = false where name = 'alerts vip';
reset role;
insert into segmenter_consumers (name, role) values ('alerts crm', 'alerts_owner');
set role alerts_owner;
select segmenter_subscribe('alerts crm', 'alerts vip', 'mail', '{"max_drift": 0.1}') as subscription \gset
-- A rule does not take the subscription of a segment.
insert into segmenter_alerts (id, consumer_id, rule) values (:'subscription', :'consumer', '{"on": ["late"]}');
select actual_end from segmenter_subscriptions where id = :'subscription';
select status from segmenter_refresh('alerts vip');
select lease as lease, message_id from segmenter_claim('alerts crm', 100) order by message_id desc limit 1 \gset
select segmenter_ack(:'lease', :message_id, '{"external_id": "a1"}');
select status from segmenter_refresh('alerts vip', query => 'select id, ''new'' || id as hash_email from alerts.people');
reset role;
update segmenter_subscriptions set status = 'failed' where id = :'subscription';
update segmenter_deliveries set last_error = 'no such list' where subscription_id = :'subscription';
select segmenter_run_prune();
set role alerts_owner;
select segmenter_retry(:'subscription') > 0 as retried;
select lease as lease, message_id from segmenter_claim('alerts crm', 100) order by message_id desc limit 1 \gset
select segmenter_ack(:'lease', :message_id);
select segmenter_run_prune();
select segmenter_report_audiences('alerts crm', '[{"external_id": "a1", "size": 30}]');
select segmenter_run_prune();
select segmenter_report_audiences('alerts crm', '[{"external_id": "a1", "size": 50}]');
select segmenter_run_prune();
select "on", was, "is", firing, summary, detail from alerts.reported where "on" in ('delivery', 'drift');
reset role;
truncate segmenter_outbox;

-- What was reported is reported to have ended when the segment is retired.
set role alerts_owner;
select status from segmenter_refresh(E'alerts "q" \\ 🛒', query => 'select 1 / 0 as id');
update segmenter_segments set actual_end = now() where name = E'alerts "q" \\ 🛒';
select segmenter_run_prune();
select segment, "on", was, "is", firing, summary, detail from alerts.reported;
select subject from segmenter_alert_states where segment <> 'alerts vip';
-- Its definition is looked at all the same.
update segmenter_segments set actual_end = 'infinity' where name = E'alerts "q" \\ 🛒';
select segmenter_run_prune();
update segmenter_segments set actual_end = now() where name = E'alerts "q" \\ 🛒';
update segmenter_segments set actual_end = 'infinity' where name = E'alerts "q" \\ 🛒';
update segmenter_segments set actual_end = now() where name = E'alerts "q" \\ 🛒';
select segmenter_run_prune();
select segment, "on", "is", summary, detail from alerts.reported where "on" = 'definition';
reset role;
truncate segmenter_outbox;

-- A state that changes too often is reported as that, and then no more.
set role alerts_owner;
select segmenter_alert('alerts ops', '{"on": ["failed"], "segments": ["alerts vip"], "flapping": {"changes": 3, "within": "1 day"}}') as flapping \gset
do $$
begin
    for round in 1 .. 5 loop
        perform segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
        perform segmenter_refresh('alerts vip');
    end loop;
end
$$;
reset role;
select o.subscription_id = :'flapping' as is_damped, count(*), count(*) filter (where o.payload @> '{"alert": {"flapping": true}}') as flapping
from segmenter_outbox o where o.operation = 'alert' group by 1 order by 1;
set role alerts_owner;
select state, reported, cardinality(changes) as changes from segmenter_alert_states where alert_id = :'flapping';
-- Its rest is reported once it has lasted: the times are made old here.
reset role;
update segmenter_alert_states set state = 'failed', reported = 'ok', changes = array(select now() - interval '23 hours' from generate_series(1, 4)) where alert_id = :'flapping';
select segmenter_run_prune();
update segmenter_alert_states set changes = array(select now() - interval '25 hours' from generate_series(1, 4)) where alert_id = :'flapping';
select segmenter_run_prune();
select o.payload #>> '{alert,was}' as was, o.payload #>> '{alert,is}' as "is", o.payload #>> '{alert,flapping}' as flapping
from segmenter_outbox o where o.subscription_id = :'flapping' order by o.id desc limit 1;
-- A rule that ends reports that what was open has ended, and knows nothing then.
set role alerts_owner;
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
update segmenter_alerts set actual_end = now() where id = :'flapping';
select status from segmenter_refresh('alerts vip');
select segmenter_run_prune();
select segmenter_run_prune();
select count(*) from segmenter_alert_states where alert_id = :'flapping';
reset role;
select o.payload #>> '{alert,was}' as was, o.payload #>> '{alert,is}' as "is", o.payload #>> '{alert,firing}' as firing
from segmenter_outbox o where o.subscription_id = :'flapping' order by o.id desc limit 1;
set role alerts_owner;
reset role;
truncate segmenter_outbox;

-- The consumer gets them in order, as any message.
set role alerts_owner;
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
select status from segmenter_refresh('alerts vip');
set role alerts_ops;
select count(*) from segmenter_alerts;
select subscription_id = :'rule' as is_of_rule, audience, external_id, target, operation, part, parts, members, attempt,
    payload #>> '{alert,is}' as "is", payload - array['alert', 'run_id', 'segment', 'audience'] as payload, payload #>> '{segment,name}' as segment
from segmenter_claim('alerts ops', 10);
select lease as lease from segmenter_deliveries where subscription_id = :'rule' \gset
select max(id) as message_id from segmenter_outbox \gset
reset role;
select max(id) as message_id from segmenter_outbox \gset
set role alerts_ops;
select segmenter_nack(:'lease', :message_id, 'busy', '0');
select count(*) from segmenter_claim('alerts ops', 10);
select lease as lease from segmenter_deliveries where subscription_id = :'rule' \gset
select segmenter_ack(:'lease', :message_id);
select count(*) from segmenter_claim('alerts ops', 10);
select action, status, segment_name, target, params ->> 'operation' as operation from segmenter_log where subscription_id = :'rule' order by id;
\set VERBOSITY terse
select segmenter_resync(:'rule');
\set VERBOSITY default
-- Either party may end a rule; only its owner changes it.
update segmenter_alerts set rule = '{"on": ["late"]}' where id = :'rule';
update segmenter_alerts set actual_end = now() where id = :'rule';
set role alerts_owner;
select status from segmenter_refresh('alerts vip', query => 'select 1 / 0 as id');
reset role;
select count(*) from segmenter_outbox o where o.operation = 'alert' and o.payload @> '{"alert": {"firing": true}}';
select actual_end = 'infinity' as is_active from segmenter_subscriptions where id = :'rule';
set role alerts_owner;
update segmenter_alerts set actual_end = 'infinity' where id = :'rule';
select status from segmenter_refresh('alerts vip');

-- Others see nothing of it.
set role alerts_other;
select count(*) from segmenter_alerts;
select count(*) from segmenter_alert_states;
select count(*) from alerts.reported where segment like 'alerts vip';
-- What a restored dump may do, other roles may not, though anybody may say that function bodies are not checked.
set check_function_bodies = off;
\set VERBOSITY terse
insert into segmenter_alerts (consumer_id, rule, owner_name) values (:'consumer', '{"on": ["late"]}', 'alerts_other');
insert into segmenter_alerts (consumer_id, rule, owner_name) values (:'consumer', '{"on": ["late"]}', 'alerts_owner');
insert into segmenter_alerts (consumer_id, rule) values (:'consumer', '{"on": ["late"]}');
set role alerts_owner;
update segmenter_subscriptions set segment_id = null, target = 'alerts' where id = :'subscription';
reset role;
reset check_function_bodies;
update segmenter_subscriptions set segment_id = null, target = 'alerts' where id = :'subscription';
\set VERBOSITY default
select target, segment_id is not null as has_segment from segmenter_subscriptions where id = :'subscription';
-- The same rule again, where that is no error, leaves nothing.
set role alerts_owner;
insert into segmenter_alerts (consumer_id, rule) select consumer_id, rule from segmenter_alerts where id = :'rule' on conflict do nothing;
insert into segmenter_alerts (id, consumer_id, rule) select id, consumer_id, rule from segmenter_alerts where id = :'rule' on conflict (id) do update set rule = excluded.rule;
reset role;
select count(*) from segmenter_subscriptions u where u.segment_id is null and not exists (select from segmenter_alerts a where a.id = u.id);
-- A role that was renamed keeps its rules; one that takes the name does not get them.
alter role alerts_owner rename to alerts_owner2;
create role alerts_owner;
set role alerts_ops;
update segmenter_alerts set actual_end = actual_end where id = :'rule' returning owner_name, owner;
set role alerts_owner;
select count(*) from segmenter_alerts;
set role alerts_owner2;
update segmenter_alerts set rule = '{"on": ["failed"]}' where id = :'rule' returning owner_name, owner;
reset role;
drop role alerts_owner;
alter role alerts_owner2 rename to alerts_owner;
create role alerts_gone;
update segmenter_consumers set subscribers = subscribers || 'alerts_gone'::regrole where id = :'consumer';
set role alerts_gone;
insert into segmenter_alerts (consumer_id, rule) values (:'consumer', '{"on": ["late"]}') returning id as gone \gset
reset role;
update segmenter_consumers set subscribers = '{alerts_owner}' where id = :'consumer';
drop role alerts_gone;
select "check", status, detail from segmenter_doctor() where "check" = 'alerts';
create role alerts_gone;
set role alerts_ops;
update segmenter_alerts set actual_end = actual_end where id = :'gone' returning owner_name, owner;
reset role;
delete from segmenter_alerts where id = :'gone';
drop role alerts_gone;
-- The doctor.
set role alerts_owner;
update segmenter_alerts set rule = '{"on": ["late"], "segments": ["alerts vip"]}' where id = :'rule';
update segmenter_segments set name = 'alerts best' where name = 'alerts vip';
reset role;
update segmenter_subscriptions set status = 'failed' where id = :'rule';
update segmenter_deliveries set last_error = 'no such channel' where subscription_id = :'rule';
set role alerts_owner;
select "check", status, detail, hint from segmenter_doctor() where "check" = 'alerts';
reset role;
select "check", status, detail from segmenter_doctor() where "check" = 'alerts';
-- A rule that cannot be read, since it was written past its trigger, is named; the others are looked at.
set session_replication_role = replica;
update segmenter_alerts set rule = '{"on": ["nope"]}' where id = :'rule';
reset session_replication_role;
select segmenter_run_prune();
select "check", status, detail from segmenter_doctor() where "check" = 'alerts' and detail ~ 'nope';
-- Erased with the rest.
update segmenter_subscriptions set status = 'queued' where id = :'rule';
update segmenter_alerts set rule = '{"on": ["failed"]}' where id = :'rule';
truncate segmenter_outbox;
set role alerts_owner;
select status from segmenter_refresh('alerts best', query => 'select (''mail42'')::int as id');
select detail from alerts.reported;
select segmenter_erase('42') is not null as erased;
select detail from alerts.reported;
-- A deleted rule leaves nothing.
reset role;
delete from segmenter_alerts where id = :'rule';
select count(*) from segmenter_subscriptions where id = :'rule' union all select count(*) from segmenter_deliveries where subscription_id = :'rule'
union all select count(*) from segmenter_outbox where subscription_id = :'rule';
delete from segmenter_alerts where owner = 'alerts_owner'::regrole;
delete from segmenter_subscriptions u using segmenter_consumers c where c.id = u.consumer_id and c.name like 'alerts%';
select count(segmenter_drop_segment(name, true)) from segmenter_segments where name like 'alerts%';
delete from segmenter_consumers where name like 'alerts%';
truncate segmenter_outbox;
select count(*) from segmenter_segments where name like 'alerts%';
drop schema alerts cascade;
drop owned by alerts_owner, alerts_other, alerts_ops;
drop role alerts_owner, alerts_other, alerts_ops;
