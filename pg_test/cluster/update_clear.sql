-- Takes away, as the role :set, what update_walled.sql has put in the way.
\set ON_ERROR_STOP on
set client_min_messages = error;
set search_path = :"set", public;
select :'set' = 'seen' as is_seen, :'set' = 'cut' as is_cut, :'set' = 'torn' as is_torn, :'set' = 'taken' as is_taken, :'set' = 'trap' as is_trap \gset
\if :is_seen
drop view last;
drop view history;
drop materialized view figures;
\endif
\if :is_cut
alter table seg_log add num_invalid bigint;
\endif
\if :is_taken
drop table seg_state;
\endif
\if :is_trap
alter default privileges for role trap in schema trap revoke all on tables from public;
select format('drop trigger a_trap on seg_%1$s; drop trigger z_trap on seg_%1$s', word) from unnest('{segments,consumers,subscriptions,log,outbox,deliveries}'::text[]) word \gexec
drop table heir;
drop rule trap on seg_deliveries;
drop rule trap on seg_log;
drop policy trap on seg_log;
drop policy trap on seg_deliveries;
drop policy trap on seg_segments;
alter table seg_log no force row level security;
alter table seg_deliveries no force row level security;
alter table seg_segments no force row level security;
alter table seg_log alter processed set default clock_timestamp();
drop statistics trap_statistics;
drop index trap, trap_too;
alter table seg_log drop trapped;
alter table seg_deliveries drop constraint trap;
alter table seg_deliveries drop trapped;
alter table seg_segments drop constraint trap;
alter table seg_consumers alter description type text;
\endif
