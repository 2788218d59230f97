-- Subscriptions of mode events: what happened to members, in place of members. And the reason in the head of messages.
\i setup/columns.sql
create schema events;
create table events.people (id int primary key, email text, city text, note json);
insert into events.people select g, 'e' || g, case g % 2 when 0 then 'Oslo' else 'Rome' end from generate_series(1, 4) g;
create table events.refused (id int primary key);
create table events.members (:columns, city text, note json);
create unique index on events.members (id) where actual_end = 'infinity';
create table events.listed (:columns, unique (id));
insert into segmenter_segments (name, table_name, guards, refresh_params) values
    ('events', 'events.members', '{"allow_empty": true}', '{"query": {"sql": "select id, email as hash_email, city, note from events.people"}}'),
    ('events refused', 'events.listed', '{"allow_empty": true}', '{"query": {"sql": "select id from events.refused"}}');
update segmenter_segments set exclude = '["events refused"]' where name = 'events';
insert into segmenter_consumers (name) values ('events');
create function events.subscribe(target text, params jsonb) returns void language sql as $$
    insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
    select c.id, s.id, $1, '{"mode": "events", "fields": ["id", "city"]}' || $2 from segmenter_consumers c, segmenter_segments s where c.name = 'events' and s.name = 'events'
$$;
create function events.set(target text, params jsonb) returns void language sql as $$
    update segmenter_subscriptions u set params = jsonb_strip_nulls(u.params || $2) where u.target = $1
$$;
-- The messages since the last look. An event without its time, and without its reason where that is the message's.
create table events.seen (through bigint); insert into events.seen select coalesce(max(id), 0) from segmenter_outbox;
create function events.messages() returns table (target text, operation text, reason text, members text) language plpgsql as $$
begin
    return query select u.target, o.operation, o.payload ->> 'reason', (
        select string_agg((m - 'at' - case when m ->> 'reason' = o.payload ->> 'reason' then 'reason' else '' end)::text, ' ' order by (m ->> 'id')::int, a.place)
        from jsonb_array_elements(o.payload -> 'members') with ordinality a (m, place)
    ) from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
    where o.id > (select s.through from events.seen s) and o.payload -> 'segment' ->> 'name' = 'events' order by u.target, o.id;
    update events.seen set through = coalesce((select max(id) from segmenter_outbox), 0);
end $$;

-- Checked when it is written.
\set VERBOSITY default
select events.subscribe('wrong', '{"first": "loud"}');
select events.subscribe('wrong', '{"reasons": ["data", "excluded"]}');
select events.subscribe('wrong', '{"mode": "delta", "first": "all"}');
select events.subscribe('wrong', '{"mode": "replace", "reasons": ["data"]}');
select events.subscribe('wrong', '{"resync_cron": "@daily"}');
select events.subscribe('wrong', '{"min_members": 5}');
select events.subscribe('wrong', '{"fields": {"id": "id", "city": "old"}}');
select events.subscribe('wrong', '{"mode": "event"}');
\set VERBOSITY terse

-- The first hand-over: nothing of those who are members, or that each has entered. With the first refresh and later.
select status from segmenter_refresh('events refused');
select events.subscribe('all', '{"first": "all", "reasons": ["data"]}');
select events.subscribe('delta', '{"mode": "delta"}');
select events.subscribe('silent', '{}');
select events.subscribe('mails', '{"fields": {"hash_email": "mail"}, "reasons": ["data", "one-off"]}');
select events.subscribe('oslo', '{"where": "city = ''Oslo''"}');
select status, messages from segmenter_refresh('events', dry_run => true);
select status, messages from segmenter_refresh('events');
select * from events.messages();
select events.subscribe('oslo all', '{"first": "all", "where": "city = ''Oslo''"}');
select messages from segmenter_run() where segment = 'events';
select * from events.messages();
select messages from segmenter_run() where segment = 'events' and messages > 0;

-- Who has exited comes first, who has entered last. Of a change: the old values of what has changed.
update events.people set city = 'Oslo' where id = 1;
update events.people set city = 'Rome', email = 'new' where id = 2;
update events.people set email = 'e4 new' where id = 4;
delete from events.people where id = 3;
insert into events.people values (5, 'e5', 'Oslo'), (6, 'e6', 'Rome');
select status, messages from segmenter_refresh('events', dry_run => true);
select status, messages from segmenter_refresh('events');
select * from events.messages();
select distinct o.operation, o.payload -> 'timezone' as timezone, array(select jsonb_object_keys(o.payload)) as keys from segmenter_outbox o
where o.payload -> 'segment' ->> 'name' = 'events' order by 1;
select messages from segmenter_refresh('events');
select * from events.messages();

-- A message has a number of events.
select events.set('silent', '{"batch_size": 2}');
update events.people set city = upper(city);
select status, messages from segmenter_refresh('events');
select target, operation, members from events.messages() where target in ('silent', 'oslo');
select u.target, o.part, o.parts, o.members from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
where u.target = 'silent' order by o.id desc limit 3;

-- Another definition, a one-off query, a list, and the clock: the reason says so. Some ask for some reasons only.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, email as hash_email, initcap(city) as city, note from events.people"}}' where name = 'events';
select status, messages from segmenter_refresh('events');
select target, operation, reason, members from events.messages() where target in ('delta', 'mails', 'oslo', 'all');
select status, messages from segmenter_refresh('events', query => 'select id, email as hash_email, ''Bonn'' as city, note from events.people where id <> 6');
select target, operation, reason, members from events.messages() where target in ('all', 'mails', 'oslo');
insert into events.refused values (5);
select segment, status, messages from segmenter_refresh('events refused');
select target, operation, reason, members from events.messages() where target in ('all', 'delta', 'oslo', 'silent');
delete from events.refused;
select status from segmenter_refresh('events refused');
select status, messages from segmenter_refresh('events');
select target, operation, reason, members from events.messages() where target in ('oslo', 'silent');
select target, params -> 'operations' as operations, params -> 'events' as events, reason, added, removed from segmenter_log
where action = 'hand over' and segment_name = 'events' and target in ('delta', 'oslo') order by id desc limit 2;

-- Other fields and another condition say nothing of anyone: later events are of the new audience.
select events.set('oslo', '{"where": "city = ''Rome''", "fields": ["id", "hash_email"]}');
select messages from segmenter_run() where segment = 'events' and messages > 0;
update events.people set city = 'Oslo', email = 'e2' where id = 2;
update events.people set city = 'Rome' where id = 5;
select status from segmenter_refresh('events');
select * from events.messages() where target = 'oslo';
select events.set('oslo', '{"where": "city = ''Oslo''", "fields": ["id", "city"]}');
insert into events.people values (7, 'e7', 'Oslo');
select status from segmenter_refresh('events');
select * from events.messages() where target = 'oslo';

-- From members to events and back: the consumer has been given no members then.
select h.has_events, h.members from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id where u.target = 'delta';
select events.set('delta', '{"mode": "events"}');
select messages from segmenter_run() where segment = 'events' and messages > 0;
select h.has_events, h.members from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id where u.target = 'delta';
delete from events.people where id = 7;
select status from segmenter_refresh('events');
select * from events.messages() where target = 'delta';
select events.set('delta', '{"mode": "delta"}');
select messages from segmenter_run() where segment = 'events' and messages > 0;
select target, operation, reason from events.messages();
select h.has_events, h.members from segmenter_handovers h join segmenter_subscriptions u on u.id = h.subscription_id where u.target = 'delta';

-- Rows that are changed by hand are in no event.
delete from events.members where id = '6';
select status, messages, detail from segmenter_refresh('events');
select * from events.messages();

-- A value that cannot be part of a message: the member is left out, the others have their old values.
select events.set('silent', '{"fields": ["id", "city", "note"], "batch_size": 100}');
update events.people set city = 'Turin' where city = 'Rome';
update events.people set note = '"\u0000"' where id = 1;
update events.people set note = '{"a": [1]}' where id = 2;
insert into events.people values (8, 'e8', 'Rome', '"\u0000"'), (9, 'e9', 'Rome', '[]');
select status, messages from segmenter_refresh('events');
select * from events.messages() where target = 'silent';
update events.people set note = '1' where id in (1, 2);
update events.people set city = 'Bari' where id in (2, 9);
delete from events.people where id = 4;
select status, messages from segmenter_refresh('events');
select * from events.messages() where target = 'silent';
update events.people set note = null;
select status from segmenter_refresh('events');
select * from events.messages() where target = 'silent';

-- Folded, the events are the history of the segment; what has entered and not exited are its members. Those of lists, too.
select events.subscribe('fold', '{"first": "all", "fields": ["id"]}');
select messages from segmenter_run() where segment = 'events';
delete from events.people where id in (1, 2);
insert into events.refused values (5);
select status from segmenter_refresh('events refused');
select status from segmenter_refresh('events');
insert into events.people values (1, 'e1', 'Oslo');
delete from events.refused;
select status from segmenter_refresh('events refused');
select status from segmenter_refresh('events');
with event as (
    select o.id, m ->> 'id' as member, m ->> 'event' as event, (m ->> 'at')::timestamp as at
    from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id, jsonb_array_elements(o.payload -> 'members') m
    where u.target = 'fold'
), period as (
    select e.member, e.at as began, coalesce(lead(e.at) over (partition by e.member order by e.id), 'infinity') as ended, e.event
    from event e
)
select count(*) > 5 as has_periods,
    count(*) filter (where not exists (
        select from events.members m where m.id = p.member and m.actual_begin = p.began and m.actual_end = p.ended
    )) as wrong,
    count(*) filter (where p.ended = 'infinity') - (select count(*) from events.members where actual_end = 'infinity') as difference
from period p where p.event = 'entered';
select at is not null as at, event, reason, detail from segmenter_timeline('5') where event <> 'handed over' or detail like '%fold%' or detail like '%"silent"%';

-- A pause: events wait, and are delivered after it.
select events.set('fold', '{"paused": true}');
update segmenter_deliveries d set delivered_through = (select max(id) from segmenter_outbox) from segmenter_subscriptions u where u.id = d.subscription_id;
delete from events.people where id = 1;
select status from segmenter_refresh('events');
select target, operation from events.messages() where target = 'fold' and members like '%"exited"%';
select count(*) filter (where payload #>> '{audience,target}' = 'fold') as paused, count(*) > 0 as others from segmenter_claim('events', 10, '1 microsecond');
select update_status, update_held from segmenter_status where update_target = 'fold' and name = 'events';
select events.set('fold', '{"paused": null}');
update segmenter_deliveries d set delivered_through = (select max(id) from segmenter_outbox) from segmenter_subscriptions u where u.id = d.subscription_id and u.target <> 'fold';
select payload #>> '{audience,target}' as target, operation, members from segmenter_claim('events', 10, '1 microsecond');

-- Nothing can be sent again.
\set VERBOSITY default
select segmenter_resync('events', 'events', 'fold');
\set VERBOSITY terse

-- Who is erased has exited. The events of the person that wait or are kept are without the person; only the id is said.
insert into events.people values (10, 'secret mail', 'secret city'), (11, 'e11', 'Oslo');
select status from segmenter_refresh('events');
update events.people set city = 'secret place' where id = 10;
select status from segmenter_refresh('events');
select count(*) > 3 as before from segmenter_outbox where payload::text ilike '%secret%';
delete from events.people where id = 10;
select segment, rows, messages from segmenter_erase('10');
select target, operation, reason, members from events.messages();
select count(*) as left from segmenter_outbox where payload::text ilike '%secret%' and not is_erasure;
select u.target, o.is_erasure, m ->> 'at' is not null as at from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id, jsonb_array_elements(o.payload -> 'members') m
where m ->> 'id' = '10' order by 1;

-- The end, and a beginning again. The end of a paused one is delivered, after the events before it.
select events.set('silent', '{"paused": true}');
update segmenter_deliveries d set delivered_through = (select max(id) from segmenter_outbox) from segmenter_subscriptions u where u.id = d.subscription_id and u.target <> 'silent';
select count(*) as claimed from segmenter_claim('events', 100, '1 microsecond');
update segmenter_subscriptions set actual_end = now() where target in ('fold', 'silent');
select messages from segmenter_run() where segment = 'events';
select * from events.messages();
update segmenter_deliveries d set delivered_through = (select max(id) from segmenter_outbox) from segmenter_subscriptions u where u.id = d.subscription_id and u.target <> 'silent';
select count(*) > 1 as several, max(operation) filter (where operation = 'delete') as the_end from segmenter_claim('events', 100, '1 microsecond');
update segmenter_subscriptions set actual_end = 'infinity' where target = 'fold';
select messages from segmenter_run() where segment = 'events';
select target, operation, reason, members from events.messages();
-- A new name.
update segmenter_subscriptions set name = 'journey' where target = 'fold';
select messages from segmenter_run() where segment = 'events';
select * from events.messages();
-- No member is missing where none is given.
select detail from segmenter_doctor() where "check" = 'audiences' and detail like '%"events"%';
-- Many changes at random: events, folded, give what the audience is, and what they say of earlier values is true.
update events.people set note = null;
delete from events.people;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, email as hash_email, city from events.people"}}' where name = 'events';
select status from segmenter_refresh('events');
select events.subscribe('random', '{"first": "all", "fields": {"id": "user", "city": "city", "hash_email": "mail"}, "where": "city <> ''Rome''", "batch_size": 3}');
select messages from segmenter_run() where segment = 'events';
set client_min_messages = error;
do $$
begin
    for round in 1..40 loop
        delete from events.people where random() < 0.2;
        update events.people set city = (array['Oslo', 'Rome', 'Bari'])[1 + (random() * 2)::int] where random() < 0.3;
        update events.people set email = nullif((random() * 3)::int, 0) where random() < 0.3;
        insert into events.people select g, 'new', 'Oslo' from generate_series(1, 20) g where random() < 0.2 on conflict do nothing;
        perform segmenter_refresh('events');
    end loop;
end $$;
reset client_min_messages;
do $$
declare
    audience jsonb := '{}';
    event jsonb;
    last jsonb;
    now jsonb;
    wrong int := 0;
    seen int := 0;
begin
    for event in
        select m from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id,
            jsonb_array_elements(o.payload -> 'members') with ordinality a (m, place)
        where u.target = 'random' order by o.id, a.place
    loop
        seen := seen + 1;
        last := audience -> (event ->> 'id');
        now := jsonb_build_object('user', event -> 'user', 'city', event -> 'city', 'mail', event -> 'mail');
        if event - '{event,at,reason,old,user,city,mail}'::text[] <> jsonb_build_object('id', event -> 'user') then wrong := wrong + 1; end if;
        case event ->> 'event'
            when 'entered' then
                if last is not null or event -> 'old' <> '{}' then wrong := wrong + 1; end if;
                audience := audience || jsonb_build_object(event ->> 'id', now);
            when 'exited' then
                if last is distinct from now or event -> 'old' <> '{}' then wrong := wrong + 1; end if;
                audience := audience - (event ->> 'id');
            when 'changed' then
                if last is distinct from now || (event -> 'old') or event -> 'old' = '{}' or last = now then wrong := wrong + 1; end if;
                audience := audience || jsonb_build_object(event ->> 'id', now);
        end case;
    end loop;
    if wrong > 0 or seen < 100 then raise 'of % events % are wrong', seen, wrong; end if;
    if audience is distinct from (
        select coalesce(jsonb_object_agg(m.id, jsonb_build_object('user', m.id, 'city', m.city, 'mail', m.hash_email)), '{}')
        from events.members m where m.actual_end = 'infinity' and m.city <> 'Rome'
    ) then raise 'the events give another audience: %', audience; end if;
end $$;
\set ECHO none
set client_min_messages = error;
delete from segmenter_subscriptions where segment_id in (select id from segmenter_segments where name = 'events');
update segmenter_segments set exclude = '[]' where name = 'events';
delete from segmenter_segments where name in ('events', 'events refused');
delete from segmenter_log where segment_name in ('events', 'events refused');
delete from segmenter_consumers where name = 'events';
drop schema events cascade;
