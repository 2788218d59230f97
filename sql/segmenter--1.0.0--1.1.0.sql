-- From 1.0.0 to 1.1.0. Every change of an SQL object is made here too: after the update the catalogue must
-- equal that of a fresh installation, the text of segmenter_definition() included (pg_test/cluster/update).
\echo Use "ALTER EXTENSION segmenter UPDATE" to load this file. \quit

-- What is dropped below is created again, with the privileges of a new installation.
do $do$
declare
    changed text;
begin
    select string_agg(p.oid::pg_catalog.regprocedure::text, ', ' order by p.proname::text collate "C") into changed
    from unnest(array['segmenter_refresh(text,text,boolean,boolean,boolean)', 'segmenter_run()', 'segmenter_run_each()',
        'segmenter_run_plan()', 'segmenter_subscribe(text,text,text,jsonb)', 'segmenter_erase(text)']) f (signature)
    join pg_catalog.pg_proc p on p.oid = ('@extschema@.' || f.signature)::pg_catalog.regprocedure
    left join pg_catalog.pg_init_privs i
        on (i.classoid, i.objoid) = ('pg_catalog.pg_proc'::pg_catalog.regclass, p.oid)
    where exists (
        (select grantee, privilege_type, is_grantable from pg_catalog.aclexplode(p.proacl)
            except select grantee, privilege_type, is_grantable from pg_catalog.aclexplode(i.initprivs))
        union all
        (select grantee, privilege_type, is_grantable from pg_catalog.aclexplode(i.initprivs)
            except select grantee, privilege_type, is_grantable from pg_catalog.aclexplode(p.proacl)));
    if changed is not null then
        raise warning 'privileges that were changed on functions are lost: %', changed
            using hint = 'The update drops and creates these functions, with the privileges of a new installation. Grant and revoke again what you had changed.';
    end if;
end
$do$;

-- Ids of runs are time-ordered (sql/procedures.sql).
CREATE FUNCTION "segmenter_run_id"() RETURNS uuid
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_run_id_wrapper';
revoke all on function segmenter_run_id from public;
grant execute on function segmenter_run_id to public;
CREATE FUNCTION "segmenter_now"() RETURNS timestamp with time zone
STRICT STABLE PARALLEL RESTRICTED
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_now_wrapper';
revoke all on function segmenter_now from public;
grant execute on function segmenter_now to public;
CREATE FUNCTION "segmenter_bucket"("id" TEXT, "salt" TEXT DEFAULT '', "buckets" INT DEFAULT 10000) RETURNS INT
IMMUTABLE STRICT PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_bucket_wrapper';
revoke all on function segmenter_bucket from public;
grant execute on function segmenter_bucket to public;
CREATE FUNCTION "segmenter_email"("value" TEXT, "platform" TEXT DEFAULT NULL) RETURNS TEXT
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_email_wrapper';
CREATE FUNCTION "segmenter_phone"("value" TEXT, "country" TEXT DEFAULT NULL, "platform" TEXT DEFAULT NULL) RETURNS TEXT
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_phone_wrapper';
CREATE FUNCTION "segmenter_identifier"("kind" TEXT, "value" TEXT, "platform" TEXT DEFAULT NULL) RETURNS TEXT
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_identifier_wrapper';
CREATE FUNCTION "segmenter_hash"("value" TEXT, "algorithm" TEXT DEFAULT 'sha256') RETURNS TEXT
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_hash_wrapper';
revoke all on function segmenter_email, segmenter_phone, segmenter_identifier, segmenter_hash from public;
grant execute on function segmenter_email, segmenter_phone, segmenter_identifier, segmenter_hash to public;

CREATE FUNCTION "segmenter_run_prune"() RETURNS VOID
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_run_prune_wrapper';
comment on function segmenter_run_prune() is 'reports alerts and deletes what is past its retention, at the end of a run; used by segmenter_run_each()';
revoke all on function segmenter_run_prune from public;
grant execute on function segmenter_run_prune to public;
create procedure segmenter_run_check()
language c as 'MODULE_PATHNAME', 'segmenter_run_check_wrapper';
create procedure segmenter_run_commit(segment_id uuid, segment text, run_id uuid, hand_over_only boolean)
language c as 'MODULE_PATHNAME', 'segmenter_run_commit_wrapper';
revoke all on procedure segmenter_run_check, segmenter_run_commit from public;
grant execute on procedure segmenter_run_check, segmenter_run_commit to public;

drop procedure segmenter_run_each();
create procedure segmenter_run_each("all" boolean default false)
language plpgsql
as $$
declare
    -- Names are looked up in the caller's search_path.
    run  constant pg_catalog.uuid := @extschema@.segmenter_run_id();
    step record;
begin
    call @extschema@.segmenter_run_check();
    for step in select * from @extschema@.segmenter_run_plan($1) loop
        -- Whatever the session's transactions are: each refresh sees what was committed before it.
        commit;
        set transaction isolation level read committed;
        perform @extschema@.segmenter_run_step(step.segment_id, step.segment, step.cycle, run, step.hand_over_only);
        -- A COMMIT that fails would end the procedure.
        call @extschema@.segmenter_run_commit(step.segment_id, step.segment, run, step.hand_over_only);
    end loop;
    commit;
    set transaction isolation level read committed;
    perform @extschema@.segmenter_run_prune();
end
$$;
revoke all on procedure segmenter_run_each from public;
grant execute on procedure segmenter_run_each to public;

-- The definition of relation sets (sql/set.sql): comments, here and in the objects.
create or replace function segmenter_definition() returns text
language sql immutable strict parallel safe
as $definition$ select $set$
create table @mart@ (
    segment_id   uuid      not null,
    id           varchar,
    hash_email   varchar,
    hash_phone   varchar,
    actual_begin timestamp not null default now(),
    actual_end   timestamp not null default 'infinity',
    processed    timestamp not null default now(),
    -- Only the segment tables, its inheritance children, hold rows.
    constraint @:holds_no_row@ check (false) no inherit
);
-- A publication may hold it: without an identity PostgreSQL would refuse to update and delete through it.
alter table @mart@ replica identity full;
comment on table @mart@ is 'the mart: the members of every segment, read through the segment tables that inherit it; it has no rows itself';
comment on column @mart@.segment_id is 'the segment, by its id';
comment on column @mart@.id is 'the member''s key, unique among the current members of a segment';
comment on column @mart@.hash_email is 'hashed e-mail address';
comment on column @mart@.hash_phone is 'hashed phone number';
comment on column @mart@.actual_begin is 'begin of the period, local time in the zone segmenter.timezone';
comment on column @mart@.actual_end is 'end of the period, exclusive; infinity: a current member';
comment on column @mart@.processed is 'when the row last changed';

create table @segments@ (
    id               uuid        primary key default gen_random_uuid(),
    name             text        not null,
    description      text,
    table_name       regclass    not null,
    owner            regrole     not null default quote_ident(current_user)::regrole,
    context          text,
    refresh_auto     boolean     not null default false,
    refresh_params   jsonb       not null default '{}',
    refresh_cron     text,
    refresh_timezone text,
    sources          jsonb       not null default '[]',
    guards           jsonb       not null default '{}',
    actual_begin     timestamptz not null default now(),
    actual_end       timestamptz not null default 'infinity',
    exclude          jsonb       not null default '[]',
    is_suppression   boolean     not null default false,
    exempt           jsonb       not null default '{}',
    priority_group   text,
    priority         int,
    retention        jsonb       not null default '{}',
    hold_until       timestamptz,
    constraint @:segments_name_check@ check (name <> ''),
    constraint @:segments_actual_check@ check (actual_begin <= actual_end)
);
create unique index @:segments_name_key@ on @segments@ (name) where actual_end = 'infinity';
create index @:segments_table_idx@ on @segments@ (table_name, name);
-- Few segments are lists, or have any: who looks for them need not read the others.
create index @:segments_exclude_idx@ on @segments@ (id) where exclude <> '[]' and actual_end = 'infinity';
create index @:segments_suppression_idx@ on @segments@ (id) where is_suppression and actual_end = 'infinity';
create index @:segments_priority_idx@ on @segments@ (priority_group, priority) where priority_group is not null and actual_end = 'infinity';
comment on table @segments@ is 'the segments: owner, refresher and schedule of each; a segment is active while actual_end is infinity';
comment on column @segments@.id is 'the segment';
comment on column @segments@.name is 'the name, unique among active segments';
comment on column @segments@.description is 'a description for people';
comment on column @segments@.table_name is 'the segment table that holds the members';
comment on column @segments@.owner is 'the role whose rights the segment''s SQL runs with';
comment on column @segments@.context is 'the related task';
comment on column @segments@.refresh_auto is 'true: refreshed by segmenter_run(); false: by hand only';
comment on column @segments@.refresh_params is 'the refresher: {"query": {"sql": …}}, {"procedure": {"sql": "call …()"}}, {"incremental": {"changed": … or "watch": […], "sql": …, "expires": …, "full_cron": …}}, or {} for a segment that is loaded by hand';
comment on column @segments@.refresh_cron is 'when it is refreshed, as a cron expression; null: at every run';
comment on column @segments@.refresh_timezone is 'the time zone of refresh_cron; null: segmenter.timezone';
comment on column @segments@.sources is 'the sources that are checked before a refresh';
comment on column @segments@.guards is 'limits of a refresh, as an object; a refresh that exceeds one is refused';
comment on column @segments@.actual_begin is 'when the segment was created';
comment on column @segments@.actual_end is 'when it was retired; infinity: it is active';
comment on column @segments@.exclude is 'segments whose members are left out of this one: a list of names, or of {"segment": …, "by": [columns]}';
comment on column @segments@.is_suppression is 'true: its members are left out of every other segment that does not name it in exempt';
comment on column @segments@.exempt is 'suppression lists that do not apply to this segment, by name, each with the reason';
comment on column @segments@.priority_group is 'segments of one group share no members: a person is in the one with the lowest priority';
comment on column @segments@.priority is 'the place in the group, unique among its active segments; the lowest comes first';
comment on column @segments@.retention is 'how long former members are kept: {"keep": …, "without_contacts_after": …}, intervals that count from the end of their periods';
comment on column @segments@.hold_until is 'until when automatic refreshes rest; null: they do not';

create table @consumers@ (
    id           uuid        primary key default gen_random_uuid(),
    name         text        not null,
    description  text,
    role         regrole,
    params       jsonb       not null default '{}',
    actual_begin timestamptz not null default now(),
    actual_end   timestamptz not null default 'infinity',
    subscribers  regrole[]   not null default '{}',
    home         text,
    constraint @:consumers_name_check@ check (name <> ''),
    constraint @:consumers_actual_check@ check (actual_begin <= actual_end)
);
create unique index @:consumers_name_key@ on @consumers@ (name) where actual_end = 'infinity';
comment on table @consumers@ is 'the systems that receive segments';
comment on column @consumers@.id is 'the consumer';
comment on column @consumers@.name is 'the name, unique among active consumers';
comment on column @consumers@.description is 'a description for people';
comment on column @consumers@.role is 'the role that may claim and acknowledge; null: only the owner of this table and superusers';
comment on column @consumers@.params is 'how it gets its messages: updater ("pull", {"function": …}, {"http": …}), max_attempts, list_every';
comment on column @consumers@.actual_begin is 'when the consumer was created';
comment on column @consumers@.actual_end is 'when it was retired; infinity: it is active';
comment on column @consumers@.home is 'the cluster and the database whose workers deliver to it; a copy of the database is another one, where deliveries by workers are paused';
comment on column @consumers@.subscribers is 'roles that may subscribe it to segments, beside those that may act as its role';

create table @subscriptions@ (
    id           uuid        primary key default gen_random_uuid(),
    consumer_id  uuid        not null references @consumers@ (id),
    segment_id   uuid        references @segments@ (id),
    target       text        not null,
    name         text        not null default '{{name}}',
    params       jsonb       not null default '{}',
    cron         text,
    timezone     text,
    status       text        not null default 'not uploaded',
    external_id  text,
    actual_begin timestamptz not null default now(),
    actual_end   timestamptz not null default 'infinity',
    constraint @:subscriptions_segment_check@ check (segment_id is not null or target = 'alerts'),
    constraint @:subscriptions_status_check@ check (status in ('not uploaded', 'queued', 'uploaded', 'failed')),
    constraint @:subscriptions_actual_check@ check (actual_begin <= actual_end)
);
create unique index @:subscriptions_key@ on @subscriptions@ (consumer_id, segment_id, target) where actual_end = 'infinity';
create index @:subscriptions_segment_idx@ on @subscriptions@ (segment_id);
comment on table @subscriptions@ is 'the subscriptions: one consumer, one segment, one target; and one for each rule of alerts';
comment on column @subscriptions@.id is 'the subscription';
comment on column @subscriptions@.consumer_id is 'the consumer';
comment on column @subscriptions@.segment_id is 'the segment; null: alerts are handed over, by the rule that has the same id';
comment on column @subscriptions@.target is 'the target system';
comment on column @subscriptions@.name is 'the audience''s name; {{name}}, {{consumer}} and {{target}} are replaced';
comment on column @subscriptions@.params is 'what is sent: mode, batch_size, fields, where, paused, min_members, resync_cron, max_drift, heal, first, reasons';
comment on column @subscriptions@.cron is 'when messages become available, as a cron expression; null: at once';
comment on column @subscriptions@.timezone is 'the time zone of cron; null: segmenter.timezone';
comment on column @subscriptions@.status is 'the state of the audience: not uploaded, queued, uploaded, failed';
comment on column @subscriptions@.external_id is 'the audience''s id on the consumer''s side';
comment on column @subscriptions@.actual_begin is 'when the subscription was created';
comment on column @subscriptions@.actual_end is 'when it was ended; infinity: it is active';

create table @log@ (
    id              bigint      generated always as identity primary key,
    processed       timestamptz not null default clock_timestamp(),
    run_id          uuid,
    action          text        not null,
    status          text        not null,
    segment_id      uuid,
    segment_name    text,
    subscription_id uuid,
    target          text,
    num_received    bigint,
    num_invalid     bigint,
    added           bigint,
    removed         bigint,
    changed         bigint,
    coverage        bigint,
    elapsed         interval,
    message         text,
    error           jsonb,
    params          jsonb,
    excluded        bigint,
    definition      int,
    reason          text,
    constraint @:log_status_check@ check (status in ('running', 'ok', 'skipped', 'waiting', 'refused', 'failed', 'interrupted'))
);
create index @:log_segment_idx@ on @log@ (segment_id, id);
create index @:log_processed_idx@ on @log@ (processed);
comment on table @log@ is 'the log: what happened, for people; append-only. Nothing but the guard "unusual" depends on it: what decides what happens next is in the tables of states, hand-overs and deliveries';
comment on column @log@.id is 'the entry, in the order of insertion';
comment on column @log@.processed is 'when it began';
comment on column @log@.run_id is 'the run it belongs to';
comment on column @log@.action is 'the action: refresh, exclude, hand over, deliver, erase, keep out, readmit, prune';
comment on column @log@.status is 'how it ended: running, ok, skipped, waiting, refused, failed, interrupted';
comment on column @log@.segment_id is 'the segment; null: it was not found';
comment on column @log@.segment_name is 'the segment''s name at that time';
comment on column @log@.subscription_id is 'the subscription';
comment on column @log@.target is 'the subscription''s target system';
comment on column @log@.num_received is 'rows that the refresher returned, or that the consumer received';
comment on column @log@.num_invalid is 'rows among them without an id, or that the consumer rejected';
comment on column @log@.added is 'members added (status refused: would have been added), or sent to be added';
comment on column @log@.removed is 'members removed (status refused: would have been removed), or sent to be removed';
comment on column @log@.changed is 'members changed (status refused: would have been changed)';
comment on column @log@.coverage is 'members afterwards (status refused: would have been), or counted by the consumer';
comment on column @log@.elapsed is 'the duration';
comment on column @log@.message is 'a message for people';
comment on column @log@.error is 'sqlstate, message, detail, hint, context';
comment on column @log@.params is 'the parameters';
comment on column @log@.excluded is 'rows of the refresher that were left out, because other segments have their members, or the people are kept out';
comment on column @log@.definition is 'the version of the segment''s definition that a refresh ran with; null: not known';
comment on column @log@.reason is 'why members changed, or were handed over: data, clock, definition, exclusion, priority, one-off, first load, resync, erased';

create table @outbox@ (
    id              bigint      generated always as identity primary key,
    created_at      timestamptz not null default clock_timestamp(),
    available_at    timestamptz not null default clock_timestamp(),
    consumer_id     uuid        not null,
    subscription_id uuid        not null,
    segment_id      uuid        not null,
    run_id          uuid,
    operation       text        not null,
    part            int         not null default 1,
    parts           int         not null default 1,
    members         int         not null default 0,
    payload         jsonb       not null,
    is_erasure      boolean     not null default false,
    audience        text,
    constraint @:outbox_operation_check@ check (operation in ('create', 'add', 'remove', 'replace', 'events', 'delete', 'alert'))
);
-- With the segment, whose owner may count them.
create index @:outbox_subscription_idx@ on @outbox@ (subscription_id, id) include (segment_id);
-- Compressing hashes takes longer than writing them uncompressed.
alter table @outbox@ alter payload set storage external;
comment on table @outbox@ is 'the messages for consumers, insert-only: one row is one message';
comment on column @outbox@.id is 'the message; ids are in the order of delivery within a subscription';
comment on column @outbox@.created_at is 'when it was written';
comment on column @outbox@.available_at is 'when it becomes available';
comment on column @outbox@.consumer_id is 'the consumer';
comment on column @outbox@.subscription_id is 'the subscription';
comment on column @outbox@.segment_id is 'the segment; of an alert, the one that it is about';
comment on column @outbox@.run_id is 'the run that wrote it';
comment on column @outbox@.operation is 'create, add, remove, replace, events, delete or alert';
comment on column @outbox@.part is 'the number of the part, from 1';
comment on column @outbox@.parts is 'the number of parts';
comment on column @outbox@.members is 'the number of members in the payload';
comment on column @outbox@.payload is 'the message';
comment on column @outbox@.audience is 'the name of the audience; null: written by an earlier version';
comment on column @outbox@.is_erasure is 'true: written by an erasure, and deleted once it is delivered, because it holds data of the person';

create table @deliveries@ (
    subscription_id   uuid        primary key references @subscriptions@ (id) on delete cascade,
    delivered_through bigint      not null default 0,
    lease             uuid,
    leased_until      timestamptz,
    attempts          int         not null default 0,
    next_attempt_at   timestamptz,
    last_error        text,
    delivered_at      timestamptz,
    leased_through    bigint,
    last_receipt      jsonb,
    marked_through    bigint[]      not null default '{}',
    marked_at         timestamptz[] not null default '{}',
    resync_requested_at timestamptz,
    leased_for        interval,
    retry_after       interval,
    audience            text,
    coverage            bigint,
    refused_members     bigint not null default 0,
    skipped_messages    bigint not null default 0,
    skipped_members     bigint not null default 0,
    progress            jsonb,
    messages_delivered  bigint not null default 0,
    attempts_made       bigint not null default 0,
    attempts_failed     bigint not null default 0,
    failures_in_a_row   bigint not null default 0
);
comment on table @deliveries@ is 'the delivery state: one row for each subscription. Deliveries write it; what was handed over is in another table, so that a refresh never waits for a consumer';
comment on column @deliveries@.subscription_id is 'the subscription';
comment on column @deliveries@.delivered_through is 'the last delivered message, by its id';
comment on column @deliveries@.lease is 'the last claim of messages';
comment on column @deliveries@.leased_until is 'when the lease ends; null: there is none';
comment on column @deliveries@.attempts is 'attempts at the next message';
comment on column @deliveries@.next_attempt_at is 'the next message is not delivered before';
comment on column @deliveries@.last_error is 'the error of the last attempt';
comment on column @deliveries@.delivered_at is 'when a message was last delivered';
comment on column @deliveries@.leased_through is 'the last message that was claimed, by its id';
comment on column @deliveries@.last_receipt is 'the last receipt of the consumer';
comment on column @deliveries@.marked_through is 'earlier values of delivered_through, at intervals: they tell how long ago older messages were delivered';
comment on column @deliveries@.marked_at is 'the times of marked_through';
comment on column @deliveries@.audience is 'the name of the audience in the last delivered message; null: the audience was deleted, or it is not known';
comment on column @deliveries@.coverage is 'the members that the consumer counted, in the receipt of the last delivered message; null: it had none';
comment on column @deliveries@.refused_members is 'members that the consumer could not use, by its receipts since the last replace';
comment on column @deliveries@.skipped_messages is 'messages that were skipped since the last replace';
comment on column @deliveries@.progress is 'how far a connector is with the next message, or what it keeps for the next part of the operation';
comment on column @deliveries@.messages_delivered is 'messages that were delivered, in all: segmenter_stat_subscriptions';
comment on column @deliveries@.attempts_made is 'attempts that ended, in all: entries of the log with the action deliver and the status ok or failed';
comment on column @deliveries@.attempts_failed is 'those that failed';
comment on column @deliveries@.failures_in_a_row is 'attempts that failed since the last one that did not, or since the failure was cleared';
comment on column @deliveries@.skipped_members is 'members in messages that were skipped since the last replace';
comment on column @deliveries@.resync_requested_at is 'when the consumer last requested a resync, which the segment''s next run makes';
comment on column @deliveries@.leased_for is 'the time of the lease: one that ends later than that from now was taken while the clock was ahead, and is over';
comment on column @deliveries@.retry_after is 'the delay of next_attempt_at: a later time was set while the clock was ahead, and has come';

create table @handovers@ (
    subscription_id uuid    primary key references @subscriptions@ (id) on delete cascade,
    has_audience    boolean not null default false,
    fields          jsonb,
    failed_fields   jsonb,
    error           text,
    past_fields     jsonb   not null default '[]',
    resync_of       timestamptz,
    audience        text,
    members         bigint,
    left_out        bigint  not null default 0,
    filter          jsonb,
    failed_filter   text,
    held            text,
    held_params     jsonb,
    withheld        text,
    field_types     jsonb,
    replaced_at     timestamptz,
    has_events      boolean not null default false,
    messages_written    bigint not null default 0,
    members_handed_over bigint not null default 0,
    last_message        bigint
);
comment on table @handovers@ is 'what was handed over: one row for each subscription, written by refreshes';
comment on column @handovers@.subscription_id is 'the subscription';
comment on column @handovers@.has_audience is 'true: the audience was handed over, and its deletion was not';
comment on column @handovers@.fields is 'the fields of the last hand-over; null: unknown, so that all members are handed over again';
comment on column @handovers@.failed_fields is 'the fields of the last attempt to hand over, if it failed';
comment on column @handovers@.error is 'why the last attempt to hand over failed';
comment on column @handovers@.audience is 'the name of the audience in the last message; null: not known';
comment on column @handovers@.members is 'the members that the subscription has been given and not been taken; null: not known';
comment on column @handovers@.left_out is 'members of the segment that it has not been given, because they cannot be part of a message';
comment on column @handovers@.filter is 'the filter of the last hand-over: where, and the columns that it uses with their types; null: none, all members were handed over';
comment on column @handovers@.failed_filter is 'the filter of the last attempt to hand over, if it failed';
comment on column @handovers@.held is 'why changes are held back; null: they are not';
comment on column @handovers@.held_params is 'the params of the subscription that it was held back with';
comment on column @handovers@.withheld is 'known: changes were held back, and the table of what is withheld says what the consumer has of them; unknown: it does not; null: none were';
comment on column @handovers@.field_types is 'the types of the columns of the last hand-over, by name: with another type a value has another text, so that all members are handed over; null: not known';
comment on column @handovers@.replaced_at is 'when all members were handed over last; null: not known';
comment on column @handovers@.has_events is 'true: events were handed over last, so that the consumer has been given no members';
comment on column @handovers@.messages_written is 'messages that were written, in all: segmenter_stat_subscriptions';
comment on column @handovers@.members_handed_over is 'members in them, or events';
comment on column @handovers@.last_message is 'the last message that was written, by its id: where it is not in the outbox and was not delivered, it is lost, and all members are handed over again; null: not known';
comment on column @handovers@.resync_of is 'the request of the consumer for a resync that was made last, by its time';
comment on column @handovers@.past_fields is 'all other sets of fields that members were handed over with, which erasure looks for';

-- Nobody but Segmenter reads it. By ids in bytes, as those of a delta are compared.
create table @withheld@ (
    subscription_id uuid not null references @subscriptions@ (id) on delete cascade,
    id              text collate "C" not null,
    member          jsonb,
    hash_email      text,
    hash_phone      text,
    primary key (subscription_id, id)
);
comment on table @withheld@ is 'what consumers have of members that have changed while changes are held back from a subscription: people who are excluded or erased are removed nevertheless';
comment on column @withheld@.subscription_id is 'the subscription';
comment on column @withheld@.id is 'the member''s key';
comment on column @withheld@.member is 'the member as the consumer has it; null: it does not have the member';
comment on column @withheld@.hash_email is 'hashed e-mail address of the member then';
comment on column @withheld@.hash_phone is 'hashed phone number of the member then';

create table @reports@ (
    consumer_id uuid   primary key references @consumers@ (id) on delete cascade,
    audiences   jsonb  not null default '[]',
    expected    uuid[] not null default '{}',
    reported_at timestamptz,
    asked_at    timestamptz,
    error       text
);
comment on table @reports@ is 'what consumers last reported of their audiences: one row for each consumer that has reported, or was asked';
comment on column @reports@.consumer_id is 'the consumer';
comment on column @reports@.audiences is 'the audiences in its target systems: external_id, name, target, size, match_rate, status';
comment on column @reports@.expected is 'the subscriptions that had an audience there, as far as it was known then';
comment on column @reports@.reported_at is 'when it reported them; null: never';
comment on column @reports@.asked_at is 'when its function was asked for them last; null: never';
comment on column @reports@.error is 'why it did not answer then; null: it did';

-- Written only by sessions that hold the segment's lock until they commit, so that nothing waits for a row.
-- No index but the key: an update is heap-only where the page has room.
create table @state@ (
    segment_id uuid primary key,
    run_id     uuid,
    started_at timestamptz,
    ended_at   timestamptz,
    coverage   bigint,
    added      bigint,
    removed    bigint,
    changed    bigint,
    members    bigint,
    changed_at timestamp,
    checkpoint jsonb,
    refreshes  bigint not null default 0,
    version    bigint not null default 0,
    timezone   text,
    sources_ahead text[],
    content    jsonb,
    excluded   bigint,
    gains      bigint not null default 0,
    losses     bigint not null default 0,
    lost_at    timestamptz,
    lists      jsonb,
    definition int,
    pruned_at  timestamptz,
    prune_error text,
    ran_with   text,
    total_received bigint   not null default 0,
    total_added    bigint   not null default 0,
    total_removed  bigint   not null default 0,
    total_changed  bigint   not null default 0,
    total_excluded bigint   not null default 0,
    total_elapsed  interval not null default '0'
) with (fillfactor = 50);
comment on table @state@ is 'the state: one row for each segment, written in the transaction of each successful refresh. With the attempts since, it decides what happens next; the log is history';
comment on column @state@.segment_id is 'the segment';
comment on column @state@.run_id is 'the run of the last successful refresh';
comment on column @state@.started_at is 'when it began; the schedule counts from it';
comment on column @state@.ended_at is 'when it ended';
comment on column @state@.coverage is 'members after it';
comment on column @state@.added is 'members that it added';
comment on column @state@.removed is 'members that it removed';
comment on column @state@.changed is 'members that it changed';
comment on column @state@.members is 'current members, as Segmenter has left them; null: not known';
comment on column @state@.changed_at is 'the local time at which it changed members; the next refresh is not earlier, even if the clock goes back';
comment on column @state@.checkpoint is 'how far an incremental refresh got; null: the next one makes a full pass';
comment on column @state@.refreshes is 'the number of successful refreshes';
comment on column @state@.content is 'sums of hashes of the members after the last refresh, by which rows that are changed by hand are noticed; null: not known, so that the next full pass takes them';
comment on column @state@.version is 'counts successful refreshes, hand-overs and erasures';
comment on column @state@.timezone is 'the zone of the members'' times: segmenter.timezone at the first refresh; null: that of the next refresh';
comment on column @state@.sources_ahead is 'the sources whose newest load time lay in the future';
comment on column @state@.excluded is 'rows of its refresher that it left out, because other segments have their members, or the people are kept out';
comment on column @state@.gains is 'counts the refreshes that added or changed members: segments that leave these out compare it';
comment on column @state@.losses is 'counts the refreshes that removed or changed members, in the same way';
comment on column @state@.lost_at is 'when the last of these ended; segments that leave its members out are due then';
comment on column @state@.ran_with is 'a hash of the refresher that the last refresh ran with: another one is the reason of the next changes';
comment on column @state@.lists is 'the segments whose members were left out, by id: by which columns, and after how many gains and losses of theirs';
comment on column @state@.pruned_at is 'when the retention of former members was last applied to the end; null: rows are left';
comment on column @state@.prune_error is 'why the retention could not be applied the last time';
comment on column @state@.definition is 'the version of the segment''s definition that it ran with; null: not known';
comment on column @state@.total_received is 'rows that the refresher returned, in all successful refreshes: segmenter_stat';
comment on column @state@.total_added is 'members that were added, in all';
comment on column @state@.total_removed is 'members that were removed, in all, by refreshes and by lists that gained them';
comment on column @state@.total_changed is 'members that were changed, in all';
comment on column @state@.total_excluded is 'rows that were left out, in all';
comment on column @state@.total_elapsed is 'the time of all successful refreshes';

-- Insert-only, so that nothing waits for a row: a refresh that fails does so beside the one that has the lock.
create table @counts@ (
    id              uuid        primary key default gen_random_uuid(),
    segment_id      uuid        not null,
    subscription_id uuid,
    status          text,
    refreshes       bigint,
    reset_at        timestamptz,
    base            jsonb,
    constraint @:counts_check@ check ((status is null) = (base is not null))
);
create index @:counts_segment_idx@ on @counts@ (segment_id);
comment on table @counts@ is 'what segmenter_stat shows beside the tables of states, hand-overs and deliveries: refreshes that did not succeed, a row for each until they are added up, and what the figures were at the last reset';
comment on column @counts@.id is 'the row';
comment on column @counts@.segment_id is 'the segment';
comment on column @counts@.subscription_id is 'the subscription whose figures were reset; null: those of the segment';
comment on column @counts@.status is 'how the refreshes ended: failed, refused, waiting, skipped; null: a reset';
comment on column @counts@.refreshes is 'their number';
comment on column @counts@.reset_at is 'when the figures were reset; the last reset counts';
comment on column @counts@.base is 'the figures then: what is shown is what has been added since';

-- An attempt that failed has released the segment's lock. It is recorded here, where no successful refresh
-- writes or waits; rows that are locked are left to the session that has locked them.
create table @attempts@ (
    segment_id    uuid primary key,
    refreshes     bigint not null,
    run_id        uuid,
    running_since timestamptz,
    status        text,
    message       text,
    waiting_since timestamptz,
    started_at    timestamptz,
    ended_at      timestamptz,
    failures      int    not null default 0,
    reads         text[],
    lineage       jsonb,
    definition    int,
    constraint @:attempts_status_check@ check (status in ('waiting', 'refused', 'failed', 'interrupted'))
) with (fillfactor = 50);
comment on table @attempts@ is 'the attempts since the last successful refresh: one row for each segment, which counts while its refreshes is that of the state';
comment on column @attempts@.segment_id is 'the segment';
comment on column @attempts@.refreshes is 'the number of successful refreshes before; if the state has a higher one, the row counts no longer';
comment on column @attempts@.run_id is 'the run of the last attempt, or of the one that is running';
comment on column @attempts@.running_since is 'when the refresh began that a worker is making; null: none';
comment on column @attempts@.status is 'how the last attempt ended: waiting, refused, failed, interrupted';
comment on column @attempts@.message is 'why';
comment on column @attempts@.waiting_since is 'since when the segment has been waiting for its sources; null: it is not waiting';
comment on column @attempts@.started_at is 'when the last attempt began that did not end as waiting; the schedule counts from it';
comment on column @attempts@.ended_at is 'when that attempt ended; the delay of a retry counts from it';
comment on column @attempts@.failures is 'failed and interrupted attempts in a row';
comment on column @attempts@.reads is 'the relations that the segment reads, also through views and SQL functions, as its last refresh found, or the writing of its row; they decide the order of refreshes. null: not known';
comment on column @attempts@.definition is 'the version of the definition that the last attempt ran with, if it failed: with a later one the segment is due at once. null: not known';
comment on column @attempts@.lineage is 'the same with functions, and the view or function that names each: what segmenter_lineage shows. null: not known';

-- The id is that of a subscription, whose deliveries are those of the alerts. pg_dump leaves the owner out: a role
-- that does not exist in a restored database keeps no row from being restored.
create table @alerts@ (
    id           uuid        primary key default gen_random_uuid() references @subscriptions@ (id) on delete cascade,
    consumer_id  uuid        not null references @consumers@ (id),
    rule         jsonb       not null,
    owner_name   text,
    owner        regrole     generated always as (coalesce(@schema@.segmenter_role_named(owner_name), 0::oid::regrole)) stored,
    actual_begin timestamptz not null default now(),
    actual_end   timestamptz not null default 'infinity',
    constraint @:alerts_actual_check@ check (actual_begin <= actual_end)
);
create unique index @:alerts_key@ on @alerts@ (consumer_id, owner, md5(rule::text)) where actual_end = 'infinity';
comment on table @alerts@ is 'the rules of alerts: what is reported of which segments to whom, once when it begins and once when it is over';
comment on column @alerts@.id is 'the rule';
comment on column @alerts@.consumer_id is 'the consumer that gets the alerts';
comment on column @alerts@.rule is 'what is reported: {"on": ["failed", "waiting > 2 hours", …], "segments": "*" or a list of names, "flapping": {"changes": …, "within": …} or false}';
comment on column @alerts@.owner_name is 'the name, when the rule was made, of the role whose segments it covers; null: the role that writes the row';
comment on column @alerts@.owner is 'that role: alerts are about segments whose owner it is a member of; -: there is no role of that name';
comment on column @alerts@.actual_begin is 'when the rule was made';
comment on column @alerts@.actual_end is 'when it was ended; infinity: it is active';

create table @alert_states@ (
    alert_id   uuid          not null references @alerts@ (id) on delete cascade,
    segment_id uuid          not null,
    subject    text          not null,
    segment    text          not null,
    state      text          not null,
    reported       text          not null,
    since      timestamptz   not null,
    changes    timestamptz[] not null default '{}',
    seen       bigint,
    primary key (alert_id, segment_id, subject)
);
comment on table @alert_states@ is 'what is known of each segment that a rule of alerts covers: a row while something is wrong, or was lately, or has to be compared with what comes next';
comment on column @alert_states@.alert_id is 'the rule';
comment on column @alert_states@.segment_id is 'the segment';
comment on column @alert_states@.subject is 'what the state is of: refresh, late, size, definition, or delivery or drift with the id of a subscription';
comment on column @alert_states@.segment is 'the name of the segment';
comment on column @alert_states@.state is 'the state as it was found last: ok, failed, refused, waiting, late, size, delivery, drift';
comment on column @alert_states@.reported is 'the state that was reported last';
comment on column @alert_states@.since is 'since when it is in that state';
comment on column @alert_states@.changes is 'when the state changed lately, as far as that is needed to know that it changes too often';
comment on column @alert_states@.seen is 'size: the number of refreshes that were looked at; definition: the version that was reported';

-- Versions count from 1 for each segment. Names of tables and roles are texts: a dump can be restored where
-- they do not exist.
create table @definitions@ (
    segment_id uuid        not null,
    version    int         not null,
    changed_at timestamptz not null default clock_timestamp(),
    changed_by text,
    changed_as text,
    changed    jsonb       not null,
    definition jsonb,
    primary key (segment_id, version)
);
comment on table @definitions@ is 'the history of definitions: one row for each change of a segment''s row, written by its triggers';
comment on column @definitions@.segment_id is 'the segment';
comment on column @definitions@.version is 'the version, from 1 for each segment';
comment on column @definitions@.changed_at is 'when the row was changed';
comment on column @definitions@.changed_by is 'the role that had logged in (session_user); null: the row is older than its history, which begins with it';
comment on column @definitions@.changed_as is 'the role whose rights it was changed with (current_user); null: as changed_by';
comment on column @definitions@.changed is 'the columns that were changed, each with "old" and "new"; those of the first version have no old value';
comment on column @definitions@.definition is 'the row after the change, times in UTC; null: it was deleted';

-- The key is that of HMAC with SHA-256, as both parts of it are used. Only the owner of the set reads it. In a
-- restored database there are two, of which the first was dumped.
create table @secret@ (
    id        uuid        primary key default gen_random_uuid(),
    made_at   timestamptz not null default clock_timestamp(),
    inner_key bytea       not null,
    outer_key bytea       not null
);
comment on table @secret@ is 'the secret of the set, under which ids of people are hashed that are kept out; the first one made counts';
comment on column @secret@.id is 'the secret';
comment on column @secret@.made_at is 'when it was made';
comment on column @secret@.inner_key is 'the key, padded and combined with the byte 36 (hexadecimal), as HMAC uses it first';
comment on column @secret@.outer_key is 'the key, padded and combined with the byte 5c (hexadecimal), as HMAC uses it last';
insert into @secret@ (inner_key, outer_key)
with made as materialized (
    -- 366 random bits.
    select sha256(string_agg(uuid_send(gen_random_uuid()), '')) as key from generate_series(1, 3)
)
select
    string_agg(set_byte(decode('00', 'hex'), 0, b.value # 54), '' order by b.place),
    string_agg(set_byte(decode('00', 'hex'), 0, b.value # 92), '' order by b.place)
from (
    select g.place, case when g.place < 32 then get_byte(m.key, g.place) else 0 end as value
    from made m
    cross join generate_series(0, 63) g (place)
) b;

-- Rows are not deleted: incremental segments know by the number of readmissions that they must compare all ids.
create table @kept_out@ (
    id         uuid    primary key default gen_random_uuid(),
    hash       bytea,
    owner_name text,
    -- pg_dump leaves it out: a role that does not exist in a restored database keeps no row from being restored.
    owner      regrole generated always as (coalesce(@schema@.segmenter_role_named(owner_name), 0::oid::regrole)) stored,
    kept_at    timestamptz not null default clock_timestamp()
);
create unique index @:kept_out_key@ on @kept_out@ (hash, owner) where hash is not null;
create index @:kept_out_owner_idx@ on @kept_out@ (owner, hash);
comment on table @kept_out@ is 'people who were erased and are kept out: no refresh adds them again. Only the owner of the set reads it';
comment on column @kept_out@.id is 'the row';
comment on column @kept_out@.hash is 'HMAC-SHA-256 of the id under the secret of the set; null: the person was readmitted';
comment on column @kept_out@.owner_name is 'the name, at that time, of the role whose segments the person is kept out of; null: the whole set';
comment on column @kept_out@.kept_at is 'when the person was erased';
comment on column @kept_out@.owner is 'that role; -: the whole set, also where there was no role of that name';

-- Config rows are checked when they are written. The table of a segment is attached to the mart after its
-- row was written.

create trigger segmenter_check before insert or update or delete on @segments@
    for each row execute function @schema@.segmenter_check_segment();
-- Only for columns that concern the table: the other columns can be changed even if the table is not valid.
create trigger segmenter_register after insert or delete or update of name, table_name, actual_end on @segments@
    for each row execute function @schema@.segmenter_register_segment();
create trigger segmenter_exclude after insert
    or update of name, owner, actual_end, exclude, is_suppression, exempt, priority_group, priority on @segments@
    for each row execute function @schema@.segmenter_register_segment('exclusion');
-- Triggers of a row run in the order of their names: the row was checked and registered before.
create trigger segmenter_version after insert or delete on @segments@
    for each row execute function @schema@.segmenter_register_segment('definition');
create trigger segmenter_version_change after update on @segments@
    for each row when (old.* *<> new.*) execute function @schema@.segmenter_register_segment('definition');
create trigger segmenter_notice after insert or update or delete or truncate on @segments@
    for each statement execute function @schema@.segmenter_notice_segments();
create trigger segmenter_check before insert or update or delete on @consumers@
    for each row execute function @schema@.segmenter_check_consumer();
-- Not for columns that a delivery changes: it must work even if the config is no longer valid.
create trigger segmenter_check before insert or delete
    or update of id, consumer_id, segment_id, target, name, params, cron, timezone, actual_begin, actual_end
    on @subscriptions@
    for each row execute function @schema@.segmenter_check_subscription();
-- What deliveries record belongs to the consumer.
create trigger segmenter_check_delivery before update of status, external_id on @subscriptions@
    for each row when (old.status is distinct from new.status or old.external_id is distinct from new.external_id)
    execute function @schema@.segmenter_check_subscription('delivery');
create trigger segmenter_check before insert or update or delete on @alerts@
    for each row execute function @schema@.segmenter_check_alert();
create trigger segmenter_end after delete on @alerts@
    for each row execute function @schema@.segmenter_check_alert();
create trigger segmenter_notice after insert or update or delete or truncate on @alerts@
    for each statement execute function @schema@.segmenter_notice_segments();
create trigger segmenter_notice after insert or update or delete or truncate on @consumers@
    for each statement execute function @schema@.segmenter_notice_segments();
create trigger segmenter_notice after insert or delete or truncate
    or update of consumer_id, segment_id, target, name, params, cron, timezone, actual_begin, actual_end
    on @subscriptions@
    for each statement execute function @schema@.segmenter_notice_segments();
comment on trigger segmenter_check on @segments@ is 'validates the row and sets the owner, and keeps a segment that has subscriptions';
comment on trigger segmenter_register on @segments@ is 'attaches the segment table to the mart, or detaches it when the row is deleted';
comment on trigger segmenter_exclude on @segments@ is 'checks the segments whose members are left out, and the priority';
comment on trigger segmenter_version on @segments@ is 'records the definition as a version';
comment on trigger segmenter_version_change on @segments@ is 'records the definition as a version, where the row is another one';
comment on trigger segmenter_notice on @segments@ is 'notifies the scheduler of the change';
comment on trigger segmenter_check on @consumers@ is 'validates the row, and keeps a consumer that has subscriptions';
comment on trigger segmenter_check on @subscriptions@ is 'validates the row, checks the consumer''s consent, and warns when the audience stays at the consumer';
comment on trigger segmenter_check_delivery on @subscriptions@ is 'keeps the status and the external id from roles that do not act for the consumer';
comment on trigger segmenter_check on @alerts@ is 'validates the rule, checks the consumer''s consent, and keeps the subscription that delivers its alerts';
comment on trigger segmenter_end on @alerts@ is 'deletes that subscription';
comment on trigger segmenter_notice on @alerts@ is 'notifies the scheduler of the change';
comment on trigger segmenter_notice on @consumers@ is 'notifies the scheduler of the change';
comment on trigger segmenter_notice on @subscriptions@ is 'notifies the scheduler of the change';

-- The status view. The policies of the tables apply to its reader.
create view @status@ with (security_invoker = true) as
select
    s.id,
    s.name,
    s.description,
    s.table_name,
    s.context,
    s.refresh_auto,
    s.refresh_params,
    s.refresh_cron,
    coalesce(a.running_since, a.waiting_since, a.started_at, t.started_at) as last_refresh,
    case
        when a.running_since is not null then 'running'
        when a.status is not null then a.status
        when t.refreshes > 0 then 'ok'
    end as last_status,
    case when a.running_since is null then a.message end as last_error,
    due.next_refresh,
    t.coverage,
    t.added,
    t.removed,
    t.changed,
    -- The segment's owner sees the names of its consumers, whatever role these belong to.
    d.consumer as update_consumer,
    u.target as update_target,
    replace(replace(replace(u.name,
        '{{name}}', s.name), '{{consumer}}', coalesce(d.consumer, '')), '{{target}}', u.target
    ) as update_name,
    u.params as update_params,
    u.cron as update_cron,
    -- The column may lag while a refresh or a consumer has the row locked.
    case
        when u.status = 'failed' then u.status
        when d.pending_messages > 0 then 'queued'
        when d.pending_messages = 0 and u.status = 'queued' then 'uploaded'
        else u.status
    end as update_status,
    d.pending_messages,
    d.delivered_at as last_delivery,
    d.last_receipt,
    coalesce(d.last_error, h.error) as delivery_error,
    t.excluded,
    u.id as subscription_id,
    case
        when u.params -> 'paused' = 'true' then 'it is paused'
        when h.held_params = u.params then h.held
    end as update_held,
    case when s.hold_until > now() then s.hold_until end as hold_until
from @segments@ s
left join @state@ t on t.segment_id = s.id
left join @attempts@ a on a.segment_id = s.id
  and a.refreshes = case when t.refreshes is null then 0 else t.refreshes end
left join @schema@.segmenter_due_in('@text:mart@') due on due.segment = s.name
left join @subscriptions@ u on u.segment_id = s.id and u.actual_end = 'infinity'
-- What a consumer answers is for its role to read: the function leaves it out for others. It counts the
-- messages, too: the policy of the outbox would be prepared anew for each subscription.
left join @schema@.segmenter_delivered_in('@text:mart@') d on d.subscription_id = u.id
left join @handovers@ h on h.subscription_id = u.id
where s.actual_end = 'infinity'
union all
-- The figures of other roles' segments, for members of pg_monitor.
select
    f.id,
    f.name,
    null,
    f.table_name,
    null,
    f.refresh_auto,
    null,
    f.refresh_cron,
    f.last_refresh,
    f.last_status,
    null,
    f.next_refresh,
    f.coverage,
    f.added,
    f.removed,
    f.changed,
    f.update_consumer,
    f.update_target,
    f.update_name,
    null,
    f.update_cron,
    f.update_status,
    f.pending_messages,
    f.last_delivery,
    null,
    null,
    f.excluded,
    f.subscription_id,
    null,
    f.hold_until
from @schema@.segmenter_figures_in('@text:mart@') f
order by name, update_consumer, update_target;
comment on view @status@ is 'a row for each active segment and active subscription (one row for a segment without any): the last refresh, the next one, and the messages that wait';
comment on column @status@.id is 'the segment';
comment on column @status@.name is 'the segment''s name';
comment on column @status@.description is 'the description';
comment on column @status@.table_name is 'the segment table';
comment on column @status@.context is 'the related task';
comment on column @status@.refresh_auto is 'whether segmenter_run() refreshes it';
comment on column @status@.refresh_params is 'the refresher';
comment on column @status@.refresh_cron is 'when it is refreshed';
comment on column @status@.last_refresh is 'the last attempt';
comment on column @status@.last_status is 'the status of the last attempt';
comment on column @status@.last_error is 'why it failed or was refused, or which sources it waits for';
comment on column @status@.next_refresh is 'when it is due next (automatic segments with a schedule)';
comment on column @status@.coverage is 'members after the last successful refresh';
comment on column @status@.added is 'members it added';
comment on column @status@.removed is 'members it removed';
comment on column @status@.changed is 'members it changed';
comment on column @status@.update_consumer is 'the consumer';
comment on column @status@.update_target is 'the target system';
comment on column @status@.update_name is 'the name of the audience';
comment on column @status@.update_params is 'what is sent';
comment on column @status@.update_cron is 'when messages become available';
comment on column @status@.update_status is 'the state of the audience: not uploaded, queued, uploaded, failed';
comment on column @status@.pending_messages is 'undelivered messages';
comment on column @status@.last_delivery is 'when a message was last delivered';
comment on column @status@.last_receipt is 'the last receipt of the consumer';
comment on column @status@.delivery_error is 'the error of the last hand-over or delivery';
comment on column @status@.excluded is 'rows that the last refresh left out, because other segments have their members, or the people are kept out';
comment on column @status@.subscription_id is 'the subscription';
comment on column @status@.update_held is 'why changes are held back from the consumer; null: they are not';
comment on column @status@.hold_until is 'until when automatic refreshes rest; null: they do not';

-- The members of now, for people. The policies of the tables apply to its reader. An outer join, and a
-- condition that does not turn it into an inner one: otherwise a planner that expects one active
-- segment reads the mart once for each of them.
create view @current@ with (security_invoker = true) as
select s.name as segment, m.segment_id, m.id, m.hash_email, m.hash_phone, m.actual_begin, m.actual_end, m.processed
from @mart@ m
left join @segments@ s on s.id = m.segment_id
where m.actual_end = 'infinity' and coalesce(s.actual_end, '-infinity') = 'infinity';
comment on view @current@ is 'the current members of the active segments, with the names of these';
comment on column @current@.segment is 'the segment''s name';
comment on column @current@.segment_id is 'the segment';
comment on column @current@.id is 'the member''s key';
comment on column @current@.hash_email is 'hashed e-mail address';
comment on column @current@.hash_phone is 'hashed phone number';
comment on column @current@.actual_begin is 'begin of the period, local time in the zone segmenter.timezone';
comment on column @current@.actual_end is 'infinity: a current member';
comment on column @current@.processed is 'when the row last changed';

-- All privileges are revoked, and safe ones granted: the policies below limit rows to those of roles that the
-- user is a member of.

revoke all on @mart@, @segments@, @consumers@, @subscriptions@,
    @log@, @outbox@, @deliveries@, @handovers@, @withheld@, @reports@, @state@, @attempts@, @definitions@, @secret@, @kept_out@,
    @counts@, @alerts@, @alert_states@, @status@, @current@ from public;
grant select on @mart@, @status@, @current@, @log@, @outbox@, @deliveries@, @handovers@, @reports@, @state@, @attempts@, @definitions@,
    @segments@, @consumers@, @subscriptions@, @alerts@, @alert_states@ to public;
-- By column: LOCK TABLE takes more than ACCESS SHARE only with privileges on the whole table.
grant
    insert (id, name, description, table_name, owner, context, refresh_auto, refresh_params, refresh_cron,
        refresh_timezone, sources, guards, actual_begin, actual_end, exclude, is_suppression, exempt,
        priority_group, priority, retention, hold_until),
    update (id, name, description, table_name, owner, context, refresh_auto, refresh_params, refresh_cron,
        refresh_timezone, sources, guards, actual_begin, actual_end, exclude, is_suppression, exempt,
        priority_group, priority, retention, hold_until)
    on @segments@ to public;
grant
    insert (id, name, description, role, params, actual_begin, actual_end, subscribers),
    update (id, name, description, role, params, actual_begin, actual_end, subscribers)
    on @consumers@ to public;
-- Columns that only the consumer's role may write, and those that it may not, are told apart by a trigger.
grant
    insert (id, consumer_id, segment_id, target, name, external_id, params, cron, timezone, status, actual_begin, actual_end),
    update (id, consumer_id, segment_id, target, name, external_id, params, cron, timezone, status, actual_begin, actual_end)
    on @subscriptions@ to public;
grant
    insert (id, consumer_id, rule, owner_name, actual_begin, actual_end),
    update (id, consumer_id, rule, owner_name, actual_begin, actual_end)
    on @alerts@ to public;

alter table @segments@ enable row level security;
create policy segmenter_member on @segments@
    using (@schema@.segmenter_may_act_as(owner));
comment on policy segmenter_member on @segments@ is 'segments of roles the user is a member of';

alter table @consumers@ enable row level security;
create policy segmenter_member on @consumers@
    using (@schema@.segmenter_may_act_as(role));
comment on policy segmenter_member on @consumers@ is 'consumers of roles the user is a member of';

-- The owner of the segment may change a subscription; the role of the consumer may see it and end it. The
-- trigger keeps the columns apart.
alter table @subscriptions@ enable row level security;
create policy segmenter_member on @subscriptions@
    using (segment_id in (select s.id from @segments@ s));
create policy segmenter_consumer on @subscriptions@ for select
    using (consumer_id in (select c.id from @consumers@ c where @schema@.segmenter_may_act_as(c.role)));
create policy segmenter_end on @subscriptions@ for update
    using (consumer_id in (select c.id from @consumers@ c where @schema@.segmenter_may_act_as(c.role)));
comment on policy segmenter_end on @subscriptions@ is 'subscriptions of consumers that the user is a member of the role of, to end them';
comment on policy segmenter_member on @subscriptions@ is 'subscriptions to segments that the user may see';
comment on policy segmenter_consumer on @subscriptions@ is 'subscriptions of consumers that the user may see';

alter table @mart@ enable row level security;
-- A row counts as a member only if it is in the segment's own table: owners may write anything to other tables.
-- A function, since PostgreSQL would plan a sub-select for each segment table, with the cost of a look-up for
-- each row, and compile it.
create policy segmenter_member on @mart@ for select
    using (@schema@.segmenter_may_see(segment_id, tableoid, '@text:segments@'));
comment on policy segmenter_member on @mart@ is 'members of segments that the user may see';

alter table @log@ enable row level security;
-- With EXISTS, PostgreSQL can look up the segment of one row, or hash all segments for many rows.
create policy segmenter_member on @log@ for select
    using (
        exists (select from @segments@ s where s.id = @log@.segment_id)
        and not (action = 'deliver' and (status = 'failed' or coalesce(params ? 'receipt', false)))
    );
create policy segmenter_consumer on @log@ for select
    using (action = 'deliver' and subscription_id in (
        select u.id
        from @subscriptions@ u
        join @consumers@ c on c.id = u.consumer_id
        where @schema@.segmenter_may_act_as(c.role)
    ));
comment on policy segmenter_member on @log@ is 'entries of segments that the user may see, without the answers of consumers';
comment on policy segmenter_consumer on @log@ is 'deliveries to consumers that the user is a member of the role of';

alter table @outbox@ enable row level security;
create policy segmenter_member on @outbox@ for select
    using (segment_id in (select s.id from @segments@ s));
comment on policy segmenter_member on @outbox@ is 'messages of segments that the user may see';

alter table @deliveries@ enable row level security;
-- Others see them in the status view, without the answers of the consumer.
create policy segmenter_consumer on @deliveries@ for select
    using (subscription_id in (
        select u.id
        from @subscriptions@ u
        join @consumers@ c on c.id = u.consumer_id
        where @schema@.segmenter_may_act_as(c.role)
    ));
comment on policy segmenter_consumer on @deliveries@ is 'deliveries to consumers that the user is a member of the role of';

alter table @reports@ enable row level security;
create policy segmenter_consumer on @reports@ for select
    using (consumer_id in (select c.id from @consumers@ c where @schema@.segmenter_may_act_as(c.role)));
comment on policy segmenter_consumer on @reports@ is 'reports of consumers that the user is a member of the role of';

alter table @handovers@ enable row level security;
create policy segmenter_member on @handovers@ for select
    using (subscription_id in (select s.id from @subscriptions@ s));
comment on policy segmenter_member on @handovers@ is 'hand-overs of subscriptions that the user may see';

alter table @alerts@ enable row level security;
create policy segmenter_member on @alerts@
    using (@schema@.segmenter_may_act_as(owner));
create policy segmenter_consumer on @alerts@ for select
    using (consumer_id in (select c.id from @consumers@ c where @schema@.segmenter_may_act_as(c.role)));
create policy segmenter_end on @alerts@ for update
    using (consumer_id in (select c.id from @consumers@ c where @schema@.segmenter_may_act_as(c.role)));
comment on policy segmenter_member on @alerts@ is 'rules of roles the user is a member of';
comment on policy segmenter_consumer on @alerts@ is 'rules of consumers that the user is a member of the role of';
comment on policy segmenter_end on @alerts@ is 'the same, to end them';

alter table @alert_states@ enable row level security;
create policy segmenter_member on @alert_states@ for select
    using (
        alert_id in (select a.id from @alerts@ a)
        and exists (select from @segments@ s where s.id = @alert_states@.segment_id)
    );
comment on policy segmenter_member on @alert_states@ is 'what is known by rules that the user may see, of segments that the user may see';

-- No role has a privilege on it.
alter table @withheld@ enable row level security;
alter table @counts@ enable row level security;

alter table @state@ enable row level security;
create policy segmenter_member on @state@ for select
    using (exists (select from @segments@ s where s.id = @state@.segment_id));
comment on policy segmenter_member on @state@ is 'states of segments that the user may see';

alter table @attempts@ enable row level security;
create policy segmenter_member on @attempts@ for select
    using (exists (select from @segments@ s where s.id = @attempts@.segment_id));
comment on policy segmenter_member on @attempts@ is 'attempts of segments that the user may see';

alter table @definitions@ enable row level security;
create policy segmenter_member on @definitions@ for select
    using (exists (select from @segments@ s where s.id = @definitions@.segment_id));
comment on policy segmenter_member on @definitions@ is 'definitions of segments that the user may see';

-- Without a policy: only their owner reads them.
alter table @secret@ enable row level security;
alter table @kept_out@ enable row level security;
$set$ $definition$;

-- Consents to subscriptions, what consumers answer, and erasures that name what is left.
create function segmenter_figures_in(cfg_table regclass)
returns table (
    id uuid, name text, table_name regclass, refresh_auto boolean, refresh_cron text,
    last_refresh timestamptz, last_status text, next_refresh timestamptz,
    coverage bigint, added bigint, removed bigint, changed bigint,
    update_consumer text, update_target text, update_name text, update_cron text, update_status text,
    pending_messages bigint, last_delivery timestamptz, excluded bigint,
    subscription_id uuid, hold_until timestamptz
)
stable language c as 'MODULE_PATHNAME', 'segmenter_figures_in_wrapper';
revoke all on function segmenter_figures_in from public;
grant execute on function segmenter_figures_in to public;
create function segmenter_delivered_in(cfg_table regclass)
returns table (
    subscription_id uuid, pending_messages bigint, delivered_at timestamptz, last_receipt jsonb, last_error text,
    consumer text
)
stable language c as 'MODULE_PATHNAME', 'segmenter_delivered_in_wrapper';
revoke all on function segmenter_delivered_in from public;
grant execute on function segmenter_delivered_in to public;
-- The policy of the mart.
create function segmenter_may_see(segment_id uuid, in_table oid, segments regclass) returns boolean
stable parallel safe language c as 'MODULE_PATHNAME', 'segmenter_may_see_wrapper';
comment on function segmenter_may_see(uuid, oid, regclass) is 'whether rows of a segment in a table are members that the current role may see; used by the policy of the mart';
revoke all on function segmenter_may_see from public;
grant execute on function segmenter_may_see to public;
drop function segmenter_subscribe(text, text, text, jsonb);
CREATE FUNCTION "segmenter_subscribe"(
	"consumer" TEXT,
	"segment" TEXT,
	"target" TEXT,
	"params" jsonb DEFAULT '{}',
	"consumer_role" TEXT DEFAULT NULL
) RETURNS uuid
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_subscribe_wrapper';
drop function segmenter_erase(text);
CREATE FUNCTION "segmenter_alert"(
	"consumer" TEXT,
	"rule" jsonb,
	"consumer_role" TEXT DEFAULT NULL
) RETURNS uuid
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_alert_wrapper';
CREATE FUNCTION "segmenter_check_alert"()
	RETURNS TRIGGER
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'segmenter_check_alert_wrapper';
comment on function segmenter_alert(text, jsonb, text) is 'makes a rule of alerts, and returns its id: what goes wrong with segments of the caller is reported to the consumer, once when it begins and once when it is over; consumer_role: the role that it belongs to';
comment on function segmenter_check_alert() is 'trigger: validates a rule of alerts, and keeps the subscription that delivers its alerts';
revoke all on function segmenter_alert, segmenter_check_alert from public;
grant execute on function segmenter_alert, segmenter_check_alert to public;
CREATE FUNCTION "segmenter_erase"(
	"id" TEXT,
	"keep_out" bool DEFAULT false
) RETURNS TABLE (
	"segment" TEXT,
	"rows" bigint,
	"messages" bigint,
	"status" TEXT,
	"detail" TEXT
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_erase_person_wrapper';
CREATE FUNCTION "segmenter_readmit"(
	"id" TEXT
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_readmit_wrapper';
CREATE FUNCTION "segmenter_resume_deliveries"(
	"consumer" TEXT DEFAULT NULL
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_resume_deliveries_wrapper';
revoke all on function segmenter_subscribe, segmenter_erase, segmenter_readmit, segmenter_resume_deliveries from public;
grant execute on function segmenter_subscribe, segmenter_erase, segmenter_readmit, segmenter_resume_deliveries to public;

drop function segmenter_refresh(text, text, boolean, boolean, boolean);
CREATE FUNCTION "segmenter_refresh"(
	"name" TEXT,
	"query" TEXT DEFAULT NULL,
	"dry_run" bool DEFAULT false,
	"force" bool DEFAULT false,
	"full" bool DEFAULT false
) RETURNS TABLE (
	"segment" TEXT,
	"status" TEXT,
	"added" bigint,
	"removed" bigint,
	"changed" bigint,
	"excluded" bigint,
	"coverage" bigint,
	"messages" bigint,
	"elapsed" interval,
	"detail" TEXT
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_refresh_wrapper';
drop function segmenter_run();
CREATE FUNCTION "segmenter_run"(
	"all" bool DEFAULT false
) RETURNS TABLE (
	"segment" TEXT,
	"status" TEXT,
	"added" bigint,
	"removed" bigint,
	"changed" bigint,
	"excluded" bigint,
	"coverage" bigint,
	"messages" bigint,
	"elapsed" interval,
	"detail" TEXT
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_run_due_wrapper';
drop function segmenter_run_plan();
CREATE FUNCTION "segmenter_run_plan"(
	"all" bool DEFAULT false
) RETURNS TABLE (
	"segment_id" uuid,
	"segment" TEXT,
	"cycle" TEXT[],
	"hand_over_only" bool
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_run_plan_due_wrapper';
revoke all on function segmenter_refresh, segmenter_run, segmenter_run_plan from public;
grant execute on function segmenter_refresh, segmenter_run, segmenter_run_plan to public;
CREATE FUNCTION "segmenter_retry"(
	"consumer" TEXT,
	"segment" TEXT,
	"target" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_retry_named_wrapper';
CREATE FUNCTION "segmenter_skip"(
	"consumer" TEXT,
	"segment" TEXT,
	"target" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_skip_named_wrapper';
CREATE FUNCTION "segmenter_resync"(
	"consumer" TEXT,
	"segment" TEXT,
	"target" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_resync_named_wrapper';
CREATE FUNCTION "segmenter_put_segment"(
	"name" TEXT,
	"query" TEXT DEFAULT NULL,
	"refresh_params" jsonb DEFAULT NULL,
	"refresh_cron" TEXT DEFAULT NULL,
	"refresh_timezone" TEXT DEFAULT NULL,
	"table_name" TEXT DEFAULT NULL,
	"history" bool DEFAULT true,
	"description" TEXT DEFAULT NULL,
	"owner" TEXT DEFAULT NULL,
	"sources" jsonb DEFAULT NULL,
	"guards" jsonb DEFAULT NULL,
	"exclude" jsonb DEFAULT NULL,
	"refresh" bool DEFAULT false
) RETURNS TABLE (
	"segment" TEXT,
	"action" TEXT,
	"changed" TEXT[]
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_put_segment_wrapper';
revoke all on function segmenter_put_segment, segmenter_retry(text, text, text), segmenter_skip(text, text, text),
    segmenter_resync(text, text, text)
    from public;
grant execute on function segmenter_put_segment, segmenter_retry(text, text, text), segmenter_skip(text, text, text),
    segmenter_resync(text, text, text)
    to public;

comment on function segmenter_refresh(text, text, boolean, boolean, boolean) is 'refreshes one segment by hand; query: a one-off query instead of the segment''s own; dry_run: only reports what would change; force: ignores the guards; full: compares all ids';
comment on function segmenter_run(boolean) is 'refreshes every segment that is due, or with "all" every automatic one, in one transaction; a segment that reads the table of another one comes after it';
comment on function segmenter_run_plan(boolean) is 'lists what a run would refresh now, in order, and the segments that it would only hand over; used by segmenter_run_each()';
comment on function segmenter_run_step(uuid, text, text[], uuid, boolean) is 'refreshes one segment of a run, or only hands it over, and returns its status; used by segmenter_run_each()';
comment on function segmenter_run_id() is 'returns a new id of a run, a UUID of version 7; used by segmenter_run_each()';
comment on procedure segmenter_run_check() is 'checks that a run may commit its segments: it is called outside of a transaction block and of functions; used by segmenter_run_each()';
comment on procedure segmenter_run_commit(uuid, text, uuid, boolean) is 'commits one segment of a run; a commit that fails is logged as a failure of that segment; used by segmenter_run_each()';
comment on function segmenter_now() is 'the time of the refresh that is going on, the same for all its statements; outside of a refresh now()';
comment on procedure segmenter_run_each(boolean) is 'refreshes every segment that is due, or with "all" every automatic one, each in a transaction of its own';
comment on function segmenter_create_segment(text, text, text, text, boolean) is 'creates a segment table and its config row from a name and a query, and returns the segment''s id; with a cron expression the segment is automatic';
comment on function segmenter_email(text, text) is 'an e-mail address in the form that a platform hashes, or that most of them do; null: it cannot be one';
comment on function segmenter_phone(text, text, text) is 'a phone number with its country code, in the form that a platform hashes, or in E.164; null: it cannot be one';
comment on function segmenter_identifier(text, text, text) is 'another identifier of a person, such as a name or a city, in the form that a platform compares; null: it cannot be one';
comment on function segmenter_hash(text, text) is 'the hash of a text: sha256, sha512, sha1 or md5 in hexadecimal digits, or sha256_base64; null for an empty text';
comment on function segmenter_bucket(text, text, int) is 'the bucket of an id, from 0 to buckets - 1, which splits members into groups: the first eight bytes of sha256(salt || '':'' || id), modulo buckets';
comment on function segmenter_cron_next(text, timestamptz, text) is 'returns the first time of a cron expression after a time, in a time zone; null: there is none';
comment on function segmenter_due(timestamptz) is 'lists when each segment is due, whether it is due at a time, and why';
comment on function segmenter_due_in(regclass, timestamptz) is 'the same for one relation set; used by its status view';
comment on function segmenter_doctor() is 'checks this database and lists findings, with a summary as the last row';
comment on function segmenter_prune() is 'deletes log entries older than segmenter.log_retention, messages delivered longer than segmenter.outbox_retention ago, captured changes that every segment has read, and former members by the retention of their segment; runs do so by themselves';
comment on function segmenter_may_act_as(oid) is 'whether the current role may act as another role; used by the row-level security policies';
comment on function segmenter_message(jsonb, jsonb) is 'builds a message from its head and its members; used where messages are written';
comment on function segmenter_watch(regclass, name) is 'creates statement triggers that capture changes of a table, for segments that watch it';
comment on function segmenter_unwatch(regclass, name) is 'drops the triggers that capture changes of a table';
comment on function segmenter_capture() is 'trigger: captures the ids that a statement has written in a watched table';
comment on function segmenter_subscribe(text, text, text, jsonb, text) is 'subscribes a consumer to a segment for a target system, and returns the subscription''s id; a consumer that does not exist is created; consumer_role: the role that it belongs to';
comment on function segmenter_claim(text, int, interval) is 'leases the next messages of one subscription of a consumer, in order, to the caller';
comment on function segmenter_ack(uuid, bigint, jsonb) is 'acknowledges a claimed message and all before it, with the consumer''s receipt';
comment on function segmenter_nack(uuid, bigint, text, interval) is 'reports that a claimed message could not be processed; it is delivered again later';
comment on function segmenter_retry(uuid) is 'retries a failed subscription at once, and returns the number of waiting messages';
comment on function segmenter_put_segment(text, text, jsonb, text, text, text, boolean, text, text, jsonb, jsonb, jsonb, boolean) is 'creates a segment or alters the one that has the name, adds columns that its query newly gives to its table, and says what was changed; null leaves what is there';
comment on function segmenter_retry(text, text, text) is 'the same for a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_skip(text, text, text) is 'skips the first waiting message of a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_resync(text, text, text) is 'resyncs a subscription by the names of its consumer, its segment and its target';
comment on function segmenter_skip(uuid) is 'skips the first waiting message of a subscription, and returns its id';
comment on function segmenter_resync(uuid) is 'discards the waiting messages of a subscription and sends all members in a replace; called by the consumer it requests that of the segment''s next run';
comment on function segmenter_resume_deliveries(text) is 'has the background workers of a copy of a database deliver to consumers, to one or to all that the caller may act for; returns the number of those that were paused';
comment on function segmenter_erase(text, boolean) is 'erases a person from segments, messages and the log, and has consumers remove the person; reports segments from which the person could not be erased; keep_out: no refresh adds the person again';
comment on function segmenter_readmit(text) is 'has refreshes add a person again who was erased and kept out, and returns whether the person was kept out';
comment on function segmenter_figures_in(regclass) is 'the figures of segments of other roles in one relation set, for members of pg_monitor; used by its status view';
comment on function segmenter_delivered_in(regclass) is 'the state of deliveries in one relation set; used by its status view';
comment on function segmenter_notice_segments() is 'trigger: notifies the scheduler of a change';
comment on function segmenter_check_segment() is 'trigger: validates the row of a segment and sets its owner';
comment on function segmenter_register_segment() is 'trigger: attaches the table of a segment to the mart, or detaches it';
comment on function segmenter_check_consumer() is 'trigger: validates the row of a consumer';
comment on function segmenter_check_subscription() is 'trigger: validates the row of a subscription, and keeps the columns of its two parties apart';
comment on function segmenter_init(text, text) is 'creates a relation set under other names, as tables of the caller';
comment on function segmenter_sets() is 'lists the relation sets: their names, owners and numbers of segments';
comment on function segmenter_drop_set(text, boolean) is 'drops a relation set, unless it has segments or undelivered messages; force: even then';
comment on function segmenter_definition() is 'the SQL that a relation set is created from; used by segmenter_init()';

-- Without an identity PostgreSQL refuses to delete from a published table. A key would cost every writer.
alter table segmenter_changes replica identity full;
comment on table segmenter_changes is 'ids written in watched tables, until every segment that watches them has read them: one row for each statement';
comment on column segmenter_changes.source is 'the table, pg_class.oid';
comment on column segmenter_changes.id_column is 'the column that held the ids';
comment on column segmenter_changes.xid is 'the transaction that wrote them';
comment on column segmenter_changes.ids is 'the ids; null: all ids, since the table was truncated or the column dropped; empty: changes up to this one were pruned';

create table segmenter_change_readers (
    mart       regclass    not null,
    segment_id uuid        not null,
    read_at    timestamptz not null,
    cluster    text        not null,
    sources    oid[]       not null,
    through    xid8        not null,
    primary key (mart, segment_id)
) with (fillfactor = 50);
comment on table segmenter_change_readers is 'how far each segment has read the captured changes: what all of them have read is deleted. It is written by refreshes, in the transaction of each';
comment on column segmenter_change_readers.mart is 'the set, by its mart';
comment on column segmenter_change_readers.segment_id is 'the segment';
comment on column segmenter_change_readers.read_at is 'when it read';
comment on column segmenter_change_readers.cluster is 'the system identifier of the database cluster that the positions belong to';
comment on column segmenter_change_readers.sources is 'the tables that it watches, with their partitions and children, pg_class.oid';
comment on column segmenter_change_readers.through is 'the first transaction whose changes it may not have read';
revoke all on segmenter_change_readers from public;

-- The registry: a version for each set, and a row for each relation.
alter table segmenter_registry rename to segmenter_registry_1;
alter index segmenter_registry_pkey rename to segmenter_registry_1_pkey;
create function segmenter_role_named(name text) returns regrole
language sql immutable strict parallel safe
as $$ select r.oid from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) $1 $$;

-- pg_dump leaves out generated columns: in a restored database the owner is the role of that name.
create table segmenter_registry (
    mart           regclass primary key,
    schema_version int not null,
    owner_name     text,
    owner          regrole generated always as (segmenter_role_named(owner_name)) stored
);
comment on table segmenter_registry is 'the relation sets, one row for each, the extension''s own included';
comment on column segmenter_registry.mart is 'the mart, whose name is the name of the set';
comment on column segmenter_registry.schema_version is 'the version of the definition that its relations have; the library works with a range of versions';
comment on column segmenter_registry.owner_name is 'the name of its owner when it was made or adopted; null: the owner of the extension';
comment on column segmenter_registry.owner is 'its owner: the set works only while all its relations belong to this role; null: there was no role of that name';

create table segmenter_registry_relations (
    mart     regclass not null,
    kind     text     not null,
    relation regclass not null unique,
    name     text     not null,
    relkind  "char"   not null,
    primary key (mart, kind)
);
comment on table segmenter_registry_relations is 'the relations of each set';
comment on column segmenter_registry_relations.mart is 'the set, by its mart';
comment on column segmenter_registry_relations.kind is 'what the relation is: mart, segments, consumers, subscriptions, log, outbox, deliveries, handovers, withheld, reports, state, counts, attempts, alerts, alert_states, definitions, secret, kept_out, status, current';
comment on column segmenter_registry_relations.relation is 'the relation';
comment on column segmenter_registry_relations.name is 'its name when it was made or adopted; a relation that was renamed stays part of the set';
comment on column segmenter_registry_relations.relkind is 'its kind, pg_class.relkind: the set works only while it is of this kind';

create function segmenter_is_whole(mart oid) returns boolean
language sql stable parallel safe
as $$
    select not exists (
        select from @extschema@.segmenter_registry_relations k
        where k.mart operator(pg_catalog.=) $1
          and k.kind operator(pg_catalog.<>) all (array['status', 'current'])
          and not exists (
              select from pg_catalog.pg_class c
              where c.oid operator(pg_catalog.=) k.relation and c.relkind operator(pg_catalog.=) k.relkind
          )
    )
$$;

insert into segmenter_registry (mart, schema_version, owner_name)
select r.mart, 1, case when not exists (
    select from pg_catalog.pg_depend d
    where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
      and d.objid operator(pg_catalog.=) r.mart and d.deptype operator(pg_catalog.=) 'e'::pg_catalog."char"
) then pg_catalog.pg_get_userbyid(m.relowner) end
from segmenter_registry_1 r
join pg_catalog.pg_class m on m.oid operator(pg_catalog.=) r.mart;
insert into segmenter_registry_relations (mart, kind, relation, name, relkind)
select
    r.mart, k.kind, k.relation,
    coalesce(
        pg_catalog.quote_ident(n.nspname) operator(pg_catalog.||) '.' operator(pg_catalog.||) pg_catalog.quote_ident(c.relname),
        k.relation::pg_catalog.text
    ),
    case k.kind when 'status' then 'v' else 'r' end
from segmenter_registry_1 r
join pg_catalog.pg_class m on m.oid operator(pg_catalog.=) r.mart
cross join lateral (
    values
        ('mart', r.mart), ('segments', r.segments), ('consumers', r.consumers), ('subscriptions', r.subscriptions),
        ('log', r.log), ('outbox', r.outbox), ('deliveries', r.deliveries), ('status', r.status)
) k (kind, relation)
left join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) k.relation
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace;
-- This takes it off the list of tables that pg_dump includes.
alter extension segmenter drop table segmenter_registry_1;
drop table segmenter_registry_1;
revoke all on segmenter_registry, segmenter_registry_relations from public;
grant select on segmenter_registry, segmenter_registry_relations to public;
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
comment on function segmenter_role_named(text) is 'the role of a name; used by segmenter_registry and by relation sets';
comment on function segmenter_is_whole(oid) is 'whether every relation of a relation set exists; used by pg_dump';
revoke all on function segmenter_role_named, segmenter_is_whole from public;
grant execute on function segmenter_role_named, segmenter_is_whole to public;

-- The sets: the extension's own, whose relations may have been renamed, and those of segmenter_init().
CREATE FUNCTION "segmenter_migrate_set"(
	"cfg_table" TEXT
) RETURNS bool
VOLATILE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_migrate_set_wrapper';
CREATE FUNCTION "segmenter_migrate_sets"() RETURNS VOID
STRICT VOLATILE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_migrate_sets_wrapper';
CREATE FUNCTION "segmenter_adopt_set"(
	"cfg_table" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_adopt_set_wrapper';
CREATE FUNCTION "segmenter_drop_segment"(
	"name" TEXT,
	"drop_table" bool DEFAULT false
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_drop_segment_wrapper';
CREATE FUNCTION "segmenter_list_lineage"() RETURNS TABLE (
	"segment" TEXT,
	"reads" TEXT,
	"kind" TEXT,
	"via" TEXT
)
STRICT STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_list_lineage_wrapper';
comment on function segmenter_list_lineage() is 'lists what each segment reads; used by segmenter_lineage';
revoke all on function segmenter_list_lineage from public;
grant execute on function segmenter_list_lineage to public;
create view segmenter_lineage as
select l.segment, l.reads, l.kind, l.via
from segmenter_list_lineage() l;
comment on view segmenter_lineage is 'what each active segment reads, in the relation set that the session works on';
comment on column segmenter_lineage.segment is 'the segment';
comment on column segmenter_lineage.reads is 'what it reads: the name of a segment, or the qualified name of a relation or function';
comment on column segmenter_lineage.kind is 'segment, table, view or function';
comment on column segmenter_lineage.via is 'the view or function that names it; null: the segment itself';
revoke all on segmenter_lineage from public;
grant select on segmenter_lineage to public;
-- Members of segments, for people.
create function segmenter_members(name text, at timestamptz default null)
returns table (id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp, actual_end timestamp)
stable language c as 'MODULE_PATHNAME', 'segmenter_members_wrapper';
CREATE FUNCTION "segmenter_overlap"(
	"segments" TEXT[],
	"at" timestamp with time zone DEFAULT NULL
) RETURNS TABLE (
	"segment" TEXT,
	"other" TEXT,
	"members" bigint,
	"other_members" bigint,
	"common" bigint,
	"share" NUMERIC,
	"jaccard" NUMERIC
)
STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_overlap_wrapper';
CREATE FUNCTION "segmenter_venn"(
	"segments" TEXT[],
	"at" timestamp with time zone DEFAULT NULL
) RETURNS TABLE (
	"segments" TEXT[],
	"members" bigint
)
STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_venn_wrapper';
CREATE FUNCTION "segmenter_preview"(
	"query" TEXT
) RETURNS TABLE (
	"members" bigint,
	"without_id" bigint,
	"duplicates" bigint,
	"columns" TEXT[],
	"already" jsonb,
	"elapsed" interval
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_preview_wrapper';
create function segmenter_diff(name text, query text default null)
returns table (operation text, id text, old jsonb, new jsonb)
language c as 'MODULE_PATHNAME', 'segmenter_diff_wrapper';
CREATE FUNCTION "segmenter_explain"(
	"name" TEXT,
	"id" TEXT,
	"at" timestamp with time zone DEFAULT NULL
) RETURNS TABLE (
	"step" TEXT,
	"verdict" TEXT,
	"since" timestamp with time zone,
	"detail" TEXT
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_explain_wrapper';
CREATE FUNCTION "segmenter_timeline"(
	"id" TEXT
) RETURNS TABLE (
	"at" timestamp with time zone,
	"event" TEXT,
	"segment" TEXT,
	"run_id" uuid,
	"reason" TEXT,
	"detail" TEXT
)
STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_timeline_wrapper';
comment on function segmenter_members(text, timestamptz) is 'the members of a segment, now or at a time, read with the rights of the caller';
comment on function segmenter_overlap(text[], timestamptz) is 'how segments overlap, two by two, now or at a time';
comment on function segmenter_venn(text[], timestamptz) is 'divides the members of segments into those that are in exactly the same of them, now or at a time';
comment on function segmenter_preview(text) is 'what a query would give as a segment, and which segments it resembles; it is run with the rights of the caller, read-only';
comment on function segmenter_diff(text, text) is 'who would be added, removed or changed by a refresh now; query: a one-off query instead of the segment''s own';
comment on function segmenter_explain(text, text, timestamptz) is 'why a person is in a segment, or is not: a row for each thing that decides it';
comment on function segmenter_timeline(text) is 'what happened to a person in the segments that the caller may see, with the runs and the reasons';
revoke all on function segmenter_members, segmenter_overlap, segmenter_venn, segmenter_preview, segmenter_diff, segmenter_explain, segmenter_timeline
    from public;
grant execute on function segmenter_members, segmenter_overlap, segmenter_venn, segmenter_preview, segmenter_diff, segmenter_explain, segmenter_timeline
    to public;
-- Audiences and disclosures for people.
create function segmenter_take(consumer text, segment text, target text, changes boolean default false)
returns setof record
language c as 'MODULE_PATHNAME', 'segmenter_take_wrapper';
CREATE FUNCTION "segmenter_disclosures"(
	"id" TEXT
) RETURNS TABLE (
	"consumer" TEXT,
	"target" TEXT,
	"fields" TEXT[],
	"since" timestamp with time zone,
	"until" timestamp with time zone,
	"still_there" bool,
	"complete" bool
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_disclosures_wrapper';
comment on function segmenter_take(text, text, text, boolean) is 'takes an audience as rows, or what has changed of it since the last time, and acknowledges its messages; the column list names the fields';
comment on function segmenter_disclosures(text) is 'to whom a person''s data went, and when, as far as the caller may see the segments';
revoke all on function segmenter_take, segmenter_disclosures from public;
grant execute on function segmenter_take, segmenter_disclosures to public;
-- What is in target systems.
CREATE FUNCTION "segmenter_list_audiences"() RETURNS TABLE (
	"consumer" TEXT,
	"target" TEXT,
	"audience" TEXT,
	"external_id" TEXT,
	"state" TEXT,
	"members" bigint,
	"size" bigint,
	"match_rate" NUMERIC,
	"drift" NUMERIC,
	"reported_at" timestamp with time zone
)
STRICT STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_list_audiences_wrapper';
CREATE FUNCTION "segmenter_report_audiences"(
	"consumer" TEXT,
	"audiences" jsonb
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_report_audiences_wrapper';
comment on function segmenter_list_audiences() is 'lists the audiences of consumers, compared with what these have reported; used by segmenter_audiences';
comment on function segmenter_report_audiences(text, jsonb) is 'records which audiences a consumer has in its target systems, in place of what was reported before; returns their number';
revoke all on function segmenter_list_audiences, segmenter_report_audiences from public;
grant execute on function segmenter_list_audiences, segmenter_report_audiences to public;
create view segmenter_audiences as
select a.consumer, a.target, a.audience, a.external_id, a.state, a.members, a.size, a.match_rate, a.drift, a.reported_at
from segmenter_list_audiences() a;
comment on view segmenter_audiences is 'the audiences of consumers, compared with what these have reported, in the relation set that the session works on';
comment on column segmenter_audiences.consumer is 'the consumer';
comment on column segmenter_audiences.target is 'the target system; null: not reported';
comment on column segmenter_audiences.audience is 'the name of the audience';
comment on column segmenter_audiences.external_id is 'its id in the target system';
comment on column segmenter_audiences.state is 'known: it was reported; missing: it was not, and should be there; foreign: it was, and no subscription has it; unreported: the consumer has not reported since it was handed over';
comment on column segmenter_audiences.members is 'the members that were handed over; null: not known, or the subscription gets events';
comment on column segmenter_audiences.size is 'the members that the consumer reported';
comment on column segmenter_audiences.match_rate is 'the share of the members that the target system could match, as reported, or else size by members';
comment on column segmenter_audiences.drift is 'how far size is from members, as a share of the latter';
comment on column segmenter_audiences.reported_at is 'when the consumer last reported; null: never';
revoke all on segmenter_audiences from public;
grant select on segmenter_audiences to public;

-- What is going on, and refreshes that are cancelled and held.
CREATE FUNCTION "segmenter_cancel"(
	"name" TEXT,
	"hold" interval DEFAULT NULL
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_cancel_wrapper';

CREATE FUNCTION "segmenter_list_progress"() RETURNS TABLE (
	"pid" INT,
	"segment" TEXT,
	"phase" TEXT,
	"rows_received" bigint,
	"rows_before" bigint,
	"rows_written" bigint,
	"messages_written" bigint,
	"started_at" timestamp with time zone,
	"phase_started_at" timestamp with time zone,
	"estimated_fraction" double precision
)
STRICT VOLATILE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_list_progress_wrapper';
comment on function segmenter_list_progress() is 'lists refreshes and deliveries that are going on; used by segmenter_progress';
comment on function segmenter_cancel(text, interval) is 'ends a refresh of a segment that another process is making, and returns whether there was one; hold: how long automatic refreshes rest from now on';
revoke all on function segmenter_list_progress, segmenter_cancel from public;
grant execute on function segmenter_list_progress, segmenter_cancel to public;
create view segmenter_progress as
select
    p.pid, p.segment, p.phase, p.rows_received, p.rows_before, p.rows_written, p.messages_written,
    p.started_at, p.phase_started_at, p.estimated_fraction
from segmenter_list_progress() p;
comment on view segmenter_progress is 'refreshes and deliveries that are going on, in the relation set that the session works on; empty where the library is not preloaded';
comment on column segmenter_progress.pid is 'the process, as in pg_stat_activity';
comment on column segmenter_progress.segment is 'the segment';
comment on column segmenter_progress.phase is 'waiting for lock, checking sources, reading members, comparing, applying, handing over, delivering';
comment on column segmenter_progress.rows_received is 'rows that the refresher has returned';
comment on column segmenter_progress.rows_before is 'members of the segment that were read, or are known to be there, before the refresh';
comment on column segmenter_progress.rows_written is 'members that were added, removed or changed';
comment on column segmenter_progress.messages_written is 'messages that were written; by a delivery: that were delivered, or tried';
comment on column segmenter_progress.started_at is 'when the refresh or the delivery began';
comment on column segmenter_progress.phase_started_at is 'when the phase began; of a delivery: the message';
comment on column segmenter_progress.estimated_fraction is 'how much of the rows is done, from 0 to 1, by what the planner expects of the query; null: nothing is expected yet';
revoke all on segmenter_progress from public;
grant select on segmenter_progress to public;
-- The history of definitions.
CREATE FUNCTION "segmenter_restore_definition"(
	"name" TEXT,
	"version" INT
) RETURNS INT

LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_restore_definition_wrapper';
comment on function segmenter_restore_definition(text, int) is 'makes the row of a segment what it was in a version of its definition, and returns the version that it has now';
revoke all on function segmenter_restore_definition from public;
grant execute on function segmenter_restore_definition to public;
comment on function segmenter_adopt_set(text) is 'makes the owner of all relations of a relation set its owner, after they were given to another role';
comment on function segmenter_drop_segment(text, boolean) is 'ends the subscriptions of a segment and deletes its row; drop_table: its table, too';
revoke all on function segmenter_adopt_set, segmenter_drop_segment from public;
grant execute on function segmenter_adopt_set, segmenter_drop_segment to public;
comment on function segmenter_migrate_set(text) is 'migrates a relation set that the update of the extension could not migrate';
comment on function segmenter_migrate_sets() is 'migrates all relation sets; used by the scripts that update the extension';
revoke all on function segmenter_migrate_set, segmenter_migrate_sets from public;
grant execute on function segmenter_migrate_set to public;
select segmenter_migrate_sets();
do $dump$
declare
    added pg_catalog.regclass;
begin
    for added in
        select k.relation
        from @extschema@.segmenter_registry_relations k
        join pg_catalog.pg_depend d on d.objid operator(pg_catalog.=) k.mart::pg_catalog.oid
        where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
          and d.deptype operator(pg_catalog.=) 'e'::pg_catalog."char"
          and k.kind operator(pg_catalog.=) any (array['handovers', 'withheld', 'reports', 'state', 'counts', 'attempts', 'alerts', 'alert_states', 'definitions', 'secret', 'kept_out'])
    loop
        perform pg_catalog.pg_extension_config_dump(added, '');
    end loop;
end
$dump$;

-- Connections to platforms.
create table segmenter_connectors (
    name        text    primary key,
    description text,
    spec        jsonb   not null,
    is_builtin  boolean not null default false,
    constraint segmenter_connectors_name_check check (name operator(pg_catalog.<>) '')
);
comment on table segmenter_connectors is 'the connectors: how ad platforms and other systems are reached. A foreign server names one in its option "connector"';
comment on column segmenter_connectors.name is 'the name';
comment on column segmenter_connectors.description is 'a description for people';
comment on column segmenter_connectors.spec is 'which options, secrets, requests and answers the platform has: docs/connectors.md';
comment on column segmenter_connectors.is_builtin is 'true: it comes with Segmenter, and is renewed with each version';

create table segmenter_requests (
    mapping      oid         not null,
    requested_at timestamptz not null,
    time_limit   interval
);
create index segmenter_requests_idx on segmenter_requests (mapping, requested_at);
-- Without an identity PostgreSQL refuses to delete from a published table.
alter table segmenter_requests replica identity full;
comment on table segmenter_requests is 'requests of the last day, of connectors whose platform limits them';
comment on column segmenter_requests.mapping is 'the user mapping they were made with, pg_user_mapping.oid';
comment on column segmenter_requests.requested_at is 'when a request ended: the platform got it before; of one that goes on, when its time limit ends';
comment on column segmenter_requests.time_limit is 'the time limit of a request that goes on; null: it has ended';
create function segmenter_render(subscription uuid)
returns table (message_id bigint, step text, method text, url text, headers jsonb, body text)
stable language c as 'MODULE_PATHNAME', 'segmenter_render_wrapper';
create function segmenter_http_validator(options text[], catalog oid) returns void
language c as 'MODULE_PATHNAME', 'segmenter_http_validator_wrapper';
CREATE FUNCTION "segmenter_builtin_connectors"() RETURNS TABLE (
	"name" TEXT,
	"description" TEXT,
	"spec" jsonb
)
IMMUTABLE STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_builtin_connectors_wrapper';
CREATE FUNCTION "segmenter_check_connector"()
	RETURNS TRIGGER
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'segmenter_check_connector_wrapper';
-- Foreign servers of this wrapper are connections to platforms, and user mappings hold their secrets.
create foreign data wrapper segmenter_http no handler validator segmenter_http_validator;
comment on foreign data wrapper segmenter_http is 'connections to which messages are sent by HTTP';

insert into segmenter_connectors (name, description, spec, is_builtin)
select b.name, b.description, b.spec, true from segmenter_builtin_connectors() b;

create trigger segmenter_check before insert or update or delete on segmenter_connectors
    for each row execute function segmenter_check_connector();
comment on trigger segmenter_check on segmenter_connectors is 'checks the spec of a connector, and that built-in ones and those in use stay';
create trigger segmenter_keep before truncate on segmenter_connectors
    for each statement execute function segmenter_check_connector();
comment on trigger segmenter_keep on segmenter_connectors is 'keeps built-in connectors from TRUNCATE';
comment on function segmenter_render(uuid) is 'the requests that the waiting messages of a subscription would make, with secrets masked; nothing is sent';
comment on function segmenter_http_validator(text[], oid) is 'checks the options of foreign servers and user mappings of segmenter_http';
comment on function segmenter_builtin_connectors() is 'the connectors that come with Segmenter; used by the scripts of the extension';
comment on function segmenter_check_connector() is 'trigger: checks the spec of a connector';
select pg_catalog.pg_extension_config_dump('segmenter_connectors', 'where not is_builtin');
revoke all on segmenter_connectors, segmenter_requests from public;
grant select on segmenter_connectors to public;
revoke all on function segmenter_render, segmenter_http_validator, segmenter_builtin_connectors, segmenter_check_connector
    from public;
grant execute on function segmenter_render, segmenter_http_validator to public;

-- Cumulative figures.
CREATE FUNCTION "segmenter_list_stat"() RETURNS TABLE (
	"segment" TEXT,
	"ok" bigint,
	"failed" bigint,
	"refused" bigint,
	"waiting" bigint,
	"skipped" bigint,
	"rows_received" bigint,
	"added" bigint,
	"removed" bigint,
	"changed" bigint,
	"excluded" bigint,
	"total_elapsed" interval,
	"mean_elapsed" interval,
	"last_elapsed" interval,
	"messages_written" bigint,
	"failures_in_a_row" bigint,
	"staleness" interval,
	"stats_reset" timestamp with time zone
)
STRICT STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_list_stat_wrapper';
CREATE FUNCTION "segmenter_list_stat_subscriptions"() RETURNS TABLE (
	"consumer" TEXT,
	"segment" TEXT,
	"target" TEXT,
	"messages_written" bigint,
	"messages_delivered" bigint,
	"members_handed_over" bigint,
	"attempts" bigint,
	"failed" bigint,
	"failures_in_a_row" bigint,
	"lag" interval,
	"stats_reset" timestamp with time zone
)
STRICT STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_list_stat_subscriptions_wrapper';
CREATE FUNCTION "segmenter_stat_reset"("name" TEXT DEFAULT NULL) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_stat_reset_wrapper';
CREATE FUNCTION "segmenter_metrics"() RETURNS TEXT
STRICT STABLE
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_metrics_wrapper';
comment on function segmenter_list_stat() is 'the rows of the view segmenter_stat';
comment on function segmenter_list_stat_subscriptions() is 'the rows of the view segmenter_stat_subscriptions';
comment on function segmenter_stat_reset(text) is 'sets the figures of a segment and its subscriptions to 0, or those of all segments that the caller may act for';
comment on function segmenter_metrics() is 'the figures of segments and subscriptions in the text format of Prometheus';
create view segmenter_stat as
select
    n.segment, n.ok, n.failed, n.refused, n.waiting, n.skipped, n.rows_received, n.added, n.removed, n.changed, n.excluded,
    n.total_elapsed, n.mean_elapsed, n.last_elapsed, n.messages_written, n.failures_in_a_row, n.staleness, n.stats_reset
from segmenter_list_stat() n;
comment on view segmenter_stat is 'cumulative figures of the active segments, in the relation set that the session works on';
comment on column segmenter_stat.segment is 'the segment';
comment on column segmenter_stat.ok is 'refreshes that succeeded';
comment on column segmenter_stat.failed is 'refreshes that failed, or were interrupted';
comment on column segmenter_stat.refused is 'refreshes that a guard refused';
comment on column segmenter_stat.waiting is 'how often the segment began to wait for its sources';
comment on column segmenter_stat.skipped is 'refreshes that were skipped, because the segment was busy';
comment on column segmenter_stat.rows_received is 'rows that the refresher returned, in refreshes that succeeded';
comment on column segmenter_stat.added is 'members that were added';
comment on column segmenter_stat.removed is 'members that were removed, by refreshes and by lists that gained them';
comment on column segmenter_stat.changed is 'members that were changed';
comment on column segmenter_stat.excluded is 'rows that were left out, because other segments have their members, or the people are kept out';
comment on column segmenter_stat.total_elapsed is 'the time of refreshes that succeeded';
comment on column segmenter_stat.mean_elapsed is 'the mean of it; null: there were none';
comment on column segmenter_stat.last_elapsed is 'that of the last one; null: there were none';
comment on column segmenter_stat.messages_written is 'messages that were written for consumers';
comment on column segmenter_stat.failures_in_a_row is 'refreshes that failed since the last one that did not; not reset';
comment on column segmenter_stat.staleness is 'the time since the last refresh began that succeeded; null: none has; not reset';
comment on column segmenter_stat.stats_reset is 'when the figures were last reset; null: never';
create view segmenter_stat_subscriptions as
select
    n.consumer, n.segment, n.target, n.messages_written, n.messages_delivered, n.members_handed_over, n.attempts, n.failed,
    n.failures_in_a_row, n.lag, n.stats_reset
from segmenter_list_stat_subscriptions() n;
comment on view segmenter_stat_subscriptions is 'cumulative figures of the active subscriptions, in the relation set that the session works on';
comment on column segmenter_stat_subscriptions.consumer is 'the consumer';
comment on column segmenter_stat_subscriptions.segment is 'the segment';
comment on column segmenter_stat_subscriptions.target is 'the target system';
comment on column segmenter_stat_subscriptions.messages_written is 'messages that were written for the consumer';
comment on column segmenter_stat_subscriptions.messages_delivered is 'messages that were delivered';
comment on column segmenter_stat_subscriptions.members_handed_over is 'members, or events, in the messages that were written';
comment on column segmenter_stat_subscriptions.attempts is 'attempts to deliver that have ended: acknowledgements and failures';
comment on column segmenter_stat_subscriptions.failed is 'attempts that failed';
comment on column segmenter_stat_subscriptions.failures_in_a_row is 'attempts that failed since the last one that did not, or since an operator cleared the failure; not reset';
comment on column segmenter_stat_subscriptions.lag is 'for how long the first message has been waiting that could be delivered; null: none waits; not reset';
comment on column segmenter_stat_subscriptions.stats_reset is 'when the figures were last reset; null: never';
revoke all on segmenter_stat, segmenter_stat_subscriptions from public;
grant select on segmenter_stat, segmenter_stat_subscriptions to public;
revoke all on function segmenter_list_stat, segmenter_list_stat_subscriptions, segmenter_stat_reset, segmenter_metrics from public;
grant execute on function segmenter_list_stat, segmenter_list_stat_subscriptions, segmenter_stat_reset, segmenter_metrics to public;

-- The report.
CREATE FUNCTION "segmenter_report"(
	"days" INT DEFAULT 30
) RETURNS TEXT
LANGUAGE c
AS 'MODULE_PATHNAME', 'segmenter_report_wrapper';
comment on function segmenter_report(int) is 'a self-contained HTML page about the segments that the caller may see, for the last days';
revoke all on function segmenter_report from public;
grant execute on function segmenter_report to public;

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
