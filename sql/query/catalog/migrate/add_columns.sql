-- Adds the columns that version 2 of the definition has and version 1 lacks, and the mart's replica
-- identity.
-- runs as: set owner
alter table @mart@ replica identity full;
alter table @outbox@ add column if not exists is_erasure boolean not null default false;
alter table @deliveries@
    add column if not exists last_receipt jsonb,
    add column if not exists marked_through bigint[] not null default '{}',
    add column if not exists marked_at timestamptz[] not null default '{}',
    add column if not exists resync_requested_at timestamptz,
    add column if not exists leased_for interval,
    add column if not exists retry_after interval;
alter table @consumers@ add column if not exists subscribers regrole[] not null default '{}'
