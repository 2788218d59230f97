-- What all roles share: no role can lock the config tables, fill the log of others, or make steps of a run of others.
-- What honest roles need in place of DELETE.
\i setup/security.sql

\c - sgm_victim
create table sgm_victim.people (id int primary key);
insert into sgm_victim.people select generate_series(1, 3);
select segmenter_create_segment('sgm_vip', 'select id from sgm_victim.people', table_name => 'sgm_victim.vip') is not null as created;
select status, coverage from segmenter_refresh('sgm_vip');

-- Locks: only what reading needs.
\c - sgm_low
select segmenter_create_segment('sgm_own', 'select 1 as id', table_name => 'sgm.own') is not null as created;
create function sgm.lock(relation text, mode text) returns text language plpgsql as $$
begin
    execute format('lock table %s in %s mode nowait', relation, mode);
    return 'locked';
exception when others then return sqlstate;
end
$$;
select mode, string_agg(distinct sgm.lock(relation, mode), ', ') as result
from unnest(array['segmenter', 'segmenter_segments', 'segmenter_consumers', 'segmenter_subscriptions', 'segmenter_log',
    'segmenter_outbox', 'segmenter_deliveries', 'segmenter_handovers', 'segmenter_state', 'segmenter_attempts', 'segmenter_definitions']) relation
cross join unnest(array['access share', 'row share', 'row exclusive', 'share update exclusive', 'share', 'share row exclusive',
    'exclusive', 'access exclusive']) with ordinality m (mode, place)
group by mode, place
order by place;

-- The columns that a role may write.
insert into segmenter_consumers (name, role) values ('sgm_crm', 'sgm_low');
insert into segmenter_subscriptions (consumer_id, segment_id, target)
select c.id, s.id, 'sgm_mail' from segmenter_consumers c, segmenter_segments s where c.name = 'sgm_crm' and s.name = 'sgm_own';
update segmenter_segments set description = 'mine', actual_end = actual_end where name = 'sgm_own';
update segmenter_consumers set description = 'mine', actual_end = actual_end where name = 'sgm_crm';
update segmenter_subscriptions set cron = null, actual_end = actual_end where target = 'sgm_mail';
update segmenter_subscriptions set external_id = 'forged' where target = 'sgm_mail';
update segmenter_subscriptions set status = 'uploaded' where target = 'sgm_mail';
delete from segmenter_segments where name = 'sgm_own';
delete from segmenter_consumers where name = 'sgm_crm';
delete from segmenter_subscriptions where target = 'sgm_mail';

-- A refused refresh answers as one of a segment that is not there, and leaves nothing.
\c - sgm_admin
select id as vip from segmenter_segments where name = 'sgm_vip' \gset
select coalesce(max(id), 0) as entries from segmenter_log \gset
\c - sgm_low
set client_min_messages = error;
select status, detail from segmenter_refresh('sgm_vip', repeat('x', 1000000));
select status, detail from segmenter_refresh('sgm_vip', dry_run => true);
select status, detail from segmenter_refresh('sgm_vip', 'select 1 as id', force => true);
select segmenter_run_step(:'vip', 'sgm_vip', null, segmenter_run_id());
select segmenter_run_step(:'vip', 'sgm_vip', '{sgm_vip}', segmenter_run_id(), true);
select segmenter_run_step(gen_random_uuid(), repeat('sgm_invented', 10000), null, segmenter_run_id());
select id as own from segmenter_segments where name = 'sgm_own' \gset
select segmenter_run_step(:'own', 'sgm_own', null, gen_random_uuid());
select segmenter_drop_segment('sgm_vip', true);
\c - sgm_admin
select segment_name, status from segmenter_log where id > :entries order by id;
select count(*) from segmenter_attempts where segment_id = :'vip' and status is not null;
select name, coverage from segmenter_status where name = 'sgm_vip';

-- A run belongs to the session and the role that began it.
\c - sgm_low
select segmenter_run_id() as run \gset
select segmenter_run_step(:'own', 'sgm_own', null, :'run');
call segmenter_run_each();
\c - sgm_low
select segmenter_run_step(:'own', 'sgm_own', null, :'run');
\c - sgm_admin
select segmenter_run_id() as run \gset
set role sgm_low;
select segmenter_run_step(:'own', 'sgm_own', null, :'run');
reset role;

-- Long texts are cut in the log, wherever they come from.
\c - sgm_low
set client_min_messages = error;
create function sgm.fail() returns text language plpgsql as $$
begin
    raise exception '%', repeat('m', 200000) using detail = repeat('d', 200000), hint = repeat('h', 200000);
end
$$;
select status, length(detail) > 64 * 1024 as is_long from segmenter_refresh('sgm_own', 'select sgm.fail() as id /*' || repeat('q', 10000000) || '*/');
select octet_length(message) <= 64 * 1024 as message, right(message, 30) as remark,
    octet_length(error ->> 'detail') <= 64 * 1024 as detail, octet_length(error ->> 'hint') <= 64 * 1024 as hint,
    octet_length(params #>> '{refresh_params,query,sql}') <= 64 * 1024 as query, right(params #>> '{refresh_params,query,sql}', 32) as remark,
    octet_length(params::text || error::text) < 1024 * 1024 as whole, params ->> 'role' as role
from segmenter_log where segment_name = 'sgm_own' order by id desc limit 1;
select octet_length(message) <= 64 * 1024 as message from segmenter_attempts where segment_id = :'own';
select status from segmenter_refresh(repeat('sgm_nobody', 100000));
\c - sgm_admin
select octet_length(segment_name) <= 64 * 1024 as name from segmenter_log order by id desc limit 1;

-- A segment is dropped: the consumer gets the end of the audience first.
\c - sgm_low
select status, messages from segmenter_refresh('sgm_own');
select segmenter_drop_segment('sgm_none');
select segmenter_drop_segment(null);
select segmenter_drop_segment('sgm_own', true);
select name, actual_end = 'infinity' as is_actual from segmenter_segments;
select target, actual_end = 'infinity' as is_actual from segmenter_subscriptions;
select operation, segmenter_ack(lease, message_id) is not null as acknowledged from segmenter_claim('sgm_crm', 10);
select segmenter_drop_segment('sgm_own', true);
select (select count(*) from segmenter_segments) as segments, (select count(*) from segmenter_subscriptions) as subscriptions,
    (select count(*) from segmenter_state) as states, to_regclass('sgm.own') is null as is_dropped;

-- Its table stays if others are in it, if it is another role's, or if it is to stay.
create table sgm.shared (like segmenter including defaults, unique (segment_id, id));
insert into segmenter_segments (name, table_name) values ('sgm_one', 'sgm.shared'), ('sgm_two', 'sgm.shared');
select segmenter_drop_segment('sgm_one', true);
select segmenter_drop_segment('sgm_one');
select segmenter_drop_segment('sgm_two');
select inhparent::regclass from pg_inherits where inhrelid = 'sgm.shared'::regclass;
grant select, insert, update on sgm.shared to sgm_victim;
grant usage on schema sgm to sgm_victim;
insert into segmenter_segments (name, table_name) values ('sgm_two', 'sgm.shared');
\c - sgm_victim
insert into segmenter_segments (name, table_name) values ('sgm_three', 'sgm.shared');
\c - sgm_low
select segmenter_drop_segment('sgm_two');
\c - sgm_victim
select segmenter_drop_segment('sgm_three', true);
select segmenter_drop_segment('sgm_three');

\i setup/security_end.sql
