-- What happens next does not depend on the log: truncating it at any moment changes nothing but what people can read.
\set VERBOSITY terse
create schema state;
create table state.people (id text primary key, email text not null, vip boolean not null default true, at timestamptz not null default now());
insert into state.people (id, email) select g, 'e' || g from generate_series(1, 6) g;
select segmenter_watch('state.people');

-- All that decides, and all that the status shows, of this test's segments.
create function state.look() returns setof text language sql as $$
    select 'due at ' || i || ': ' || d from unnest('{0,30 s,90 s,3 min,5 min,400 days}'::interval[]) i, segmenter_due(now() + i) d where d.segment like 'state %'
    union all
    select 'status: ' || s from segmenter_status s where name like 'state %'
    union all
    select 'subscription: ' || u from segmenter_subscriptions u join segmenter_segments s on s.id = u.segment_id where s.name like 'state %'
    union all
    select 'delivery: ' || d from segmenter_deliveries d join segmenter_subscriptions u on u.id = d.subscription_id join segmenter_segments s on s.id = u.segment_id where s.name like 'state %'
    union all
    select 'doctor: ' || f from segmenter_doctor() f where "check" in ('schedules', 'due', 'owners', 'tables', 'refreshes', 'incremental', 'consumers', 'deliveries')
$$;
-- Truncates the log, and says whether all looks as before.
create function state.forget(moment text) returns table (is_as_before boolean, differs text) language plpgsql as $$
declare
    before text[] := array(select state.look());
begin
    truncate segmenter_log;
    return query select count(*) = 0, string_agg(d, e'\n' order by d)
    from ((select '-' || l from unnest(before) l except select '-' || l from state.look() l)
        union all (select '+' || l from state.look() l except select '+' || l from unnest(before) l)) x (d);
end
$$;
-- A refresh, with its pass.
create function state.refresh(name text, query text default null)
returns table (segment text, status text, added bigint, removed bigint, changed bigint, coverage bigint, messages bigint, sqlstate text, pass text, reason text) language plpgsql as $$
begin
    select r.segment, r.status, r.added, r.removed, r.changed, r.coverage, r.messages, substring(r.detail from '\[(\w{5})\]$')
    into segment, status, added, removed, changed, coverage, messages, sqlstate from segmenter_refresh(name, query) r;
    select l.params #>> '{incremental,pass}', l.params #>> '{incremental,reason}' into pass, reason
    from segmenter_log l where l.segment_name = name and l.action = 'refresh' order by l.id desc limit 1;
    return next;
end
$$;
-- The messages that were written since the last call.
create table state.seen (message bigint not null);
insert into state.seen select coalesce(max(id), 0) from segmenter_outbox;
create function state.messages() returns table (consumer text, operation text, part int, parts int, members text) language sql as $$
    with new as (
        select o.id, c.name as consumer, o.operation, o.part, o.parts,
            (select string_agg(coalesce(m ->> 'id', m ->> 'hash_email'), ' ' order by 1) from (select e as m from jsonb_array_elements(o.payload -> 'members') e) x) as members
        from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id where o.id > (select max(message) from state.seen)
    ), seen as (insert into state.seen select max(id) from new having count(*) > 0)
    select consumer, operation, part, parts, (select string_agg(w, ' ' order by w) from unnest(string_to_array(members, ' ')) w) from new order by consumer, id
$$;
create function state.subscription(consumer text) returns uuid language sql as $$
    select u.id from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id where c.name = consumer
$$;
-- A consumer takes and acknowledges what waits.
create function state.deliver(consumer text) returns int language plpgsql as $$
declare
    m record;
    n int := 0;
begin
    loop
        select * into m from segmenter_claim(consumer);
        exit when not found;
        perform segmenter_ack(m.lease, m.message_id, jsonb_build_object('external_id', 'of ' || consumer, 'coverage', n));
        n := n + 1;
    end loop;
    return n;
end
$$;

-- Segments, by how they are refreshed and how that ends.
create function state.add(name text, refresh_params jsonb, auto boolean default false, cron text default '@yearly', sources jsonb default '[]', guards jsonb default '{}') returns void language plpgsql as $$
begin
    execute format('create table state.%I (like segmenter including defaults)', name);
    execute format('create unique index on state.%I (id) where actual_end = ''infinity''', name);
    insert into segmenter_segments (name, table_name, refresh_auto, refresh_cron, refresh_params, sources, guards)
    values ('state ' || name, format('state.%I', name)::regclass, auto, cron, refresh_params, sources, guards);
end
$$;
select state.add('query', '{"query": {"sql": "select id, email as hash_email from state.people where vip"}}', true);
select state.add('since', '{"incremental": {"changed": "select id from state.people where at > $1", "sql": "select id, email as hash_email from state.people join changed using (id) where vip", "full_cron": "@yearly"}}', true);
select state.add('watching', '{"incremental": {"watch": ["state.people"], "sql": "select id, email as hash_email from state.people join changed using (id) where vip"}}', true);
select state.add('failing', '{"query": {"sql": "select id, email as hash_email from state.people where vip"}}', true);
select state.add('waiting', '{"query": {"sql": "select id from state.people where vip"}}', true, null, '[{"name": "the load", "ready": "select false"}]');
select state.add('refused', '{"query": {"sql": "select id from state.people where vip"}}', true, guards => '{"max_added": 3}');
select state.add('by hand', '{"query": {"sql": "select id from state.people where vip"}}', cron => null);
select state.add('never', '{"query": {"sql": "select id from state.people where vip"}}', true);
alter table state.query add lost text default 'x';
select segmenter_subscribe('state crm', 'state query', 'mail'), segmenter_subscribe('state crm', 'state since', 'mail'), segmenter_subscribe('state crm', 'state watching', 'mail') \gset
select segmenter_subscribe('state parts', 'state query', 'mail', '{"batch_size": 2}'), segmenter_subscribe('state fields', 'state query', 'mail', '{"fields": ["hash_email"]}') \gset
select segmenter_subscribe('state lost', 'state query', 'mail', '{"fields": ["id", "lost"]}'), segmenter_subscribe('state ended', 'state query', 'mail') \gset

-- After refreshes.
select * from state.forget('before all');
select * from state.refresh('state query');
select * from state.refresh('state since');
select * from state.refresh('state watching');
select * from state.refresh('state by hand');
select * from state.refresh('state failing');
select * from state.refresh('state refused', 'select id from state.people where id < ''3''');
select consumer, operation, part, parts, members from state.messages();
select * from state.forget('after the first refreshes');
select segment, due, reason from segmenter_due() where segment like 'state %' order by 1;
-- A run finds nothing to do but what waits; nothing is handed over again.
select segment, status, added, messages from segmenter_run() where segment like 'state %' order by 1;
select * from state.messages();

-- What has changed is found by incremental passes, and a delta is handed over.
update state.people set email = 'new-2', at = clock_timestamp() where id = '2';
select * from state.forget('before the next refreshes');
select * from state.refresh('state query');
select * from state.forget('between refreshes');
select * from state.refresh('state since');
select * from state.refresh('state watching');
select * from state.messages();
select * from state.forget('after refreshes');
-- A pass that finds nothing; then one by one, without a log before each.
select * from state.refresh('state since');
select * from state.forget('after a refresh without changes');
select * from state.refresh('state since');
select * from state.refresh('state watching');
select * from state.messages();
-- Who is erased is missing in the figures of the next incremental pass, and the pass is one of changes.
delete from state.people where id = '6';
select segment, rows from segmenter_erase('6') where segment like 'state %' order by 1;
select * from state.forget('after an erasure');
select * from state.refresh('state since');
select * from state.refresh('state watching');
select count(*) as members from segmenter m join segmenter_segments s on s.id = m.segment_id where s.name = 'state since' and m.actual_end = 'infinity';
-- What needs a full pass still does: after a one-off query, and after a change of the refresher.
select * from state.refresh('state since', 'select id, email as hash_email from state.people where vip');
select * from state.forget('after a one-off query');
select * from state.refresh('state since');
select * from state.forget('after a full pass');
select * from state.refresh('state since');
update segmenter_segments set refresh_params = refresh_params #- '{incremental,full_cron}' where name = 'state since';
select * from state.forget('after a change of the refresher');
select * from state.refresh('state since');
select * from state.refresh('state since');
select count(*) > 0 as something from state.messages();

-- Within a transaction: what is rolled back has not been, and what is truncated does not count.
begin;
select * from state.refresh('state query');
savepoint s;
update state.people set email = 'never', at = clock_timestamp() where id = '3';
select * from state.refresh('state query');
select * from state.refresh('state since');
select * from state.forget('in a transaction');
rollback to s;
select * from state.forget('after a rollback to a savepoint');
select * from state.refresh('state since');
commit;
select * from state.messages();
begin;
select * from state.refresh('state query', 'select ''1'' as id');
truncate segmenter_log;
rollback;
select * from state.forget('after a rollback');
select * from state.refresh('state query');
select * from state.messages();

-- A refresh that changes nothing writes one entry of the log and one row of the state, within its page; and nothing else.
-- (What was counted before and not reported yet would count, too.)
create view state.writes as
select relname, n_tup_ins as inserted, n_tup_upd as updated, n_tup_hot_upd as within_page, n_tup_del as deleted
from pg_stat_xact_user_tables
where n_tup_ins + n_tup_upd + n_tup_del > 0
  and (schemaname = 'state' or relname like 'segmenter\_%' and relname <> 'segmenter_changes');
vacuum segmenter_segments, segmenter_log, segmenter_deliveries;
select to_regclass('segmenter_state') is not null as has_state \gset
\if :has_state
vacuum segmenter_state;
\endif
select pg_stat_force_next_flush();
begin;
select status, added, removed, changed, messages from segmenter_refresh('state query');
select * from state.writes order by 1;
commit;
select pg_stat_force_next_flush();
begin;
select status, added, removed, changed, messages from segmenter_refresh('state watching');
select * from state.writes order by 1;
commit;
select pg_stat_force_next_flush();
begin;
select status, added, removed, changed, messages from segmenter_refresh('state by hand');
select * from state.writes order by 1;
commit;
-- So do many of them.
select pg_stat_force_next_flush();
create table state.counted as select relid, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del from pg_stat_user_tables;
\set ECHO none
select $$do 'begin perform segmenter_refresh(''state query''); end'$$ from generate_series(1, 50) \gexec
\set ECHO all
select pg_stat_force_next_flush();
select relname, n.n_tup_ins - c.n_tup_ins as inserted, n.n_tup_upd - c.n_tup_upd as updated,
    n.n_tup_upd - c.n_tup_upd - n.n_tup_hot_upd + c.n_tup_hot_upd < 3 as nearly_all_within_page, n.n_tup_del - c.n_tup_del as deleted
from pg_stat_user_tables n join state.counted c using (relid)
where n.n_tup_ins + n.n_tup_upd + n.n_tup_del > c.n_tup_ins + c.n_tup_upd + c.n_tup_del and relname <> 'counted' order by 1;
-- A dry run writes nothing.
select pg_stat_force_next_flush();
begin;
select status, added from segmenter_refresh('state query', dry_run => true);
select * from state.writes;
commit;

-- Between refresh and claim, claim and acknowledgement, and after it.
select * from state.forget('before a claim');
select message_id, lease, operation from segmenter_claim('state parts', 3, '1 hour') order by message_id limit 1 \gset first_
select max(c) from (select leased_through as c from segmenter_deliveries where subscription_id = state.subscription('state parts')) x \gset last_
select :'first_operation' as operation, :last_max - :first_message_id > 0 as claimed_more;
select * from state.forget('between claim and acknowledgement');
select count(*) as leased_for_others from segmenter_claim('state parts');
select segmenter_ack(:'first_lease', :first_message_id, '{"external_id": "list 1", "coverage": 1}');
select * from state.forget('between acknowledgements');
select last_receipt, external_id, update_status, pending_messages > 0 as more from segmenter_status v join segmenter_subscriptions u on u.id = state.subscription('state parts') where update_consumer = 'state parts';
select segmenter_ack(:'first_lease', :last_max, '{"coverage": 2}');
select segmenter_ack(:'first_lease', :first_message_id);
select last_receipt from segmenter_status where update_consumer = 'state parts';
select state.deliver('state crm') > 0 as crm, state.deliver('state fields') > 0 as fields, state.deliver('state lost') > 0 as lost, state.deliver('state ended') > 0 as ended;
select * from state.forget('after deliveries');
select segment, status, messages from segmenter_run() where segment like 'state %' order by 1;
select * from state.messages();

-- Deliveries that fail are tried again when they would have been, and no sooner.
select lease, message_id from segmenter_claim('state parts', 1, '1 hour') \gset
select segmenter_nack(:'lease', :message_id, 'not now', '1 hour');
select * from state.forget('after a delivery that failed');
select count(*) as too_soon from segmenter_claim('state parts');
select attempts, last_error, next_attempt_at > now() + interval '50 minutes' as later from segmenter_deliveries where subscription_id = state.subscription('state parts');
update segmenter_consumers set params = '{"max_attempts": 1}' where name = 'state parts';
select segmenter_retry(state.subscription('state parts')) > 0 as waits;
select lease, message_id from segmenter_claim('state parts', 1, '1 hour') \gset
select segmenter_nack(:'lease', :message_id, 'never');
select * from state.forget('after the last attempt');
select update_status, delivery_error from segmenter_status where update_consumer = 'state parts';
select count(*) as stuck from segmenter_claim('state parts');
select segmenter_retry(state.subscription('state parts')) > 0 as waits;
select state.deliver('state parts') > 0 as delivered;

-- Failures: the time of the next retry stays, and they are counted on.
set segmenter.retry_delay = '1min';
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'state failing';
create view state.retry as
select due, reason, round(extract(epoch from next_refresh - last_refresh), -1) as seconds from segmenter_due() where segment = 'state failing';
select * from state.refresh('state failing');
select * from state.forget('after a failure');
select * from state.retry;
select * from state.refresh('state failing');
select * from state.forget('after two failures');
select * from state.retry;
select * from state.refresh('state failing');
select * from state.retry;
select last_status, last_error, coverage, added from segmenter_status where name = 'state failing';
-- A refused refresh ends that, one that is not allowed does not.
create role state_other;
set role state_other;
select status, substring(detail from '\[(\w{5})\]$') as sqlstate from segmenter_refresh('state failing');
reset role;
select * from state.forget('after a call that was not allowed');
select * from state.retry;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from state.people where id < ''2''"}}', guards = '{"max_removed": 1}' where name = 'state failing';
select * from state.refresh('state failing');
select * from state.forget('after a refusal');
select due, reason from segmenter_due() where segment = 'state failing';
select last_status, coverage, added from segmenter_status where name = 'state failing';
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from state.people where vip"}}', guards = '{}' where name = 'state failing';
select * from state.refresh('state failing');
-- The first failure after that is the first one.
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'state failing';
select * from state.refresh('state failing');
select * from state.forget('after another failure');
select * from state.retry;
reset segmenter.retry_delay;

-- Waiting: it goes on, and has one entry of the log.
select status from segmenter_refresh('state waiting');
select * from state.forget('while it waits');
select status from segmenter_refresh('state waiting');
select count(*) as entries from segmenter_log where segment_name = 'state waiting';
select reason from segmenter_due() where segment = 'state waiting';
select last_status, last_error from segmenter_status where name = 'state waiting';
update segmenter_segments set sources = '[]' where name = 'state waiting';
select * from state.refresh('state waiting');
select * from state.forget('after it waited');

-- Other fields are handed over once; a hand-over that failed is not repeated before there is a reason.
update segmenter_subscriptions set params = '{"fields": ["id"]}' where id = state.subscription('state fields');
alter table state.query drop lost;
select * from state.forget('after a change of the fields');
select segment, status, messages from segmenter_run() where segment = 'state query';
select * from state.messages();
select * from state.forget('after they were handed over');
select segment, status, messages from segmenter_run() where segment = 'state query';
update state.people set email = 'new-3', at = clock_timestamp() where id = '3';
select * from state.refresh('state query');
select * from state.messages() where consumer = 'state lost';
select * from state.forget('after a hand-over that failed');
select delivery_error is not null as has_failed from segmenter_status where update_consumer = 'state lost';
select segment, status, messages from segmenter_run() where segment = 'state query';
update segmenter_subscriptions set params = '{"fields": ["id"]}' where id = state.subscription('state lost');
select * from state.forget('after it was mended');
select segment, status, messages from segmenter_run() where segment = 'state query';
select consumer, operation, part, parts, members from state.messages();
select segment, status, messages from segmenter_run() where segment = 'state query';

-- An audience that has ended is not deleted twice, and one that comes again begins anew.
update segmenter_subscriptions set actual_end = now() where id = state.subscription('state ended');
select * from state.forget('after the end of a subscription');
select segment, status, messages from segmenter_run() where segment = 'state query';
select * from state.forget('after its delete was written');
select segment, status, messages from segmenter_run() where segment = 'state query';
select * from state.messages();
select state.deliver('state ended');
update segmenter_subscriptions set actual_end = 'infinity' where id = state.subscription('state ended');
select * from state.forget('after it was revived');
select segment, status, messages from segmenter_run() where segment = 'state query';
select * from state.messages();
select * from state.forget('after it was handed over anew');
select segment, status, messages from segmenter_run() where segment = 'state query';
-- Everything once more, by wish.
select segmenter_resync(state.subscription('state ended')) as messages;
select * from state.forget('after a resync');
select segment, status, messages from segmenter_run() where segment = 'state query';
select * from state.messages();
select state.deliver('state ended');

-- Who is erased is found in messages that had other fields, of which the log tells nothing any more.
select count(*) > 0 as was_handed_over from segmenter_outbox o, jsonb_array_elements(o.payload -> 'members') m
where o.subscription_id = state.subscription('state fields') and m ->> 'hash_email' = 'e4';
delete from state.people where id = '4';
select segment, rows, messages > 0 as has_messages from segmenter_erase('4') where segment like 'state %' order by 1;
select count(*) as left from segmenter_outbox o, jsonb_array_elements(o.payload -> 'members') m
where o.id <= (select max(message) from state.seen) and (m ->> 'hash_email' = 'e4' or m ->> 'id' = '4');
select * from state.messages() where consumer = 'state fields';

-- Messages are kept for as long after their delivery as the setting says, and then go.
select state.deliver('state crm') >= 0 and state.deliver('state fields') >= 0 and state.deliver('state parts') >= 0 and state.deliver('state lost') >= 0 and state.deliver('state ended') >= 0 as delivered;
truncate segmenter_log;
set segmenter.outbox_retention = '1h';
update segmenter_outbox set created_at = now() - interval '3 hours';
select segmenter_prune();
select count(*) > 20 as are_kept from segmenter_outbox;
-- What is not delivered stays, however old it is.
update state.people set email = 'new-5', at = clock_timestamp() where id = '5';
select status, messages from segmenter_refresh('state query');
update segmenter_outbox set created_at = now() - interval '3 hours';
update segmenter_deliveries set delivered_at = now() - interval '2 hours', marked_at = array(select at - interval '2 hours' from unnest(marked_at) at);
truncate segmenter_log;
select segmenter_prune();
select c.name, count(*) as waiting, bool_and(o.id > d.delivered_through) as not_delivered from segmenter_outbox o
join segmenter_consumers c on c.id = o.consumer_id join segmenter_deliveries d using (subscription_id) where c.name like 'state %' group by 1 order by 1;
reset segmenter.outbox_retention;
select * from state.forget('after messages were pruned');

-- The log's retention is that of its entries: none is kept for what happens next.
select * from state.refresh('state query');
update segmenter_log set processed = now() - interval '200 days';
select segmenter_prune();
select count(*) as entries from segmenter_log;
select * from state.forget('after the log was pruned');
select * from state.refresh('state since');

-- The state belongs to segments that are there, one row each, and is written by nobody else.
\if :has_state
select count(*) - count(distinct segment_id) as twice, count(*) filter (where segment_id not in (select id from segmenter_segments)) as orphans, count(*) > 0 as some from segmenter_state;
set role state_other;
select count(*) as of_others from segmenter_state;
\set VERBOSITY sqlstate
insert into segmenter_state select * from segmenter_state;
update segmenter_state set segment_id = segment_id;
delete from segmenter_state;
truncate segmenter_state;
\set VERBOSITY terse
reset role;
\endif

set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name like 'state %');
delete from segmenter_outbox where consumer_id in (select id from segmenter_consumers where name like 'state %');
delete from segmenter_consumers where name like 'state %';
delete from segmenter_segments where name like 'state %';
reset client_min_messages;
\if :has_state
select count(*) as orphans from segmenter_state where segment_id not in (select id from segmenter_segments);
\endif
truncate segmenter_log;
select segmenter_unwatch('state.people');
drop role state_other;
drop schema state cascade;
