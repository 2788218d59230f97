-- An erased person in the filters of subscriptions: what is in force is reported, what was is redacted. And in errors, whose messages go with them.
\set VERBOSITY default
create schema erase_f;
create table erase_f.people (id text primary key, n int not null default 1);
insert into erase_f.people (id) values ('p1'), ('p2'), ('filtered-zyxw');
select segmenter_create_segment('erase f', 'select id, n from erase_f.people', table_name => 'erase_f.members') is not null as is_created;
insert into segmenter_consumers (name) values ('erase f');
create function erase_f.filter(target text, filter text, paused boolean default false) returns void language sql as $$
    insert into segmenter_subscriptions as u (consumer_id, segment_id, target, params)
    select c.id, s.id, $1, jsonb_build_object('fields', '["id"]'::jsonb, 'where', $2, 'paused', $3)
    from segmenter_consumers c, segmenter_segments s where c.name = 'erase f' and s.name = 'erase f'
    on conflict (consumer_id, segment_id, target) where actual_end = 'infinity' do update set params = excluded.params
$$;
select erase_f.filter('stays', $$id <> 'filtered-zyxw'$$), erase_f.filter('other', $$id <> 'filtered-zyxw' and id <> 'p1'$$),
    erase_f.filter('spelt', $$id <> 'filtered' || '-zyxw'$$), erase_f.filter('held', $$id = 'filtered-zyxw'$$, true),
    erase_f.filter('ended', $$id = any ('{p1,filtered-zyxw}')$$), erase_f.filter('another', $$id <> 'p3'$$),
    erase_f.filter('fails', $$id = 'filtered-zyxw' or 1 / (n - 1) > 0$$);
\set VERBOSITY terse
select status, messages from segmenter_refresh('erase f');
select erase_f.filter('other', 'true'), erase_f.filter('spelt', 'true'), erase_f.filter('held', 'true', true), erase_f.filter('fails', $$n > 0$$);
update segmenter_subscriptions set actual_end = clock_timestamp() where target = 'ended';
-- Its message does not name the person, its detail does.
create unique index on erase_f.members (n, id) where n = 2;
create function erase_f.no() returns trigger language plpgsql as $$ begin raise 'no more' using detail = new.id; end $$;
create trigger no before insert on erase_f.members for each row when (new.n = 2) execute function erase_f.no();
insert into erase_f.people values ('p9', 2);
update erase_f.people set n = 2 where id = 'filtered-zyxw';
delete from erase_f.people where id = 'p9';
select status from segmenter_refresh('erase f');
create view erase_f.said as
select u.target, h.filter ->> 'where' as filter, h.failed_filter, h.held_params ->> 'where' as held, (
    select string_agg(coalesce(l.params ->> 'where', '-'), '; ' order by l.id) from segmenter_log l where l.subscription_id = u.id
) as log
from segmenter_subscriptions u left join segmenter_handovers h on h.subscription_id = u.id
where u.consumer_id = (select id from segmenter_consumers where name = 'erase f') order by u.target;
select * from erase_f.said;
select message, error ->> 'message' as error, error ->> 'detail' as detail from segmenter_log where segment_name = 'erase f' and action = 'refresh' and status = 'failed';
delete from erase_f.people where id = 'filtered-zyxw';
\set VERBOSITY default
select segment, rows, status from segmenter_erase('filtered-zyxw');
\set VERBOSITY terse
select * from erase_f.said;
select message, error from segmenter_log where segment_name = 'erase f' and action = 'refresh' and status = 'failed';
-- What is left is what the rows say. Those in force hand over as before; the others were to be handed over again anyway.
select status from segmenter_refresh('erase f');
select target, filter from erase_f.said;
select u.target, l.params -> 'operations' as operations from segmenter_log l join segmenter_subscriptions u on u.id = l.subscription_id
where l.action = 'hand over' and l.run_id = (select run_id from segmenter_log where segment_name = 'erase f' order by id desc limit 1) order by 1;
select erase_f.filter('stays', 'true');
delete from segmenter_subscriptions where target = 'ended';
select messages from segmenter_refresh('erase f');
select * from segmenter_erase('filtered-zyxw');
select count(*) from (select to_jsonb(h)::text as row from segmenter_handovers h union all select to_jsonb(u)::text from segmenter_subscriptions u
    union all select to_jsonb(l)::text from segmenter_log l) r where row like '%zyxw%';

set client_min_messages = error;
delete from segmenter_subscriptions where consumer_id = (select id from segmenter_consumers where name = 'erase f');
delete from segmenter_consumers where name = 'erase f';
delete from segmenter_segments where name = 'erase f';
delete from segmenter_log where segment_name = 'erase f';
delete from segmenter_outbox;
drop schema erase_f cascade;
select segmenter_prune();
