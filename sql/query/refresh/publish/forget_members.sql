-- Records that it is not known how many members the subscriptions $1 have: messages ask them to
-- remove some that they may not have had.
-- runs as: set owner
-- params: subscriptions uuid[]
update @handovers@ h set members = null where h.subscription_id = any ($1) and h.members is not null
