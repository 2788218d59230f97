-- Writes the messages of one operation for the subscription $4: one for each part, in their order.
-- runs as: set owner
-- params: created_at timestamptz, available_at timestamptz, consumer_id uuid, subscription_id uuid, segment_id uuid, run_id uuid, operation text, parts integer, segment text, audience text, target text, external_id text, is_erasure boolean, reason text, timezone text
-- @parts@: the relation of parts, e.g. (select 1 as part, 0 as members, '[]'::pg_catalog.jsonb as payload)
insert into @outbox@ (
    created_at, available_at, consumer_id, subscription_id, segment_id, run_id, operation,
    part, parts, members, is_erasure, audience, payload
)
select
    $1, $2, $3, $4, $5, $6, $7, p.part, $8, p.members, $13, $10,
    @schema@.segmenter_message(
        pg_catalog.jsonb_build_object(
            'version', 1,
            'operation', $7,
            'reason', $14,
            'run_id', $6,
            'part', p.part,
            'parts', $8,
            'segment', pg_catalog.jsonb_build_object('id', $5, 'name', $9),
            'audience', pg_catalog.jsonb_build_object(
                'subscription_id', $4, 'name', $10, 'target', $11, 'external_id', $12
            )
        ) operator(pg_catalog.||) case
            -- Of events, whose times are local.
            when $15 is null then '{}'
            else pg_catalog.jsonb_build_object('timezone', $15)
        end,
        p.payload
    )
from @parts@ as p
