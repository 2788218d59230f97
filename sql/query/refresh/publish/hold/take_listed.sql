-- What the consumer of the subscription $1 has, of what is recorded while changes are held back, of people
-- whom a list has gained or the delta removes. It has nothing of them any more then.
-- runs as: set owner
-- params: subscription uuid
-- row: id text, member text
-- @removed@: a further condition, or nothing, e.g.  or true
with found as materialized (
    select w.id, w.member
    from @withheld@ w
    where w.subscription_id = $1 and (
        w.id in (select l.id from segmenter_listed l)
        or w.hash_email collate "C" in (select l.hash_email from segmenter_listed l)
        or w.hash_phone collate "C" in (select l.hash_phone from segmenter_listed l)@removed@
    )
), taken as (
    update @withheld@ w
    set member = null
    from found f
    where w.subscription_id = $1 and w.id = f.id and w.member is not null
)
select f.id::text, f.member::text
from found f
