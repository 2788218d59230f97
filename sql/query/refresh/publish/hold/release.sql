-- Records that nothing is held back from the subscription $1 any more, and that its consumer has been given
-- what was.
-- runs as: set owner
-- params: subscription uuid
with released as (
    delete from @withheld@ w where w.subscription_id = $1
)
update @handovers@ h
set held = null, held_params = null, withheld = null
where h.subscription_id = $1
