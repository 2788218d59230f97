-- segmenter_bucket(): which group of a split an id is in.

-- As Python's hashlib has it: int.from_bytes(sha256(f"{salt}:{id}".encode()).digest()[:8], "big") % buckets
select id, salt, buckets, segmenter_bucket(id, salt, buckets) as bucket, segmenter_bucket(id, salt, buckets) = python as as_in_python
from (values
    ('42', '', 10000, 3763),
    ('42', 'spring', 10000, 386),
    ('42', 'spring', 2147483647, 1282517207),
    ('', '', 10000, 4368),
    ('user-1', '', 10000, 821),
    ('наталья ☃', 'весна', 10000, 9837),
    ('7:b', 'a', 997, 310),
    ('b', 'a:7', 997, 310)
) v (id, salt, buckets, python);
select segmenter_bucket('42') = 3763 as by_default, segmenter_bucket('42', buckets => 2) as one_of_two, segmenter_bucket('42', 'x', 1) as one;

-- The same by PostgreSQL's own means, for many ids and splits; the number is unsigned.
with computed as (
    select
        segmenter_bucket(id, salt, buckets) as bucket,
        (select sum(get_byte(hash, 7 - n) * 256::numeric ^ n) from generate_series(0, 7) n) % buckets as expected,
        get_byte(hash, 0) > 127 as has_high_bit
    from generate_series(1, 2000) g,
        lateral (select repeat(chr(1000 + g * 7 % 20000), g % 5) || g as id) i,
        (values ('', 10000), ('spring', 100), ('é', 7), ('spring', 2147483647)) s (salt, buckets),
        lateral (select sha256(convert_to(salt || ':' || id, 'UTF8')) as hash) h
)
select count(*), count(*) filter (where bucket = expected) as equal, bool_or(has_high_bit) as have_a_high_bit, min(bucket) >= 0 as from_zero from computed;

-- Groups own ranges of buckets. A group that grows takes from the one whose range ends where its own begins; nobody else moves.
with ids as (select g::text as id, segmenter_bucket(g::text, 'spring') as bucket from generate_series(1, 10000) g),
groups as (
    select id,
        case when bucket < 4500 then 'a' when bucket < 9000 then 'b' else 'held out' end as before,
        case when bucket < 4500 then 'a' when bucket < 9500 then 'b' else 'held out' end as after
    from ids
)
select before, after, count(*) between share - 100 and share + 100 as as_many_as_expected
from groups
join (values ('a', 'a', 4500), ('b', 'b', 4500), ('held out', 'b', 500), ('held out', 'held out', 500)) e (b, a, share) on (b, a) = (before, after)
group by before, after, share
order by before, after;

-- Null has no bucket, and there must be buckets.
select segmenter_bucket(null) is null as of_null, segmenter_bucket('42', null) is null as without_salt, segmenter_bucket('42', '', null) is null as of_none;
select segmenter_bucket('42', '', 0);
select segmenter_bucket('42', '', -1);
\set VERBOSITY sqlstate
select segmenter_bucket('42', buckets => 0);
\set VERBOSITY default

-- Every role may call it, parallel workers too, and an index can have it.
select provolatile, proparallel, proisstrict, has_function_privilege('public', oid, 'execute') as for_everybody
from pg_proc where proname = 'segmenter_bucket';
create schema bucket;
create table bucket.people as select g::text as id from generate_series(1, 3000) g;
create index on bucket.people (segmenter_bucket(id, 'spring'));
analyze bucket.people;
set enable_seqscan = off;
explain (costs off) select id from bucket.people where segmenter_bucket(id, 'spring') < 30;
select count(*) = (select count(*) from bucket.people where segmenter_bucket(id || '', 'spring') < 30) as same from bucket.people where segmenter_bucket(id, 'spring') < 30;
drop schema bucket cascade;
