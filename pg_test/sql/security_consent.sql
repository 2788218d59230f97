-- Who may subscribe a consumer, and what each of the two parties of a subscription sees and changes.
\set VERBOSITY terse
create role sgc_victim;
create role sgc_attacker;
create role sgc_crm;
create role sgc_team;
grant sgc_team to sgc_victim;
create schema sgc;
grant all on schema sgc to public;
set role sgc_victim;
create table sgc.people (id text, email text);
insert into sgc.people values ('1', 'one'), ('2', 'two');
select segmenter_create_segment('sgc vip', 'select id, email as hash_email from sgc.people', table_name => 'sgc.vip') as vip \gset
set role sgc_attacker;
select segmenter_create_segment('sgc mine', 'select ''1'' as id', table_name => 'sgc.mine') as mine \gset
reset role;
insert into segmenter_consumers (name, role, params) values ('sgc crm', 'sgc_crm', '{"updater": {"http": {"url": "https://crm.example.com:8443/in/PATHSECRET?token=TOPSECRET"}}, "max_attempts": 1}') returning id as crm \gset

-- The uuid of a consumer is not enough, neither for a row nor for the function.
set role sgc_attacker;
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'crm', :'mine', 'x');
insert into segmenter_subscriptions (consumer_id, segment_id, target, actual_end) values (:'crm', :'mine', 'x', now());
update segmenter_subscriptions set actual_end = 'infinity' where segment_id = :'mine';
select segmenter_subscribe('sgc crm', 'sgc mine', 'x');
select segmenter_subscribe('sgc crm', 'sgc mine', 'x', consumer_role => 'sgc_crm');
select segmenter_subscribe('sgc crm', 'sgc mine', 'x', consumer_role => 'sgc_nobody');
insert into segmenter_subscriptions (consumer_id, segment_id, target) values ('00000000-0000-0000-0000-000000000000', :'mine', 'x');
-- Roles that the consumer lists may, and their members.
reset role;
update segmenter_consumers set subscribers = '{sgc_team}' where id = :'crm';
set role sgc_attacker;
select segmenter_subscribe('sgc crm', 'sgc mine', 'x');
set role sgc_victim;
select segmenter_subscribe('sgc crm', 'sgc vip', 'listed') as listed \gset
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'crm', :'vip', 'by row') returning id as by_row \gset
-- What deliveries say is not the segment owner's to write.
insert into segmenter_subscriptions (consumer_id, segment_id, target, external_id) values (:'crm', :'vip', 'forged', '8812');
insert into segmenter_subscriptions (consumer_id, segment_id, target, status) values (:'crm', :'vip', 'forged', 'uploaded');
update segmenter_subscriptions set external_id = '8812' where id = :'listed';
update segmenter_subscriptions set status = 'failed', cron = '* * * * *' where id = :'listed';
update segmenter_subscriptions set cron = null, status = status, external_id = null where id = :'listed';
-- The consumer's role ends a subscription, and changes nothing else of it.
select status, messages from segmenter_refresh('sgc vip');
set role sgc_crm;
update segmenter_subscriptions set params = '{"fields": ["id"]}' where id = :'by_row';
update segmenter_subscriptions set actual_end = now(), cron = '* * * * *' where id = :'by_row';
update segmenter_subscriptions set actual_end = now() where id = :'by_row';
update segmenter_subscriptions set actual_end = 'infinity' where id = :'by_row';
update segmenter_subscriptions set external_id = 'mine' where id = :'by_row';
delete from segmenter_subscriptions where id = :'by_row';
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'crm', :'vip', 'taken');
select segmenter_subscribe('sgc crm', 'sgc vip', 'taken');
-- Consent that was withdrawn: what is there stays until it is changed; it can be ended, not be taken up again.
update segmenter_consumers set subscribers = '{}' where id = :'crm';
set role sgc_victim;
update segmenter_subscriptions set params = '{"mode": "replace"}' where id = :'listed';
update segmenter_subscriptions set actual_end = 'infinity' where id = :'by_row';
select status, messages from segmenter_refresh('sgc vip');
select detail from segmenter_doctor() where "check" = 'consents';
set role sgc_crm;
select detail from segmenter_doctor() where "check" = 'consents';
set role sgc_attacker;
select detail from segmenter_doctor() where "check" = 'consents';

-- Errors, answers and URLs are for the consumer's role. A refusal, then a delivery.
set role sgc_crm;
select count(segmenter_ack(lease, message_id)) from segmenter_claim('sgc crm', 100) where subscription_id = :'by_row';
select message_id, lease from segmenter_claim('sgc crm') \gset
select segmenter_nack(:'lease', :message_id, '500: BODYSECRET; https://crm.example.com:8443/in/PATHSECRET?token=TOPSECRET is not allowed');
create view sgc.secrets as
select 'log' as place, l::text from segmenter_log l union all
select 'deliveries', d::text from segmenter_deliveries d union all
select 'consumers', c::text from segmenter_consumers c union all
select 'status', s::text from segmenter_status s union all
select 'hand-overs', h::text from segmenter_handovers h union all
select 'subscriptions', u::text from segmenter_subscriptions u union all
select 'doctor', f::text from segmenter_doctor() f;
alter view sgc.secrets set (security_invoker = true);
grant select on sgc.secrets to public;
select place, count(*) from sgc.secrets where l ~ '(TOP|PATH|BODY)SECRET' group by place order by place;
set role sgc_victim;
select place, count(*) from sgc.secrets where l ~ '(TOP|PATH|BODY)SECRET' group by place order by place;
select update_target, update_status, pending_messages, last_receipt, delivery_error from segmenter_status where name = 'sgc vip' order by 1;
select detail from segmenter_doctor() where "check" = 'deliveries' and status = 'problem';
reset role;
select update_target, delivery_error from segmenter_status where name = 'sgc vip' order by 1;
set role sgc_crm;
select segmenter_retry(:'listed') > 0 as waits;
select message_id, lease from segmenter_claim('sgc crm') \gset
select segmenter_ack(:'lease', :message_id, '{"external_id": "e", "message": "BODYSECRET", "note": "balance: BODYSECRET"}');
select place, count(*) from sgc.secrets where l ~ 'BODYSECRET' group by place order by place;
set role sgc_victim;
select place, count(*) from sgc.secrets where l ~ 'BODYSECRET' group by place order by place;

-- A consumer with a name that others look for: a superuser does not take it unless it is named whose it is.
set role sgc_attacker;
insert into segmenter_consumers (name, role) values ('google_ads', 'sgc_attacker');
reset role;
\set VERBOSITY default
select segmenter_subscribe('google_ads', 'sgc vip', 'ads');
\set VERBOSITY terse
select segmenter_subscribe('google_ads', 'sgc vip', 'ads', consumer_role => 'sgc_crm');
select segmenter_subscribe('google_ads', 'sgc mine', 'ads') is not null as of_its_own;
begin;
select segmenter_subscribe('google_ads', 'sgc vip', 'ads', consumer_role => 'sgc_attacker') is not null as on_purpose;
select segmenter_subscribe('sgc new', 'sgc vip', 'ads', consumer_role => 'sgc_crm') is not null as new;
select role from segmenter_consumers where name = 'sgc new';
rollback;
set role sgc_attacker;
update segmenter_consumers set subscribers = '{sgc_victim}' where name = 'google_ads';
reset role;
select segmenter_subscribe('google_ads', 'sgc vip', 'said') is not null as with_a_notice;

-- The name of a retired consumer taken by another role, active or born retired: it claims its last messages.
update segmenter_subscriptions set actual_end = now() where id = :'listed';
update segmenter_consumers set actual_end = now() where id = :'crm';
select count(*) > 0 as ends from segmenter_run() where segment = 'sgc vip';
set role sgc_attacker;
insert into segmenter_consumers (name, role, actual_end) values ('sgc crm', 'sgc_attacker', '9999-01-01'), ('sgc crm', 'sgc_attacker', 'infinity');
select count(*) from segmenter_claim('sgc crm', 100);
set role sgc_crm;
select message_id, lease, operation from segmenter_claim('sgc crm', 1) \gset
select :'operation' as operation;
set role sgc_victim;
select count(*) from segmenter_claim('sgc crm', 100);

-- An invented lease, and a lease of another: errors as before.
\set VERBOSITY sqlstate
set role sgc_attacker;
select segmenter_ack(gen_random_uuid(), :message_id);
select segmenter_ack(:'lease', :message_id);
\set VERBOSITY terse
reset role;

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers where name ~ '^sgc|^google';
delete from segmenter_segments where name ~ '^sgc';
delete from segmenter_outbox;
delete from segmenter_log;
drop schema sgc cascade;
drop owned by sgc_victim, sgc_attacker, sgc_crm, sgc_team;
drop role sgc_victim, sgc_attacker, sgc_crm, sgc_team;
