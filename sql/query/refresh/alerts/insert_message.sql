-- Writes the message of an alert, $7, of the rule $2, about the segment $3, whose name is $4, to the consumer $1. The rule
-- may have been deleted since.
-- runs as: set owner
-- params: consumer uuid, alert uuid, segment_id uuid, segment text, run uuid, created_at timestamptz, alert jsonb
insert into @outbox@ (
    created_at, available_at, consumer_id, subscription_id, segment_id, run_id, operation, audience, payload
)
select
    $6, $6, $1, $2, $3, $5, 'alert', 'alerts',
    jsonb_build_object(
        'version', 1,
        'operation', 'alert',
        'reason', null,
        'run_id', $5,
        'part', 1,
        'parts', 1,
        'segment', jsonb_build_object('id', $3, 'name', $4),
        'audience', jsonb_build_object(
            'subscription_id', $2, 'name', 'alerts', 'target', 'alerts', 'external_id', null
        ),
        'members', '[]'::jsonb,
        'alert', $7
    )
from @alerts@ r
where r.id = $2
