-- Records the types $2 of the columns of what was handed over to the subscription $1, if they are not known.
-- runs as: set owner
-- params: subscription uuid, field_types jsonb
update @handovers@ h
set field_types = $2
where h.subscription_id = $1 and h.field_types is null
