-- Records what the consumer of the subscription $1 has of members that have changed while changes are held
-- back. What is recorded of a member already stays: the consumer has that.
-- runs as: set owner
-- params: subscription uuid
insert into @withheld@ (subscription_id, id, member, hash_email, hash_phone)
select $1, k.id, k.member, k.hash_email, k.hash_phone
from segmenter_kept k
on conflict (subscription_id, id) do nothing
