-- The two parts of the secret of the set, as HMAC uses them: the hash of an id is
-- sha256(outer_key || sha256(inner_key || id)). No row: the set has none.
-- part of: statements about people who are kept out
select s.inner_key, s.outer_key
from @secret@ s
order by s.made_at, s.id
limit 1
