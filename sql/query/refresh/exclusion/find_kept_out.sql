-- What a refresh must know of people who are kept out of the segments of the role $1, or of the whole set:
-- whether there are any, whether the set has the secret under which their ids are hashed, and how many were
-- readmitted.
-- runs as: set owner
-- params: owner oid
-- row: are_any boolean, has_secret boolean, readmissions bigint
select
    exists (select from @kept_out@ k where k.owner = any (array[$1, 0::oid]) and k.hash is not null) as are_any,
    exists (select from @secret@) as has_secret,
    (select count(*) from @kept_out@ k where k.owner = any (array[$1, 0::oid]) and k.hash is null) as readmissions
