-- What a refresh hands over to whom: which messages, in which order, with which members.
\set VERBOSITY terse
create schema audience;
create table audience.people (id int primary key, email text, phone text, spent numeric, vip boolean default true);
insert into audience.people select g, 'e' || g, 'p' || g, g * 10 from generate_series(1, 5) g;
create view audience.vip_source as select id, email as hash_email, phone as hash_phone, spent from audience.people where vip;
select segmenter_create_segment('vip', 'select * from audience.vip_source', table_name => 'audience.vip') as vip \gset
-- A column that the query does not give.
alter table audience.vip add note text default 'none';

-- Messages since the last look, as a consumer would read them.
create table audience.seen (id bigint);
insert into audience.seen values (0);
create function audience.news(out consumer text, out operation text, out part text, out members int, out "who" text)
returns setof record language sql as $$
    with latest as (update audience.seen set id = coalesce((select max(id) from segmenter_outbox), 0) returning 1),
    messages as (
        select o.*, c.name as consumer
        from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id
        where o.id > (select id from audience.seen)
    )
    select m.consumer, m.operation, m.part || '/' || m.parts, m.members,
        (select string_agg(e::text, ' ' order by e::text) from jsonb_array_elements(m.payload -> 'members') e)
    from messages m, latest
    order by m.consumer collate "C", m.id
$$;

-- Subscriptions of all kinds.
select segmenter_subscribe('a default', 'vip', 'ads') as a \gset
select segmenter_subscribe('b renamed', 'vip', 'ads', '{"fields": {"id": "user", "hash_email": "em", "spent": "value"}}') as b \gset
select segmenter_subscribe('c no id', 'vip', 'ads', '{"fields": ["hash_email"]}') as c \gset
select segmenter_subscribe('d stored', 'vip', 'ads', '{"fields": ["id", "note"]}') as d \gset
select segmenter_subscribe('e small', 'vip', 'ads', '{"batch_size": 2, "fields": ["id"]}') as e \gset
select segmenter_subscribe('f replace', 'vip', 'ads', '{"mode": "replace", "batch_size": 3, "fields": ["id"]}') as f \gset
select name, role, params from segmenter_consumers order by name collate "C" limit 2;
select consumer_id is not null as consumer, target, name, params, status from segmenter_subscriptions where id = :'e';

-- A dry run says how many messages there would be, and writes none.
select status, messages from segmenter_refresh('vip', dry_run => true);
select count(*) from segmenter_outbox where segment_id = :'vip';
select status, added, messages from segmenter_refresh('vip');
select * from audience.news();
select target, status from segmenter_subscriptions where segment_id = :'vip' group by 1, 2;

-- The whole payload.
select jsonb_pretty(payload - 'run_id' #- '{segment,id}' #- '{audience,subscription_id}') as payload,
    payload ->> 'run_id' = run_id::text and payload #>> '{segment,id}' = segment_id::text
        and payload #>> '{audience,subscription_id}' = subscription_id::text as is_whole
from segmenter_outbox where subscription_id = :'b' and operation = 'add';

-- Nothing changed: only who wants everything each time gets messages.
select status, messages from segmenter_refresh('vip');
select * from audience.news();

-- A delta: removals with the old values first; what is not handed over is no change.
update audience.people set email = 'new' where id = 1;
update audience.people set spent = 5 where id = 2;
update audience.vip set note = 'mine' where id = '3';
update audience.people set phone = 'new' where id = 3;
delete from audience.people where id = 4;
insert into audience.people values (6, 'e6', null, null);
select status, messages from segmenter_refresh('vip', dry_run => true);
select added, removed, changed, messages from segmenter_refresh('vip');
select * from audience.news();

-- The log tells of each hand-over, in numbers.
select target, status, added, removed, coverage, message, params ->> 'operations' as operations, params ->> 'messages' as messages
from segmenter_log where action = 'hand over' and subscription_id = :'a' order by id;

-- What is rolled back, fails or is refused hands nothing over.
begin;
delete from audience.people where id = 6;
select status, messages from segmenter_refresh('vip');
rollback;
set client_min_messages = error;
select status, messages from segmenter_refresh('vip', 'select 1 / 0 as id');
select status, messages from segmenter_refresh('vip', 'select 1 as id where false');
reset client_min_messages;
select * from audience.news();

-- At a run: new ones, though their segment is not due, and those that ended.
select segmenter_subscribe('g late', 'vip', 'ads', '{"fields": ["id"]}') as g \gset
update segmenter_subscriptions set actual_end = now() where id in (:'b', :'f');
select segment, status, added, coverage, messages, detail from segmenter_run();
select * from audience.news();
select segment, status, messages from segmenter_run();
-- Revived: it begins anew.
update segmenter_subscriptions set actual_end = 'infinity' where id = :'b';
call segmenter_run_each();
select * from audience.news();
-- Ended and revived before anybody noticed: nothing is missing.
update segmenter_subscriptions set actual_end = now() where id = :'b';
update segmenter_subscriptions set actual_end = 'infinity' where id = :'b';
select segment, status, messages from segmenter_run();

-- Other fields: everything anew. Another size of messages or name: from the next message on.
update segmenter_subscriptions set params = '{"fields": ["hash_phone"]}' where id = :'c';
update segmenter_subscriptions set params = '{"fields": ["id"], "batch_size": 100}', name = '{{consumer}}, {{target}}: {{name}} {{what}}' where id = :'e';
select segment, status, messages from segmenter_run();
select * from audience.news();
update audience.people set vip = false where id < 3;
select messages from segmenter_refresh('vip');
select * from audience.news() where consumer in ('c no id', 'e small');
select payload -> 'audience' ->> 'name' as name from segmenter_outbox where subscription_id = :'e' order by id desc limit 1;

-- A retired consumer, a retired segment.
update segmenter_consumers set actual_end = now() where name = 'a default';
select segment, status, messages from segmenter_run();
select * from audience.news();
update segmenter_segments set actual_end = now() where name = 'vip';
select segment, status, messages from segmenter_run();
select * from audience.news();
select segment, status, messages from segmenter_run();
update segmenter_segments set actual_end = 'infinity' where id = :'vip';
update segmenter_consumers set actual_end = 'infinity' where name = 'a default';
update segmenter_subscriptions set actual_end = now() where id not in (:'a', :'d');
select segment, status, messages from segmenter_run();
select * from audience.news();

-- A column that is handed over is dropped: the others go on, and it is made up for once it is mended.
alter table audience.vip drop column note;
update audience.people set email = 'e5 new' where id = 5;
select status, changed, messages, detail from segmenter_refresh('vip');
select * from audience.news();
select segment, status, messages from segmenter_run();
select target, status, message, error ->> 'sqlstate' as sqlstate, error ->> 'hint' as hint
from segmenter_log where action = 'hand over' and subscription_id = :'d' and status = 'failed';
select update_consumer, update_status, delivery_error from segmenter_status where update_consumer ~ '^[ad] ';
update segmenter_subscriptions set params = '{"fields": ["id", "spent"]}' where id = :'d';
select segment, status, messages from segmenter_run();
select * from audience.news();
select update_consumer, update_status, delivery_error from segmenter_status where update_consumer ~ '^[ad] ';

-- What the table makes of a change itself, a dry run counts too, and changes nothing.
alter table audience.vip add code text generated always as (left(hash_email, 2)) stored;
update segmenter_subscriptions set params = '{"fields": ["id", "code"]}' where id = :'d';
select messages from segmenter_run();
update audience.people set email = 'e3 new' where id = 3;
update audience.people set email = 'other' where id = 5;
select messages from segmenter_refresh('vip', dry_run => true);
select count(*) from audience.vip where hash_email in ('e3 new', 'other');
select messages from segmenter_refresh('vip');
select * from audience.news() where consumer = 'd stored';

-- Messages that may be handed out at set times only.
update segmenter_subscriptions set cron = '0 9 * * *', timezone = 'Asia/Tokyo' where id = :'a';
update audience.people set email = 'e6 new' where id = 6;
select messages from segmenter_refresh('vip');
select distinct available_at at time zone 'Asia/Tokyo' = (now() at time zone 'Asia/Tokyo' - interval '9 hours')::date + 1 + time '09:00' as at_nine
from segmenter_outbox where subscription_id = :'a' and operation = 'remove' and available_at > now();
select count(*) from segmenter_outbox where subscription_id = :'d' and available_at > now();
update segmenter_subscriptions set cron = '0 0 30 2 *' where id = :'a';
update audience.people set email = 'e6 newer' where id = 6;
select messages from segmenter_refresh('vip');
select count(*) from segmenter_outbox where subscription_id = :'a' and available_at = 'infinity';

-- A segment without members.
select segmenter_create_segment('nobody', 'select 1 as id where false', table_name => 'audience.nobody') as nobody \gset
select count(*) from (values ('h', '{}'), ('i', '{"mode": "replace"}')) s (consumer, params), lateral segmenter_subscribe(consumer, 'nobody', 'ads', params::jsonb);
select * from audience.news() where false;
select status, messages from segmenter_refresh('nobody');
select status, messages from segmenter_refresh('nobody');
select * from audience.news();

-- A latest-state table, a procedure, and a hostile name.
create table audience."we;ird"".Name" (segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity', processed timestamp not null default now(),
    "co'l""umn" int default 7, unique (segment_id, id));
insert into segmenter_segments (name, table_name, refresh_params) values ('a "hostile" ''name'';', 'audience."we;ird"".Name"', '{"procedure": {"sql": "call audience.load()"}}');
create procedure audience.load() language plpgsql as $$
begin
    delete from audience."we;ird"".Name" where id = '2';
    insert into audience."we;ird"".Name" (segment_id, id, hash_email)
    select s.id, p.id, p.email from segmenter_segments s, audience.people p where s.name ~ 'hostile'
    on conflict (segment_id, id) do update set hash_email = excluded.hash_email;
end
$$;
select segmenter_subscribe('j "''; {{name}}', 'a "hostile" ''name'';', 'a "t''', '{"fields": {"co''l\"umn": "v''\"\\", "id": "{{name}}"}}') as j \gset
update segmenter_subscriptions set name = '{{consumer}} {{name}} {{target}}' where id = :'j';
select status, added, messages from segmenter_refresh('a "hostile" ''name'';');
select payload -> 'audience' ->> 'name' as name, (select min(m::text) from jsonb_array_elements(payload -> 'members') m) as member from segmenter_outbox where subscription_id = :'j' and operation = 'add';
select update_name from segmenter_status where update_consumer ~ '^j';
update audience."we;ird"".Name" set "co'l""umn" = 8 where id = '6';
select status, changed, removed, messages from segmenter_refresh('a "hostile" ''name'';');

-- What a subscription must not be.
insert into segmenter_subscriptions (consumer_id, segment_id, target, params) select c.id, :'vip', 'x', '{"fields": ["id", "nope"]}' from segmenter_consumers c where name = 'h';
update segmenter_subscriptions set params = '{"fields": []}' where id = :'a';
update segmenter_subscriptions set params = '{"fields": ["actual_begin"]}' where id = :'a';
update segmenter_subscriptions set params = '{"fields": {"id": "x", "hash_email": "x"}}' where id = :'a';
update segmenter_subscriptions set params = '{"batch_size": 1000000}' where id = :'a';
update segmenter_subscriptions set segment_id = :'nobody' where id = :'a';
select segmenter_subscribe('a default', 'vip', 'ads');
select segmenter_subscribe('a default', 'unknown', 'ads');
select segmenter_subscribe('a default', 'vip', null);
select segmenter_subscribe('a default', 'vip', 'other', '{"moed": 1}');
select segmenter_subscribe(repeat('x', 8000), 'vip', 'other');

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_outbox;
delete from segmenter_log;
drop schema audience cascade;
