-- The extension's own set of service relations, and what pg_dump takes along: the rows of every one but the
-- mart, which holds none, the counters behind the two identity columns, and the sets that segmenter_init()
-- has made; the extension's own is made anew where it is created.
select segmenter_init('@extschema@.segmenter');
select pg_catalog.pg_extension_config_dump('segmenter_segments', '');
select pg_catalog.pg_extension_config_dump('segmenter_consumers', '');
select pg_catalog.pg_extension_config_dump('segmenter_subscriptions', '');
select pg_catalog.pg_extension_config_dump('segmenter_log', '');
select pg_catalog.pg_extension_config_dump('segmenter_log_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_deliveries', '');
select pg_catalog.pg_extension_config_dump('segmenter_registry', $$where not exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = mart and d.deptype = 'e'
)$$);

revoke all on segmenter_registry, segmenter_changes from public;
grant select on segmenter_registry to public;

-- What these functions do is checked anew in each of them, against whoever calls: in whose set they may be
-- triggers, too.
revoke all on function segmenter_refresh, segmenter_run, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_doctor, segmenter_prune,
    segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry, segmenter_skip,
    segmenter_resync, segmenter_erase, segmenter_message, segmenter_watch, segmenter_unwatch, segmenter_capture,
    segmenter_init, segmenter_sets, segmenter_drop_set, segmenter_definition, segmenter_notice_segments,
    segmenter_check_segment, segmenter_register_segment, segmenter_check_consumer, segmenter_check_subscription
    from public;
revoke all on procedure segmenter_run_each from public;
grant execute on function segmenter_refresh, segmenter_run, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_doctor, segmenter_prune,
    segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry, segmenter_skip,
    segmenter_resync, segmenter_erase, segmenter_message, segmenter_watch, segmenter_unwatch,
    segmenter_init, segmenter_sets, segmenter_drop_set to public;
-- Whoever owns a table puts it up there; it records what is written in that table only.
grant execute on function segmenter_capture to public;
-- Whoever makes a set puts these up there; elsewhere they refuse.
grant execute on function segmenter_notice_segments, segmenter_check_segment, segmenter_register_segment,
    segmenter_check_consumer, segmenter_check_subscription to public;
grant execute on procedure segmenter_run_each to public;

-- One word on what is still to be set up, at the end of CREATE EXTENSION, which keeps notices of its
-- script back unless told otherwise.
select set_config('client_min_messages', 'notice', true) where current_setting('client_min_messages') = 'warning';
select segmenter_say_what_is_missing();
drop function segmenter_say_what_is_missing();
