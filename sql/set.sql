-- The definition of a relation set, with placeholders for names: the extension's own set and those of
-- segmenter_init() are created from it. `@segments@` is the name of a relation, `@text:segments@` the same
-- within a string, `@:key@` a name of an object of the set that begins like the others, `@schema@` the
-- extension's schema. It runs with only pg_catalog in the search_path.

create function segmenter_definition() returns text
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
