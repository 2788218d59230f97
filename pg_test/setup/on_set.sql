-- The extension, and a set that segmenter_init() made, on which every session works. Its relations are called
-- as those of the extension's own set are elsewhere, so that tests need not know; these have moved to the schema own.
set client_min_messages = warning;
create extension segmenter;
create schema if not exists own;
alter table segmenter set schema own;
alter table segmenter_segments set schema own;
alter table segmenter_consumers set schema own;
alter table segmenter_subscriptions set schema own;
alter table segmenter_log set schema own;
alter table segmenter_outbox set schema own;
alter table segmenter_deliveries set schema own;
alter table if exists segmenter_state set schema own;
alter table if exists segmenter_attempts set schema own;
alter table if exists segmenter_definitions set schema own;
alter table if exists segmenter_handovers set schema own;
alter table if exists segmenter_withheld set schema own;
alter table if exists segmenter_counts set schema own;
alter table if exists segmenter_alerts set schema own;
alter table if exists segmenter_alert_states set schema own;
alter table if exists segmenter_reports set schema own;
alter table if exists segmenter_secret set schema own;
alter table if exists segmenter_kept_out set schema own;
alter view segmenter_status set schema own;
alter view if exists segmenter_current set schema own;
select segmenter_init('public.segmenter') as made \gset
select format('alter database %I set segmenter.cfg_table = %L', current_database(), 'public.segmenter') as command \gset
:command;
