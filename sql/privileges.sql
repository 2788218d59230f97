-- Comments and privileges of the functions and, at the end of the script, the extension's own relation set.

comment on function segmenter_refresh(text, text, boolean, boolean, boolean) is 'refreshes one segment by hand; query: a one-off query instead of the segment''s own; dry_run: only reports what would change; force: ignores the guards; full: compares all ids';
comment on function segmenter_run(boolean) is 'refreshes every segment that is due, or with "all" every automatic one, in one transaction; a segment that reads the table of another one comes after it';
comment on function segmenter_run_plan(boolean) is 'lists what a run would refresh now, in order, and the segments that it would only hand over; used by segmenter_run_each()';
comment on function segmenter_run_step(uuid, text, text[], uuid, boolean) is 'refreshes one segment of a run, or only hands it over, and returns its status; used by segmenter_run_each()';
comment on function segmenter_run_id() is 'returns a new id of a run, a UUID of version 7; used by segmenter_run_each()';
comment on function segmenter_run_prune() is 'reports alerts and deletes what is past its retention, at the end of a run; used by segmenter_run_each()';
comment on procedure segmenter_run_check() is 'checks that a run may commit its segments: it is called outside of a transaction block and of functions; used by segmenter_run_each()';
comment on procedure segmenter_run_commit(uuid, text, uuid, boolean) is 'commits one segment of a run; a commit that fails is logged as a failure of that segment; used by segmenter_run_each()';
comment on function segmenter_now() is 'the time of the refresh that is going on, the same for all its statements; outside of a refresh now()';
comment on procedure segmenter_run_each(boolean) is 'refreshes every segment that is due, or with "all" every automatic one, each in a transaction of its own';
comment on function segmenter_create_segment(text, text, text, text, boolean) is 'creates a segment table and its config row from a name and a query, and returns the segment''s id; with a cron expression the segment is automatic';
comment on function segmenter_put_segment(text, text, jsonb, text, text, text, boolean, text, text, jsonb, jsonb, jsonb, boolean) is 'creates a segment or alters the one that has the name, adds columns that its query newly gives to its table, and says what was changed; null leaves what is there';
comment on function segmenter_drop_segment(text, boolean) is 'ends the subscriptions of a segment and deletes its row; drop_table: its table, too';
comment on function segmenter_email(text, text) is 'an e-mail address in the form that a platform hashes, or that most of them do; null: it cannot be one';
comment on function segmenter_phone(text, text, text) is 'a phone number with its country code, in the form that a platform hashes, or in E.164; null: it cannot be one';
comment on function segmenter_identifier(text, text, text) is 'another identifier of a person, such as a name or a city, in the form that a platform compares; null: it cannot be one';
comment on function segmenter_hash(text, text) is 'the hash of a text: sha256, sha512, sha1 or md5 in hexadecimal digits, or sha256_base64; null for an empty text';
comment on function segmenter_bucket(text, text, int) is 'the bucket of an id, from 0 to buckets - 1, which splits members into groups: the first eight bytes of sha256(salt || '':'' || id), modulo buckets';
comment on function segmenter_restore_definition(text, int) is 'makes the row of a segment what it was in a version of its definition, and returns the version that it has now';
comment on function segmenter_cron_next(text, timestamptz, text) is 'returns the first time of a cron expression after a time, in a time zone; null: there is none';
comment on function segmenter_due(timestamptz) is 'lists when each segment is due, whether it is due at a time, and why';
comment on function segmenter_due_in(regclass, timestamptz) is 'the same for one relation set; used by its status view';
comment on function segmenter_members(text, timestamptz) is 'the members of a segment, now or at a time, read with the rights of the caller';
comment on function segmenter_overlap(text[], timestamptz) is 'how segments overlap, two by two, now or at a time';
comment on function segmenter_venn(text[], timestamptz) is 'divides the members of segments into those that are in exactly the same of them, now or at a time';
comment on function segmenter_preview(text) is 'what a query would give as a segment, and which segments it resembles; it is run with the rights of the caller, read-only';
comment on function segmenter_diff(text, text) is 'who would be added, removed or changed by a refresh now; query: a one-off query instead of the segment''s own';
comment on function segmenter_explain(text, text, timestamptz) is 'why a person is in a segment, or is not: a row for each thing that decides it';
comment on function segmenter_timeline(text) is 'what happened to a person in the segments that the caller may see, with the runs and the reasons';
comment on function segmenter_report(int) is 'a self-contained HTML page about the segments that the caller may see, for the last days';
comment on function segmenter_disclosures(text) is 'to whom a person''s data went, and when, as far as the caller may see the segments';
comment on function segmenter_list_audiences() is 'lists the audiences of consumers, compared with what these have reported; used by segmenter_audiences';
comment on function segmenter_report_audiences(text, jsonb) is 'records which audiences a consumer has in its target systems, in place of what was reported before; returns their number';
comment on function segmenter_list_lineage() is 'lists what each segment reads; used by segmenter_lineage';
comment on function segmenter_list_progress() is 'lists refreshes and deliveries that are going on; used by segmenter_progress';
comment on function segmenter_cancel(text, interval) is 'ends a refresh of a segment that another process is making, and returns whether there was one; hold: how long automatic refreshes rest from now on';
comment on function segmenter_doctor() is 'checks this database and lists findings, with a summary as the last row';
comment on function segmenter_prune() is 'deletes log entries older than segmenter.log_retention, messages delivered longer than segmenter.outbox_retention ago, captured changes that every segment has read, and former members by the retention of their segment; runs do so by themselves';
comment on function segmenter_may_act_as(oid) is 'whether the current role may act as another role; used by the row-level security policies';
comment on function segmenter_may_see(uuid, oid, regclass) is 'whether rows of a segment in a table are members that the current role may see; used by the policy of the mart';
comment on function segmenter_message(jsonb, jsonb) is 'builds a message from its head and its members; used where messages are written';
comment on function segmenter_watch(regclass, name) is 'creates statement triggers that capture changes of a table, for segments that watch it';
comment on function segmenter_unwatch(regclass, name) is 'drops the triggers that capture changes of a table';
comment on function segmenter_capture() is 'trigger: captures the ids that a statement has written in a watched table';
comment on function segmenter_subscribe(text, text, text, jsonb, text) is 'subscribes a consumer to a segment for a target system, and returns the subscription''s id; a consumer that does not exist is created; consumer_role: the role that it belongs to';
comment on function segmenter_alert(text, jsonb, text) is 'makes a rule of alerts, and returns its id: what goes wrong with segments of the caller is reported to the consumer, once when it begins and once when it is over; consumer_role: the role that it belongs to';
comment on function segmenter_claim(text, int, interval) is 'leases the next messages of one subscription of a consumer, in order, to the caller';
comment on function segmenter_take(text, text, text, boolean) is 'takes an audience as rows, or what has changed of it since the last time, and acknowledges its messages; the column list names the fields';
comment on function segmenter_ack(uuid, bigint, jsonb) is 'acknowledges a claimed message and all before it, with the consumer''s receipt';
comment on function segmenter_nack(uuid, bigint, text, interval) is 'reports that a claimed message could not be processed; it is delivered again later';
comment on function segmenter_render(uuid) is 'the requests that the waiting messages of a subscription would make, with secrets masked; nothing is sent';
comment on function segmenter_http_validator(text[], oid) is 'checks the options of foreign servers and user mappings of segmenter_http';
comment on function segmenter_builtin_connectors() is 'the connectors that come with Segmenter; used by the scripts of the extension';
comment on function segmenter_check_connector() is 'trigger: checks the spec of a connector';
comment on function segmenter_retry(uuid) is 'retries a failed subscription at once, and returns the number of waiting messages';
comment on function segmenter_retry(text, text, text) is 'the same for a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_skip(text, text, text) is 'skips the first waiting message of a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_resync(text, text, text) is 'resyncs a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_skip(uuid) is 'skips the first waiting message of a subscription, and returns its id';
comment on function segmenter_resync(uuid) is 'discards the waiting messages of a subscription and sends all members in a replace; called by the consumer it requests that of the segment''s next run';
comment on function segmenter_resume_deliveries(text) is 'has the background workers of a copy of a database deliver to consumers, to one or to all that the caller may act for; returns the number of those that were paused';
comment on function segmenter_erase(text, boolean) is 'erases a person from segments, messages and the log, and has consumers remove the person; reports segments from which the person could not be erased; keep_out: no refresh adds the person again';
comment on function segmenter_readmit(text) is 'has refreshes add a person again who was erased and kept out, and returns whether the person was kept out';
comment on function segmenter_delivered_in(regclass) is 'the state of deliveries in one relation set; used by its status view';
comment on function segmenter_figures_in(regclass) is 'the figures of segments of other roles in one relation set, for members of pg_monitor; used by its status view';
comment on function segmenter_list_stat() is 'the rows of the view segmenter_stat';
comment on function segmenter_list_stat_subscriptions() is 'the rows of the view segmenter_stat_subscriptions';
comment on function segmenter_stat_reset(text) is 'sets the figures of a segment and its subscriptions to 0, or those of all segments that the caller may act for';
comment on function segmenter_metrics() is 'the figures of segments and subscriptions in the text format of Prometheus';
comment on function segmenter_role_named(text) is 'the role of a name; used by segmenter_registry and by relation sets';
comment on function segmenter_is_whole(oid) is 'whether every relation of a relation set exists; used by pg_dump';
comment on function segmenter_notice_segments() is 'trigger: notifies the scheduler of a change';
comment on function segmenter_check_segment() is 'trigger: validates the row of a segment and sets its owner';
comment on function segmenter_register_segment() is 'trigger: attaches the table of a segment to the mart, or detaches it';
comment on function segmenter_check_consumer() is 'trigger: validates the row of a consumer';
comment on function segmenter_check_subscription() is 'trigger: validates the row of a subscription, and keeps the columns of its two parties apart';
comment on function segmenter_check_alert() is 'trigger: validates a rule of alerts, and keeps the subscription that delivers its alerts';
comment on function segmenter_init(text, text) is 'creates a relation set under other names, as tables of the caller';
comment on function segmenter_sets() is 'lists the relation sets: their names, owners and numbers of segments';
comment on function segmenter_migrate_set(text) is 'migrates a relation set that the update of the extension could not migrate';
comment on function segmenter_migrate_sets() is 'migrates all relation sets; used by the scripts that update the extension';
comment on function segmenter_adopt_set(text) is 'makes the owner of all relations of a relation set its owner, after they were given to another role';
comment on function segmenter_drop_set(text, boolean) is 'drops a relation set, unless it has segments or undelivered messages; force: even then';
comment on function segmenter_definition() is 'the SQL that a relation set is created from; used by segmenter_init()';

-- The extension's own relation set, and what pg_dump includes: the rows of each relation but the mart, which
-- has none, the sequences of the two identity columns, and the sets that segmenter_init() has made. CREATE
-- EXTENSION makes the extension's own set.
select segmenter_init('@extschema@.segmenter');
select pg_catalog.pg_extension_config_dump('segmenter_subscriptions', '');
select pg_catalog.pg_extension_config_dump('segmenter_log', '');
select pg_catalog.pg_extension_config_dump('segmenter_log_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_deliveries', '');
select pg_catalog.pg_extension_config_dump('segmenter_handovers', '');
select pg_catalog.pg_extension_config_dump('segmenter_withheld', '');
select pg_catalog.pg_extension_config_dump('segmenter_reports', '');
select pg_catalog.pg_extension_config_dump('segmenter_state', '');
select pg_catalog.pg_extension_config_dump('segmenter_counts', '');
select pg_catalog.pg_extension_config_dump('segmenter_attempts', '');
select pg_catalog.pg_extension_config_dump('segmenter_alerts', '');
select pg_catalog.pg_extension_config_dump('segmenter_alert_states', '');
select pg_catalog.pg_extension_config_dump('segmenter_definitions', '');
select pg_catalog.pg_extension_config_dump('segmenter_secret', '');
select pg_catalog.pg_extension_config_dump('segmenter_kept_out', '');
select pg_catalog.pg_extension_config_dump('segmenter_connectors', 'where not is_builtin');
-- Only whole sets: a relation that was dropped would be dumped as a number, which may be another relation's in
-- the restored database.
select pg_catalog.pg_extension_config_dump('segmenter_registry', $$where not exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = mart and d.deptype = 'e'
) and @extschema@.segmenter_is_whole(mart)$$);
select pg_catalog.pg_extension_config_dump('segmenter_registry_relations', $$where not exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = mart and d.deptype = 'e'
) and @extschema@.segmenter_is_whole(mart) and exists (
    select from pg_catalog.pg_class c where c.oid = relation
)$$);

-- Roles are dumped by their names in guards and params, where the triggers of a restored database look them
-- up: a role that does not exist there would keep every row from being restored if it were read as a regrole.
do $dump$
declare
    config  record;
    columns text;
begin
    for config in
        select k.relation, pg_catalog.format('%I.%I', n.nspname, c.relname) as name
        from @extschema@.segmenter_registry_relations k
        join pg_catalog.pg_depend d on d.objid operator(pg_catalog.=) k.mart::pg_catalog.oid
        join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) k.relation
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
        where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
          and d.deptype operator(pg_catalog.=) 'e'::pg_catalog."char"
          and k.kind operator(pg_catalog.=) any (array['segments', 'consumers'])
    loop
        select pg_catalog.string_agg(
            case k.attname
                when 'owner' then '''-''::pg_catalog.regrole'
                when 'guards' then 's.guards operator(pg_catalog.||) pg_catalog.jsonb_build_object(''restored_owner'', (select r.rolname from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) s.owner))'
                when 'role' then 'null'
                when 'subscribers' then '''{}'''
                when 'params' then 's.params operator(pg_catalog.||) pg_catalog.jsonb_build_object(''restored_role'', case when s.role is not null then coalesce((select r.rolname from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) s.role), '''') end, ''restored_subscribers'', array(select r.rolname from pg_catalog.unnest(s.subscribers) with ordinality u (role, place) join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) u.role order by u.place))'
                else 's.' operator(pg_catalog.||) pg_catalog.quote_ident(k.attname)
            end,
            ', ' order by k.attnum
        ) into columns
        from pg_catalog.pg_attribute k
        where k.attrelid operator(pg_catalog.=) config.relation and k.attnum operator(pg_catalog.>) 0 and not k.attisdropped;
        perform pg_catalog.pg_extension_config_dump(
            config.relation, pg_catalog.format('where false union all select %s from only %s s', columns, config.name)
        );
    end loop;
end
$dump$;

revoke all on segmenter_registry, segmenter_registry_relations, segmenter_changes, segmenter_change_readers,
    segmenter_lineage, segmenter_audiences, segmenter_progress, segmenter_connectors, segmenter_requests from public;
grant select on segmenter_registry, segmenter_registry_relations, segmenter_lineage, segmenter_audiences, segmenter_progress,
    segmenter_connectors to public;
-- Figures.
revoke all on segmenter_stat, segmenter_stat_subscriptions from public;
grant select on segmenter_stat, segmenter_stat_subscriptions to public;
revoke all on function segmenter_list_stat, segmenter_list_stat_subscriptions, segmenter_stat_reset, segmenter_metrics from public;
grant execute on function segmenter_list_stat, segmenter_list_stat_subscriptions, segmenter_stat_reset, segmenter_metrics to public;

-- Each of these functions checks the rights of its caller itself.
revoke all on function segmenter_refresh, segmenter_run, segmenter_now, segmenter_run_id, segmenter_run_plan, segmenter_run_step,
    segmenter_restore_definition, segmenter_run_prune,
    segmenter_create_segment, segmenter_put_segment, segmenter_drop_segment, segmenter_bucket,
    segmenter_email, segmenter_phone, segmenter_identifier, segmenter_hash, segmenter_cron_next, segmenter_due, segmenter_due_in, segmenter_delivered_in, segmenter_figures_in,
    segmenter_doctor, segmenter_list_lineage, segmenter_list_audiences, segmenter_report_audiences, segmenter_list_progress, segmenter_cancel, segmenter_prune, segmenter_subscribe, segmenter_alert, segmenter_claim, segmenter_take, segmenter_ack, segmenter_nack,
    segmenter_retry(uuid), segmenter_skip(uuid), segmenter_resync(uuid), segmenter_retry(text, text, text),
    segmenter_skip(text, text, text), segmenter_resync(text, text, text), segmenter_resume_deliveries, segmenter_erase, segmenter_readmit, segmenter_may_act_as, segmenter_may_see, segmenter_message, segmenter_watch, segmenter_unwatch,
    segmenter_capture, segmenter_init, segmenter_sets, segmenter_migrate_set, segmenter_migrate_sets,
    segmenter_adopt_set, segmenter_drop_set, segmenter_definition, segmenter_role_named, segmenter_is_whole,
    segmenter_notice_segments, segmenter_check_segment, segmenter_register_segment, segmenter_check_consumer,
    segmenter_check_subscription, segmenter_check_alert, segmenter_render, segmenter_http_validator, segmenter_builtin_connectors,
    segmenter_check_connector
    from public;
revoke all on procedure segmenter_run_each, segmenter_run_check, segmenter_run_commit from public;
grant execute on function segmenter_refresh, segmenter_run, segmenter_now, segmenter_run_id, segmenter_run_plan, segmenter_run_step,
    segmenter_restore_definition, segmenter_run_prune,
    segmenter_create_segment, segmenter_put_segment, segmenter_drop_segment, segmenter_bucket,
    segmenter_email, segmenter_phone, segmenter_identifier, segmenter_hash, segmenter_cron_next, segmenter_due, segmenter_due_in, segmenter_delivered_in, segmenter_figures_in,
    segmenter_doctor, segmenter_list_lineage, segmenter_list_audiences, segmenter_report_audiences, segmenter_list_progress, segmenter_cancel, segmenter_prune, segmenter_subscribe, segmenter_alert, segmenter_claim, segmenter_take, segmenter_ack, segmenter_nack,
    segmenter_retry(uuid), segmenter_skip(uuid), segmenter_resync(uuid), segmenter_retry(text, text, text),
    segmenter_skip(text, text, text), segmenter_resync(text, text, text), segmenter_resume_deliveries, segmenter_erase, segmenter_readmit, segmenter_may_act_as, segmenter_may_see, segmenter_message, segmenter_watch, segmenter_unwatch,
    segmenter_init, segmenter_sets, segmenter_migrate_set, segmenter_adopt_set, segmenter_drop_set, segmenter_is_whole,
    segmenter_role_named, segmenter_render, segmenter_http_validator
    to public;
-- The owner of a table creates this trigger; it records only what is written to that table.
grant execute on function segmenter_capture to public;
-- The owner of a set creates these triggers; on other relations they raise an error.
grant execute on function segmenter_notice_segments, segmenter_check_segment, segmenter_register_segment,
    segmenter_check_consumer, segmenter_check_subscription, segmenter_check_alert to public;
grant execute on procedure segmenter_run_each, segmenter_run_check, segmenter_run_commit to public;
-- They read segment tables with the rights of the caller.
revoke all on function segmenter_members, segmenter_overlap, segmenter_venn, segmenter_preview, segmenter_diff,
    segmenter_explain, segmenter_timeline, segmenter_disclosures
    from public;
grant execute on function segmenter_members, segmenter_overlap, segmenter_venn, segmenter_preview, segmenter_diff,
    segmenter_explain, segmenter_timeline, segmenter_disclosures
    to public;
-- It reads segment tables with the rights of the caller.
revoke all on function segmenter_report from public;
grant execute on function segmenter_report to public;

-- A NOTICE of what is still to be set up. CREATE EXTENSION hides notices of its script unless the script
-- sets client_min_messages.
select set_config('client_min_messages', 'notice', true) where current_setting('client_min_messages') = 'warning';
select segmenter_say_what_is_missing();
drop function segmenter_say_what_is_missing();
