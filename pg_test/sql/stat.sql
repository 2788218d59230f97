-- Cumulative figures: they equal sums over the log while it is whole, stay when it is truncated, and are reset.
create schema stat;
create role stat_owner;
create role stat_other;
create role stat_crm;
create role stat_watch in role pg_monitor;
grant usage, create on schema stat to stat_owner, stat_other;
grant usage on schema stat to stat_crm, stat_watch;
create table stat.people (id int primary key, email text);
insert into stat.people select g, 'mail' || g from generate_series(1, 10) g;
create table stat.broken (id text);
grant select on stat.people, stat.broken to stat_owner, stat_other;
create function stat.boom(int default 0) returns int language plpgsql as $$ begin raise 'boom'; end $$;

set role stat_owner;
select segmenter_create_segment('stat vip', 'select id, email as hash_email from stat.people', table_name => 'stat.vip') is not null as created;
-- A name like any other.
select segmenter_create_segment(E'stat "q" \\ \n Käufer 🛒', 'select id from stat.people where id < 4', table_name => 'stat.odd') is not null as created;
set role stat_other;
select segmenter_create_segment('stat of other', 'select id from stat.people', table_name => 'stat.other') is not null as created;
reset role;
insert into segmenter_consumers (name, role, subscribers) values ('stat crm', 'stat_crm', '{stat_owner}');
set role stat_owner;
select segmenter_subscribe('stat crm', 'stat vip', E'mail "\\', '{"batch_size": 4}', 'stat_crm') is not null as subscribed;
-- Nothing has happened yet.
\x
select * from segmenter_stat where segment = 'stat vip';
select * from segmenter_stat_subscriptions where segment = 'stat vip';
\x

-- What the log adds up to.
reset role;
create view stat.logged as
select s.name as segment,
    count(*) filter (where l.status = 'ok' and l.action = 'refresh') as ok,
    count(*) filter (where l.status in ('failed', 'interrupted') and l.action = 'refresh') as failed,
    count(*) filter (where l.status = 'refused' and l.action = 'refresh') as refused,
    count(*) filter (where l.status = 'waiting' and l.action = 'refresh') as waiting,
    count(*) filter (where l.status = 'skipped' and l.action = 'refresh') as skipped,
    coalesce(sum(l.num_received) filter (where l.status = 'ok' and l.action = 'refresh'), 0) as rows_received,
    coalesce(sum(l.added) filter (where l.status = 'ok' and l.action = 'refresh'), 0) as added,
    coalesce(sum(l.removed) filter (where l.status = 'ok' and l.action in ('refresh', 'exclude')), 0) as removed,
    coalesce(sum(l.changed) filter (where l.status = 'ok' and l.action = 'refresh'), 0) as changed,
    coalesce(sum(l.excluded) filter (where l.status = 'ok' and l.action = 'refresh'), 0) as excluded,
    coalesce(sum(l.elapsed) filter (where l.status = 'ok' and l.action = 'refresh'), '0') as total_elapsed,
    coalesce(sum((l.params ->> 'messages')::bigint) filter (where (l.action = 'hand over' or l.action = 'erase' and l.subscription_id is not null) and l.status = 'ok'), 0) as messages_written
from segmenter_segments s
left join segmenter_log l on l.segment_id = s.id
group by s.id, s.name;
create view stat.differs as
select segment from (
    (select segment, ok, failed, refused, waiting, skipped, rows_received, added, removed, changed, excluded, total_elapsed, messages_written
        from segmenter_stat except select * from stat.logged)
    union all
    (select * from stat.logged except
        select segment, ok, failed, refused, waiting, skipped, rows_received, added, removed, changed, excluded, total_elapsed, messages_written
        from segmenter_stat)
) d;
create view stat.figures as
select segment, ok, failed, refused, waiting, skipped, rows_received as received, added, removed, changed, excluded, messages_written as messages, failures_in_a_row as row,
    total_elapsed > '0' as elapsed, mean_elapsed = total_elapsed / nullif(ok, 0) as mean, last_elapsed > '0' as last, staleness between '0' and '1 hour' as stale, stats_reset is not null as reset
from segmenter_stat where segment ~ '^stat' order by segment collate "C";
create view stat.subscriptions as
select consumer, segment, target, messages_written as written, messages_delivered as delivered, members_handed_over as members, attempts, failed, failures_in_a_row as row,
    lag between '0' and '1 hour' as lags, stats_reset is not null as reset
from segmenter_stat_subscriptions where segment ~ '^stat' order by 1, 2, 3;
grant select on stat.figures, stat.subscriptions to stat_owner, stat_other, stat_crm, stat_watch;
alter view stat.figures set (security_invoker = true);
alter view stat.subscriptions set (security_invoker = true);

set client_min_messages = error;
set role stat_owner;
select segment, status, added, removed, changed, messages from segmenter_refresh('stat vip');
reset role;
delete from stat.people where id = 1;
update stat.people set email = 'new' where id in (2, 3);
set role stat_owner;
select status, added, removed, changed, messages from segmenter_refresh('stat vip');
select status from segmenter_refresh('stat vip', dry_run => true);
select status from segmenter_refresh('stat vip', 'select stat.boom() as id');
select status from segmenter_refresh('stat vip', 'select stat.boom() as id');
update segmenter_segments set guards = '{"max_removed": 0}' where name = 'stat vip';
select status from segmenter_refresh('stat vip', 'select 5 as id');
update segmenter_segments set sources = '[{"name": "load", "ready": "select false"}]' where name ~ 'Käufer';
select status from segmenter_refresh(E'stat "q" \\ \n Käufer 🛒');
update segmenter_segments set sources = '[]' where name ~ 'Käufer';
select status from segmenter_refresh(E'stat "q" \\ \n Käufer 🛒');
reset role;
select * from stat.figures;
select * from stat.differs;

-- A failure beside the refresh that has the lock, whose transaction is open, is counted as well: iso_stat.
-- Deliveries.
set role stat_crm;
select segmenter_nack(lease, message_id, 'no', '0') from segmenter_claim('stat crm', 1);
select segmenter_nack(lease, message_id, 'no', '0') from segmenter_claim('stat crm', 1);
select * from stat.subscriptions;
select count(segmenter_ack(lease, message_id)) from segmenter_claim('stat crm', 1);
-- Many at once.
select segmenter_ack(lease, max(message_id)) is not null as acked from segmenter_claim('stat crm', 100) group by lease;
select * from stat.subscriptions;
-- Again: nothing is counted twice.
reset role;
select s.attempts, s.failed, s.messages_delivered, s.messages_written, s.members_handed_over,
    (select count(*) from segmenter_log where segment_id = (select id from segmenter_segments where name = 'stat vip') and action = 'deliver' and status in ('ok', 'failed')) as logged_attempts,
    (select count(*) from segmenter_log where segment_id = (select id from segmenter_segments where name = 'stat vip') and action = 'deliver' and status = 'failed') as logged_failed,
    (select count(*) from segmenter_outbox where segment_id = (select id from segmenter_segments where name = 'stat vip')) as outbox,
    (select sum(members) from segmenter_outbox where segment_id = (select id from segmenter_segments where name = 'stat vip')) as members,
    (select sum((params ->> 'messages')::int) from segmenter_log where segment_id = (select id from segmenter_segments where name = 'stat vip') and action = 'hand over') as logged_messages,
    (select sum(coalesce(added, 0) + coalesce(removed, 0) + coalesce(coverage, 0)) from segmenter_log where segment_id = (select id from segmenter_segments where name = 'stat vip') and action = 'hand over') as logged_members
from segmenter_stat_subscriptions s where consumer = 'stat crm';

-- Lists that gain members take them from others; what an erasure writes counts as messages.
set role stat_owner;
select segmenter_create_segment('stat out', 'select 7 as id', table_name => 'stat.out') is not null as created;
update segmenter_segments set guards = '{}', exclude = '["stat out"]' where name = 'stat vip';
select status, removed, excluded from segmenter_refresh('stat vip');
select segment, status, removed from segmenter_refresh('stat out');
select status, added, removed, excluded from segmenter_refresh('stat vip');
select segment, rows, messages from segmenter_erase('9') where rows + messages > 0 order by segment;
reset role;
select segment, received, added, removed, excluded, messages from stat.figures;
select * from stat.differs;
select messages_written, members_handed_over, (select count(*) from segmenter_outbox where segment_id = (select id from segmenter_segments where name = 'stat vip')) as outbox from segmenter_stat_subscriptions where consumer = 'stat crm';

-- The log is history only.
create table stat.before as select * from segmenter_stat;
create table stat.before_subscriptions as select * from segmenter_stat_subscriptions;
truncate segmenter_log;
select count(*) as differ from (select (b.*)::text from (select segment, ok, failed, refused, waiting, skipped, rows_received, added, removed, changed, excluded, total_elapsed, mean_elapsed, last_elapsed, messages_written, failures_in_a_row from stat.before) b
    except select (n.*)::text from (select segment, ok, failed, refused, waiting, skipped, rows_received, added, removed, changed, excluded, total_elapsed, mean_elapsed, last_elapsed, messages_written, failures_in_a_row from segmenter_stat) n) d;
select count(*) as differ from (select consumer, segment, target, messages_written, messages_delivered, members_handed_over, attempts, failed from stat.before_subscriptions
    except select consumer, segment, target, messages_written, messages_delivered, members_handed_over, attempts, failed from segmenter_stat_subscriptions) d;

-- Counts that are added up are the same.
set role stat_owner;
select count(*) from generate_series(1, 30) g, lateral (select status from segmenter_refresh('stat vip', 'select stat.boom(' || g || ') as id')) r where status = 'failed';
reset role;
select failed, failures_in_a_row from segmenter_stat where segment = 'stat vip';
select count(*) from segmenter_counts where segment_id = (select id from segmenter_segments where name = 'stat vip') and status = 'failed';
select segmenter_prune();
select count(*), sum(refreshes) from segmenter_counts where segment_id = (select id from segmenter_segments where name = 'stat vip') and status = 'failed';
select failed, failures_in_a_row from segmenter_stat where segment = 'stat vip';

-- Other roles: one's own, those of one's consumers, all figures for monitoring, nothing.
set role stat_other;
select segment, ok from stat.figures;
select * from stat.subscriptions;
select segmenter_stat_reset('stat vip');
select segmenter_stat_reset();
select segmenter_metrics() ~ 'stat vip' as sees;
select count(*) from segmenter_counts;
set role stat_crm;
select segment from stat.figures;
select segment, target, written > 0 as has_written from stat.subscriptions;
select segmenter_stat_reset('stat vip');
set role stat_watch;
select segment, ok, failed from stat.figures;
select segment, target, written > 0 as has_written from stat.subscriptions;
select segmenter_stat_reset('stat vip');
select segmenter_stat_reset();
reset role;
select segment, reset from stat.figures;

-- A reset of one segment, and of its subscriptions with it.
set role stat_owner;
select segmenter_stat_reset('no such');
select segmenter_stat_reset('stat vip');
\x
select * from stat.figures where segment = 'stat vip';
select * from stat.subscriptions;
\x
select segment, ok, reset from stat.figures where segment <> 'stat vip';
select status, added from segmenter_refresh('stat vip', 'select id from stat.people');
select status from segmenter_refresh('stat vip', 'select stat.boom() as id');
select ok, failed, received, last, mean from stat.figures where segment = 'stat vip';
-- Again, and all of them. A reset that is rolled back has not been.
begin;
select segmenter_stat_reset();
select segment, ok, failed, reset from stat.figures;
rollback;
select segment, ok, failed, reset from stat.figures;
select segmenter_stat_reset('stat vip'), segmenter_stat_reset('stat vip');
select segmenter_stat_reset();
select segment, ok, failed, received, messages, reset from stat.figures;
select * from stat.subscriptions;
reset role;
select count(*) filter (where status is null) as resets from segmenter_counts;
-- Nobody else's.
select segment, reset from stat.figures where segment = 'stat of other';

-- The text for Prometheus: only names of segments, consumers and targets are in its labels.
set role stat_owner;
select line from regexp_split_to_table(segmenter_metrics(), E'\n') with ordinality l (line, place)
where line !~ '(seconds|seconds_total)({.*})? [0-9]' order by place;
set segmenter.metrics_segments = 1;
select line from regexp_split_to_table(segmenter_metrics(), E'\n') with ordinality l (line, place)
where line ~ '^segmenter_(segments|segment_members|subscription_messages)' order by place;
set segmenter.metrics_segments = -1;
reset segmenter.metrics_segments;
reset role;

-- What is left of a segment that is gone.
delete from segmenter_subscriptions where consumer_id in (select id from segmenter_consumers where name = 'stat crm');
delete from segmenter_outbox where segment_id in (select id from segmenter_segments where name ~ '^stat');
delete from segmenter_consumers where name = 'stat crm';
delete from segmenter_segments where name ~ '^stat';
select count(*) from segmenter_counts;
select count(*) from segmenter_stat where segment ~ '^stat';
truncate segmenter_log;
drop schema stat cascade;
drop owned by stat_owner, stat_other, stat_crm;
drop role stat_owner, stat_other, stat_crm, stat_watch;
