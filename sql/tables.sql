-- The service relations. Everything is created in the schema of the extension.

create table segmenter (
    segment_id   uuid      not null,
    id           varchar,
    hash_email   varchar,
    hash_phone   varchar,
    actual_begin timestamp not null default now(),
    actual_end   timestamp not null default 'infinity',
    processed    timestamp not null default now(),
    -- Only the segment tables, its inheritance children, hold rows.
    constraint segmenter_holds_no_row check (false) no inherit
);
comment on table segmenter is 'the mart: the members of every segment, read through the segment tables that inherit it; holds no row itself';
comment on column segmenter.segment_id is 'the segment, segmenter_segments.id';
comment on column segmenter.id is 'the member''s key, unique among a segment''s actual members';
comment on column segmenter.hash_email is 'hashed e-mail address';
comment on column segmenter.hash_phone is 'hashed phone number';
comment on column segmenter.actual_begin is 'since when the row holds, local time in the zone segmenter.timezone';
comment on column segmenter.actual_end is 'until when the row held, exclusive; infinity: still a member';
comment on column segmenter.processed is 'when the row last changed';

create table segmenter_segments (
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
    constraint segmenter_segments_name_check check (name <> ''),
    constraint segmenter_segments_actual_check check (actual_begin <= actual_end)
);
create unique index segmenter_segments_name_key on segmenter_segments (name) where actual_end = 'infinity';
create index segmenter_segments_table_idx on segmenter_segments (table_name, name);
comment on table segmenter_segments is 'what a segment is, who owns it, and how and when it is refreshed; a row is actual while actual_end is infinity';
comment on column segmenter_segments.id is 'the segment';
comment on column segmenter_segments.name is 'the name, unique among actual segments';
comment on column segmenter_segments.description is 'what the segment means, for people';
comment on column segmenter_segments.table_name is 'the segment table that holds the members';
comment on column segmenter_segments.owner is 'the role whose rights the segment''s SQL runs with';
comment on column segmenter_segments.context is 'the related task';
comment on column segmenter_segments.refresh_auto is 'true: refreshed by segmenter_run(); false: by hand only';
comment on column segmenter_segments.refresh_params is 'the refresher: {"query": {"sql": …}}, {"procedure": {"sql": "call …()"}}, {"incremental": {"changed": … or "watch": […], "sql": …, "full_cron": …}}, or {} for a segment that is loaded by hand';
comment on column segmenter_segments.refresh_cron is 'when it is refreshed, as a cron expression; null: at every run';
comment on column segmenter_segments.refresh_timezone is 'the time zone of refresh_cron; null: segmenter.timezone';
comment on column segmenter_segments.sources is 'what has to be loaded before a refresh';
comment on column segmenter_segments.guards is 'limits that a refresh has to keep to: min_members, max_members, max_added, max_removed, max_change, allow_empty';
comment on column segmenter_segments.actual_begin is 'since when the segment exists';
comment on column segmenter_segments.actual_end is 'when it was retired; infinity: it is actual';

create table segmenter_consumers (
    id           uuid        primary key default gen_random_uuid(),
    name         text        not null,
    description  text,
    role         regrole,
    params       jsonb       not null default '{}',
    actual_begin timestamptz not null default now(),
    actual_end   timestamptz not null default 'infinity',
    constraint segmenter_consumers_name_check check (name <> ''),
    constraint segmenter_consumers_actual_check check (actual_begin <= actual_end)
);
create unique index segmenter_consumers_name_key on segmenter_consumers (name) where actual_end = 'infinity';
comment on table segmenter_consumers is 'the external systems and people that receive segments';
comment on column segmenter_consumers.id is 'the consumer';
comment on column segmenter_consumers.name is 'the name, unique among actual consumers';
comment on column segmenter_consumers.description is 'what the consumer is, for people';
comment on column segmenter_consumers.role is 'the role that may claim and acknowledge; null: only the extension''s owner and superusers';
comment on column segmenter_consumers.params is 'how it is served: updater ("pull", {"function": …}, {"http": …}), max_attempts';
comment on column segmenter_consumers.actual_begin is 'since when the consumer exists';
comment on column segmenter_consumers.actual_end is 'when it was retired; infinity: it is actual';

create table segmenter_subscriptions (
    id           uuid        primary key default gen_random_uuid(),
    consumer_id  uuid        not null references segmenter_consumers (id),
    segment_id   uuid        not null references segmenter_segments (id),
    target       text        not null,
    name         text        not null default '{{name}}',
    params       jsonb       not null default '{}',
    cron         text,
    timezone     text,
    status       text        not null default 'not uploaded',
    external_id  text,
    actual_begin timestamptz not null default now(),
    actual_end   timestamptz not null default 'infinity',
    constraint segmenter_subscriptions_status_check check (status in ('not uploaded', 'queued', 'uploaded', 'failed')),
    constraint segmenter_subscriptions_actual_check check (actual_begin <= actual_end)
);
create unique index segmenter_subscriptions_key on segmenter_subscriptions (consumer_id, segment_id, target) where actual_end = 'infinity';
create index segmenter_subscriptions_segment_idx on segmenter_subscriptions (segment_id);
comment on table segmenter_subscriptions is 'one consumer following one segment, for one target system';
comment on column segmenter_subscriptions.id is 'the subscription';
comment on column segmenter_subscriptions.consumer_id is 'who receives';
comment on column segmenter_subscriptions.segment_id is 'what is received';
comment on column segmenter_subscriptions.target is 'the target system';
comment on column segmenter_subscriptions.name is 'the audience''s name; {{name}}, {{consumer}} and {{target}} are replaced';
comment on column segmenter_subscriptions.params is 'how it is handed over: mode, batch_size, fields';
comment on column segmenter_subscriptions.cron is 'when messages may be handed over, as a cron expression; null: at once';
comment on column segmenter_subscriptions.timezone is 'the time zone of cron; null: segmenter.timezone';
comment on column segmenter_subscriptions.status is 'the audience: not uploaded, queued, uploaded, failed';
comment on column segmenter_subscriptions.external_id is 'the audience''s id on the consumer''s side';
comment on column segmenter_subscriptions.actual_begin is 'since when the subscription exists';
comment on column segmenter_subscriptions.actual_end is 'when it was ended; infinity: it is actual';

create table segmenter_log (
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
    constraint segmenter_log_status_check check (status in ('running', 'ok', 'skipped', 'waiting', 'refused', 'failed', 'interrupted'))
);
create index segmenter_log_segment_idx on segmenter_log (segment_id, id);
-- A segment's last attempts, past whatever else there is of it: many deliveries, say.
create index segmenter_log_refresh_idx on segmenter_log (segment_id, id)
    where action = 'refresh' and (params @> '{"attempted": false}') is not true;
create index segmenter_log_subscription_idx on segmenter_log (subscription_id, action, id) where subscription_id is not null;
create index segmenter_log_receipt_idx on segmenter_log (subscription_id, id)
    where action = 'deliver' and status = 'ok' and params ? 'receipt';
create index segmenter_log_processed_idx on segmenter_log (processed);
comment on table segmenter_log is 'what happened, append-only';
comment on column segmenter_log.id is 'the entry, in the order of writing';
comment on column segmenter_log.processed is 'when it began';
comment on column segmenter_log.run_id is 'the run it belongs to';
comment on column segmenter_log.action is 'what was done: refresh, hand over, deliver, erase';
comment on column segmenter_log.status is 'how it ended: running, ok, skipped, waiting, refused, failed, interrupted';
comment on column segmenter_log.segment_id is 'the segment, null where it was not found';
comment on column segmenter_log.segment_name is 'the segment''s name at that time';
comment on column segmenter_log.subscription_id is 'the subscription';
comment on column segmenter_log.target is 'the subscription''s target system';
comment on column segmenter_log.num_received is 'rows that the refresher gave, or that the consumer received';
comment on column segmenter_log.num_invalid is 'rows among them without a key, or that the consumer refused';
comment on column segmenter_log.added is 'members added (where refused: that would have been), or handed over to be added';
comment on column segmenter_log.removed is 'members removed (where refused: that would have been), or handed over to be removed';
comment on column segmenter_log.changed is 'members changed (where refused: that would have been)';
comment on column segmenter_log.coverage is 'actual members afterwards (where refused: that there would have been), or that the consumer counts';
comment on column segmenter_log.elapsed is 'how long it took';
comment on column segmenter_log.message is 'what a person should know of it';
comment on column segmenter_log.error is 'sqlstate, message, detail, hint, context';
comment on column segmenter_log.params is 'what it was done with';

create table segmenter_outbox (
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
    constraint segmenter_outbox_operation_check check (operation in ('create', 'add', 'remove', 'replace', 'delete'))
);
-- With the segment, which says who may count them.
create index segmenter_outbox_subscription_idx on segmenter_outbox (subscription_id, id) include (segment_id);
-- Compressing hashes takes longer than writing them.
alter table segmenter_outbox alter payload set storage external;
comment on table segmenter_outbox is 'the messages for consumers, insert-only: one row is one message';
comment on column segmenter_outbox.id is 'the message; within a subscription the order of handing over';
comment on column segmenter_outbox.created_at is 'when it was written';
comment on column segmenter_outbox.available_at is 'from when it may be handed over';
comment on column segmenter_outbox.consumer_id is 'for whom';
comment on column segmenter_outbox.subscription_id is 'for which subscription';
comment on column segmenter_outbox.segment_id is 'of which segment';
comment on column segmenter_outbox.run_id is 'the run that wrote it';
comment on column segmenter_outbox.operation is 'create, add, remove, replace or delete';
comment on column segmenter_outbox.part is 'which part of the operation, from 1';
comment on column segmenter_outbox.parts is 'of how many parts';
comment on column segmenter_outbox.members is 'how many members are in the payload';
comment on column segmenter_outbox.payload is 'the message';

-- Written by triggers, which know its four columns by their place.
create table segmenter_changes (
    source    oid   not null,
    id_column name  not null,
    xid       xid8  not null,
    ids       text[]
);
create index segmenter_changes_idx on segmenter_changes (source, xid);
-- Compressing ids takes longer than writing them.
alter table segmenter_changes alter ids set storage external;
comment on table segmenter_changes is 'ids written in watched tables, until every segment that watches them has read them: one row a statement';
comment on column segmenter_changes.source is 'the table, pg_class.oid';
comment on column segmenter_changes.id_column is 'the column that held the ids';
comment on column segmenter_changes.xid is 'the transaction that wrote them';
comment on column segmenter_changes.ids is 'the ids; null: all of them, since the table was truncated, or has no such column any more; none: changes up to this one were pruned';

create table segmenter_deliveries (
    subscription_id   uuid        primary key references segmenter_subscriptions (id) on delete cascade,
    delivered_through bigint      not null default 0,
    lease             uuid,
    leased_until      timestamptz,
    attempts          int         not null default 0,
    next_attempt_at   timestamptz,
    last_error        text,
    delivered_at      timestamptz,
    leased_through    bigint
);
comment on table segmenter_deliveries is 'how far each subscription is delivered: one row a subscription';
comment on column segmenter_deliveries.subscription_id is 'the subscription';
comment on column segmenter_deliveries.delivered_through is 'the last delivered message, segmenter_outbox.id';
comment on column segmenter_deliveries.lease is 'the last claim of messages';
comment on column segmenter_deliveries.leased_until is 'until when it holds them; null: nobody does';
comment on column segmenter_deliveries.attempts is 'how often the next message was claimed';
comment on column segmenter_deliveries.next_attempt_at is 'not to be tried before';
comment on column segmenter_deliveries.last_error is 'why the last attempt failed';
comment on column segmenter_deliveries.delivered_at is 'when a message was last delivered';
comment on column segmenter_deliveries.leased_through is 'the last message that was claimed, segmenter_outbox.id';

-- What pg_dump takes along: the rows of every service relation but the mart,
-- which holds none, and the counters behind the two identity columns.
select pg_catalog.pg_extension_config_dump('segmenter_segments', '');
select pg_catalog.pg_extension_config_dump('segmenter_consumers', '');
select pg_catalog.pg_extension_config_dump('segmenter_subscriptions', '');
select pg_catalog.pg_extension_config_dump('segmenter_log', '');
select pg_catalog.pg_extension_config_dump('segmenter_log_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox', '');
select pg_catalog.pg_extension_config_dump('segmenter_outbox_id_seq', '');
select pg_catalog.pg_extension_config_dump('segmenter_deliveries', '');
