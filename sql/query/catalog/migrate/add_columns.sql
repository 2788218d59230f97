-- Adds the columns that version 2 of the definition has and version 1 lacks, and the mart's replica
-- identity. Consumers have been served from here.
-- runs as: set owner
-- @operation_check@: the constraint of operations, e.g. segmenter_outbox_operation_check
-- @segment_check@: the constraint of subscriptions, e.g. segmenter_subscriptions_segment_check
-- @place@: the cluster and the database, e.g. '1/2'
alter table @mart@ replica identity full;
alter table @outbox@
    add column if not exists is_erasure boolean not null default false,
    add column if not exists audience text,
    drop constraint if exists @operation_check@,
    add constraint @operation_check@ check (operation in ('create', 'add', 'remove', 'replace', 'events', 'delete', 'alert'));
alter table @subscriptions@
    alter column segment_id drop not null,
    add constraint @segment_check@ check (segment_id is not null or target = 'alerts');
alter table @deliveries@
    add column if not exists last_receipt jsonb,
    add column if not exists marked_through bigint[] not null default '{}',
    add column if not exists marked_at timestamptz[] not null default '{}',
    add column if not exists resync_requested_at timestamptz,
    add column if not exists leased_for interval,
    add column if not exists retry_after interval,
    add column if not exists audience text,
    add column if not exists coverage bigint,
    add column if not exists refused_members bigint not null default 0,
    add column if not exists skipped_messages bigint not null default 0,
    add column if not exists skipped_members bigint not null default 0,
    add column if not exists progress jsonb,
    add column if not exists messages_delivered bigint not null default 0,
    add column if not exists attempts_made bigint not null default 0,
    add column if not exists attempts_failed bigint not null default 0,
    add column if not exists failures_in_a_row bigint not null default 0;
alter table @consumers@
    add column if not exists subscribers regrole[] not null default '{}',
    add column if not exists home text default @place@;
alter table @consumers@ alter column home drop default;
alter table @segments@
    add column if not exists exclude jsonb not null default '[]',
    add column if not exists is_suppression boolean not null default false,
    add column if not exists exempt jsonb not null default '{}',
    add column if not exists priority_group text,
    add column if not exists priority int,
    add column if not exists retention jsonb not null default '{}',
    add column if not exists hold_until timestamptz;
alter table @log@
    add column if not exists excluded bigint,
    add column if not exists definition int,
    add column if not exists reason text
