-- Members that cannot be part of a message are left out and named; they keep no other member back, and no
-- later change.
\set VERBOSITY terse
create schema left_out;
create table left_out.people (id int primary key, doc json, note text default 'n');
insert into left_out.people values (1, '{"a": 1}'), (2, '{"a": "x\u0000y"}'), (3, '{"a": 3}'), (4, '{"a": "\u0000"}'), (5, '{"a": 5}');
select segmenter_create_segment('docs', 'select id, doc, note from left_out.people', table_name => 'left_out.docs', history => false) as docs \gset
select segmenter_subscribe('a all', 'docs', 'ads', '{"fields": ["id", "doc"]}') as a \gset
select segmenter_subscribe('b ids', 'docs', 'ads', '{"fields": ["id"]}') as b \gset
select segmenter_subscribe('c replace', 'docs', 'ads', '{"fields": ["doc", "note"], "mode": "replace", "batch_size": 2}') as c \gset
create table left_out.seen (id bigint);
insert into left_out.seen values (0);
create function left_out.news(out consumer text, out operation text, out part text, out who text)
returns setof record language sql as $$
    with latest as (update left_out.seen set id = coalesce((select max(id) from segmenter_outbox), 0) returning 1)
    select c.name, m.operation, m.part || '/' || m.parts,
        (select string_agg(e::text, ' ' order by e::text) from jsonb_array_elements(m.payload -> 'members') e)
    from segmenter_outbox m join segmenter_consumers c on c.id = m.consumer_id, latest
    where m.id > (select id from left_out.seen)
    order by c.name collate "C", m.id
$$;
select status, messages, detail from segmenter_refresh('docs');
select * from left_out.news();
select target, status, num_invalid, added, coverage, message from segmenter_log
where action = 'hand over' and subscription_id in (:'a', :'b', :'c') order by message nulls first, added;
select c.name, h.members, h.left_out, h.failed_fields from segmenter_handovers h
join segmenter_subscriptions u on u.id = h.subscription_id join segmenter_consumers c on c.id = u.consumer_id order by c.name;
select detail from segmenter_doctor() where "check" = 'audiences' order by detail;

-- Later changes: others, one that cannot be shown before or after, one that goes.
update left_out.people set doc = '{"a": 10}' where id = 1;
update left_out.people set doc = '{"a": 20}' where id = 2;
update left_out.people set doc = '{"a": "\u0000 again"}' where id = 4;
update left_out.people set doc = '{"a": "\u0000"}' where id = 3;
delete from left_out.people where id = 5;
update left_out.people set note = 'other';
select status, changed, removed, messages, detail from segmenter_refresh('docs');
select * from left_out.news();
select c.name, h.members, h.left_out from segmenter_handovers h
join segmenter_subscriptions u on u.id = h.subscription_id join segmenter_consumers c on c.id = u.consumer_id order by c.name;
delete from left_out.people where id in (3, 4);
select status, removed, messages, detail from segmenter_refresh('docs');
select * from left_out.news();
select c.name, h.members, h.left_out from segmenter_handovers h
join segmenter_subscriptions u on u.id = h.subscription_id join segmenter_consumers c on c.id = u.consumer_id order by c.name;
select status, detail from segmenter_doctor() where "check" = 'audiences';

-- A type whose cast to json fails, and an error that is not one of a value.
create table left_out.mode as select false as is_broken;
grant select on left_out.mode to public;
create type left_out.odd as enum ('1', '13', '14', '15');
create function left_out.to_json(left_out.odd) returns json language plpgsql immutable as $$
begin
    if (select is_broken from left_out.mode) then raise insufficient_privilege; end if;
    if $1 = '13' then raise 'no thirteen'; end if;
    return to_json($1::text::int);
end
$$;
create cast (left_out.odd as json) with function left_out.to_json(left_out.odd);
alter table left_out.docs add odd left_out.odd;
alter table left_out.people add odd left_out.odd default '1';
insert into left_out.people values (13, '{}', 'n', '13'), (14, '{}', 'n', '14');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, odd from left_out.people"}}' where id = :'docs';
select segmenter_subscribe('d odd', 'docs', 'ads', '{"fields": {"id": "i", "odd": "o"}}') as d \gset
select status, messages, detail from segmenter_refresh('docs');
select * from left_out.news() where consumer = 'd odd';
update left_out.mode set is_broken = true;
create role left_out_owner;
grant usage on schema left_out to left_out_owner;
alter table left_out.docs owner to left_out_owner;
insert into left_out.people values (15, '{}', 'n', '15');
set client_min_messages = error;
select status, detail from segmenter_refresh('docs');
reset client_min_messages;
update left_out.mode set is_broken = false;
select status, detail from segmenter_refresh('docs');
select operation, who from left_out.news() where consumer = 'd odd';

-- Large members: a message gets no more of them than it can hold, whatever the batch size is.
create table left_out.parts (id int, part text, number int);
create view left_out.large as select id, repeat(part, number) as email from left_out.parts;
insert into left_out.parts values
    (1, 'small', 1), (2, repeat('a', 10000), 4000), (3, repeat('b', 10000), 4000), (4, repeat('c', 10000), 28000), (5, 'small, too', 1);
select segmenter_create_segment('large', 'select id, email as hash_email from left_out.large', table_name => 'left_out.large_members') is not null;
select segmenter_subscribe('e large', 'large', 'ads', '{"fields": {"id": "id", "hash_email": "em"}}') as e \gset
select status, messages, detail from segmenter_refresh('large');
select operation, part, parts, members, (select string_agg(m ->> 'id', ',' order by m ->> 'id') from jsonb_array_elements(payload -> 'members') m) as ids
from segmenter_outbox where subscription_id = :'e' order by id;
-- One that is close to the limit is in a message, and is named.
insert into left_out.parts values (6, 'later', 1), (7, repeat('d', 10000), 14000);
delete from left_out.parts where id in (1, 4);
select status, added, removed, messages, detail from segmenter_refresh('large');
select operation, members from segmenter_outbox where subscription_id = :'e' order by id desc limit 2;
select members, left_out from segmenter_handovers where subscription_id = :'e';
-- An event whose old values are too large: each of them would fit.
select segmenter_create_segment('twice', 'select id, email as hash_email, email as hash_phone from left_out.large where id > 5',
    table_name => 'left_out.twice') is not null;
select segmenter_subscribe('f events', 'twice', 'ads', '{"mode": "events", "fields": ["id", "hash_email", "hash_phone"]}') as f \gset
select status, messages, detail from segmenter_refresh('twice');
update left_out.parts set part = 'now', number = 1 where id in (6, 7);
select status, changed, messages, detail from segmenter_refresh('twice');
select operation, members, (select string_agg(m::text, ' ') from (select m - 'at' as m from jsonb_array_elements(payload -> 'members') m) e) as who from segmenter_outbox where subscription_id = :'f' order by id;

set client_min_messages = error;
delete from segmenter_subscriptions where id in (:'a', :'b', :'c', :'d', :'e', :'f');
delete from segmenter_consumers where name in ('a all', 'b ids', 'c replace', 'd odd', 'e large', 'f events');
delete from segmenter_segments where name in ('docs', 'large', 'twice');
delete from segmenter_log where segment_name in ('docs', 'large', 'twice');
delete from segmenter_outbox;
drop schema left_out cascade;
drop role left_out_owner;
select segmenter_prune();
