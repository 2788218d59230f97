-- Registers a set whose relations have the names $1.
-- runs as: extension owner
-- params: names text[]
-- row: mart oid
insert into @registry@ (mart, segments, consumers, subscriptions, log, outbox, deliveries, status)
values (
    $1[1]::regclass, $1[2]::regclass, $1[3]::regclass, $1[4]::regclass,
    $1[5]::regclass, $1[6]::regclass, $1[7]::regclass, $1[8]::regclass
)
returning mart::oid
