-- Records what was handed over to the subscription $1: whether the consumer has the audience ($2),
-- with the fields $3, whose columns have the types $7, the filter $6 and the name $5. $8: it was handed
-- over as events, so that the consumer has been given no members.
-- $4 is the consumer's request for a resync that this makes, if there is one. FOR KEY SHARE waits for a concurrent deletion of the subscription and then
-- leaves it out, so that the refresh does not fail.
-- runs as: set owner
-- params: subscription uuid, has_audience boolean, fields jsonb, resync_of timestamptz, audience text, filter jsonb, field_types jsonb, has_events boolean
insert into @handovers@ as h (subscription_id, has_audience, fields, resync_of, audience, filter, field_types, has_events)
select s.id, $2, $3, $4, $5, $6, $7, $8
from @subscriptions@ s
where s.id = $1
for key share of s
on conflict (subscription_id) do update set
    has_audience = $2,
    fields = $3,
    filter = $6,
    field_types = $7,
    audience = $5,
    has_events = $8,
    members = case when $8 then null else h.members end,
    left_out = case when $8 then 0 else h.left_out end,
    failed_fields = null,
    failed_filter = null,
    error = null,
    resync_of = coalesce($4, h.resync_of),
    past_fields = case
        when h.fields is null or h.fields = $3
            or exists (select from jsonb_array_elements(h.past_fields) p (past) where p.past = h.fields)
            then h.past_fields
        else h.past_fields || jsonb_build_array(h.fields)
    end
