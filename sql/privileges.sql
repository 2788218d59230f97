-- What the functions are for, and who may call them; and, since it is the end of the script, the extension's
-- own set of service relations.

comment on function segmenter_refresh(text, text, boolean, boolean, boolean) is 'refreshes one segment by hand; query: a one-off query in place of its own, dry_run: only say what would change, force: let it pass the guards, full: look at all ids';
comment on function segmenter_run() is 'refreshes every segment that is due, in one transaction, one that reads another''s table after it';
comment on function segmenter_run_plan() is 'what a run would refresh now, in its order, and what it would only hand over; used by segmenter_run_each()';
comment on function segmenter_run_step(uuid, text, text[], uuid, boolean) is 'refreshes one segment of a run, or only hands it over, and gives its status; used by segmenter_run_each()';
comment on function segmenter_run_id() is 'a new id of a run; used by segmenter_run_each()';
comment on procedure segmenter_run_each() is 'refreshes every segment that is due, each in a transaction of its own';
comment on function segmenter_create_segment(text, text, text, text, boolean) is 'creates a segment table and its config row from a name and a query, and gives the segment''s id; automatic with a cron expression';
comment on function segmenter_cron_next(text, timestamptz, text) is 'when a cron expression comes next after a time, by the wall clock of a time zone; null: never';
comment on function segmenter_due(timestamptz) is 'when each segment is due, whether it is at that time, and why';
comment on function segmenter_due_in(regclass, timestamptz) is 'the same of one set of service relations; used by its status view';
comment on function segmenter_doctor() is 'what should be looked after in this database, with a line at the end that says whether all is well';
comment on function segmenter_prune() is 'deletes log entries older than segmenter.log_retention, messages delivered longer than segmenter.outbox_retention ago, and captured changes that all have read; runs do it by themselves';
comment on function segmenter_may_act_as(oid) is 'whether the caller may act as a role; used by the policies of the service relations';
comment on function segmenter_message(jsonb, jsonb) is 'a message with its members, which are taken as they are; used where messages are written';
comment on function segmenter_watch(regclass, name) is 'has changes of a table captured, by triggers of statements, for segments that watch it';
comment on function segmenter_unwatch(regclass, name) is 'ends the capture of a table''s changes';
comment on function segmenter_capture() is 'trigger: captures the ids that a statement has written in a watched table';
comment on function segmenter_subscribe(text, text, text, jsonb) is 'subscribes a consumer, which is made where it is new, to a segment for a target system, and gives the subscription''s id';
comment on function segmenter_claim(text, int, interval) is 'the next messages for a consumer, in order, of one subscription that nobody holds; they are the caller''s for the time of the lease';
comment on function segmenter_ack(uuid, bigint, jsonb) is 'acknowledges a claimed message and those before it, with what the consumer says of it';
comment on function segmenter_nack(uuid, bigint, text, interval) is 'gives a claimed message back with the reason, to be tried again later';
comment on function segmenter_retry(uuid) is 'has a subscription that failed go on at once, and gives how many messages wait';
comment on function segmenter_skip(uuid) is 'passes over the message that a subscription is at, and gives its id';
comment on function segmenter_resync(uuid) is 'drops what waits for a subscription and hands over every member in place of what the consumer has';
comment on function segmenter_erase(text) is 'erases a person from segments and messages, and has consumers remove them';
comment on function segmenter_notice_segments() is 'trigger: lets the scheduler know of a change';
comment on function segmenter_check_segment() is 'trigger: validates a segment''s row and stamps its owner';
comment on function segmenter_register_segment() is 'trigger: brings a segment''s table into the mart, or takes it out';
comment on function segmenter_check_consumer() is 'trigger: validates a consumer''s row';
comment on function segmenter_check_subscription() is 'trigger: validates a subscription''s row';
comment on function segmenter_init(text, text) is 'makes a set of service relations under other names, as tables of the caller';
comment on function segmenter_sets() is 'the sets of service relations: their names, owners and numbers of segments';
comment on function segmenter_drop_set(text, boolean) is 'drops a set of service relations, unless it has segments or messages to deliver; force: even then';
comment on function segmenter_definition() is 'what a set of service relations is made of; used by segmenter_init()';

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

-- What these functions do is checked anew in each of them, against whoever calls.
revoke all on function segmenter_refresh, segmenter_run, segmenter_run_id, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_due_in, segmenter_doctor, segmenter_prune,
    segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry, segmenter_skip,
    segmenter_resync, segmenter_erase, segmenter_may_act_as, segmenter_message, segmenter_watch, segmenter_unwatch,
    segmenter_capture, segmenter_init, segmenter_sets, segmenter_drop_set, segmenter_definition, segmenter_notice_segments,
    segmenter_check_segment, segmenter_register_segment, segmenter_check_consumer, segmenter_check_subscription
    from public;
revoke all on procedure segmenter_run_each from public;
grant execute on function segmenter_refresh, segmenter_run, segmenter_run_id, segmenter_run_plan, segmenter_run_step,
    segmenter_create_segment, segmenter_cron_next, segmenter_due, segmenter_due_in, segmenter_doctor, segmenter_prune,
    segmenter_subscribe, segmenter_claim, segmenter_ack, segmenter_nack, segmenter_retry, segmenter_skip,
    segmenter_resync, segmenter_erase, segmenter_may_act_as, segmenter_message, segmenter_watch, segmenter_unwatch,
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
