-- People who were erased with keep_out: no refresh adds them again, until they are readmitted.
create schema kept;
create table kept.people (id text primary key, email text);
insert into kept.people select 'p' || g, md5('e' || g) from generate_series(1, 5) g;
create function kept.members() returns table (segment text, ids text[]) language sql as $$
    select s.name, array_agg(m.id::text order by m.id) filter (where m.actual_end = 'infinity')
    from segmenter_segments s left join segmenter m on m.segment_id = s.id group by s.name order by s.name
$$;
select count(segmenter_create_segment('kept ' || name, 'select id, email as hash_email from kept.people', table_name => 'kept.' || name))
from unnest('{query,other}'::text[]) name;
create table kept.procedure (segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp not null default localtimestamp, actual_end timestamp not null default 'infinity', processed timestamp not null default localtimestamp);
create unique index on kept.procedure (segment_id, id) where actual_end = 'infinity';
create table kept.latest (like kept.procedure including defaults);
create unique index on kept.latest (segment_id, id);
create procedure kept.load() language sql as $$
    insert into kept.procedure (segment_id, id, hash_email)
    select s.id, p.id, p.email from segmenter_segments s, kept.people p
    where s.name = 'kept procedure' and not exists (select from kept.procedure t where t.id = p.id and t.actual_end = 'infinity')
$$;
create procedure kept.load_latest() language sql as $$
    insert into kept.latest (segment_id, id) select s.id, p.id from segmenter_segments s, kept.people p where s.name = 'kept latest'
    on conflict (id, segment_id) do nothing
$$;
insert into segmenter_segments (name, table_name, refresh_params) values
    ('kept procedure', 'kept.procedure', '{"procedure": {"sql": "call kept.load()"}}'),
    ('kept latest', 'kept.latest', '{"procedure": {"sql": "call kept.load_latest()"}}');
select segmenter_watch('kept.people');
select segmenter_create_segment('kept watching', 'select id from kept.people', table_name => 'kept.watching') is not null as created;
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["kept.people"], "sql": "select p.id from kept.people p join changed c using (id)", "full_cron": "0 0 1 1 *"}}' where name = 'kept watching';
create function kept.refresh() returns table (segment text, status text, added bigint, removed bigint, changed bigint, excluded bigint, coverage bigint, detail text) language sql as $$
    select r.segment, r.status, r.added, r.removed, r.changed, r.excluded, r.coverage, r.detail
    from segmenter_segments s cross join lateral segmenter_refresh(s.name) r where s.name like 'kept %' order by s.name
$$;
select * from kept.refresh();
-- Nobody is kept out yet.
select count(*) from segmenter_kept_out where hash is not null;
select count(*) > 0 as has_secret, bool_and(length(inner_key) = 64 and length(outer_key) = 64) as are_padded from segmenter_secret;

select segment, rows, status from segmenter_erase('p1', keep_out => true) order by segment;
-- What is left is a keyed hash: HMAC as RFC 2104 has it, with the key that the first part is made of.
select k.owner, length(k.hash) as bytes,
    k.hash = sha256(s.outer_key || sha256(s.inner_key || convert_to('p1', 'UTF8'))) as is_hmac,
    bool_and(get_byte(s.inner_key, g) # get_byte(s.outer_key, g) = x'6a'::int) as is_one_key,
    bool_and(g < 32 or get_byte(s.inner_key, g) = x'36'::int) as is_padded
from segmenter_kept_out k cross join (select * from segmenter_secret order by made_at limit 1) s cross join generate_series(0, 63) g
where k.hash is not null group by k.owner, k.hash, s.outer_key, s.inner_key;
select * from kept.members();
-- The sources still have the person.
select * from kept.refresh();
select * from kept.members();
select count(*) from kept.procedure where id = 'p1';
select count(*) from kept.latest where id = 'p1';
select status, excluded, coverage, detail from segmenter_refresh('kept query', full => true);
select status, added, removed, excluded, coverage, detail from segmenter_refresh('kept query', 'select ''p1'' as id union all select ''p2''', dry_run => true);
select status, added, removed, excluded, coverage, detail from segmenter_refresh('kept other', 'select ''p1'' as id');
select status, added, removed, excluded, coverage, detail from segmenter_refresh('kept other', 'select ''p1'' as id union all select ''p2'' union all select ''p6''');
select name, excluded from segmenter_status where name like 'kept %' order by name;
select action, status, excluded, message from segmenter_log where segment_name = 'kept query' and action = 'refresh' order by id desc limit 1;
-- A change of the source: an incremental pass. A full pass.
update kept.people set email = 'new' where id in ('p1', 'p2');
insert into kept.people values ('p7', 'seven');
select status, added, changed, excluded, coverage, detail from segmenter_refresh('kept watching');
select status, added, changed, excluded, coverage, detail from segmenter_refresh('kept watching', full => true);
-- A new segment, and one that is put.
select segmenter_create_segment('kept new', 'select id from kept.people', table_name => 'kept.new') is not null as created;
select status, added, excluded, coverage from segmenter_refresh('kept new');
set client_min_messages = warning;
select action from segmenter_put_segment('kept put', 'select id from kept.people', table_name => 'kept.put', refresh => true);
reset client_min_messages;
select * from kept.members() where segment in ('kept new', 'kept put');
-- A list and kept-out people together.
select segmenter_create_segment('kept list', 'select ''p3'' as id', table_name => 'kept.list') is not null as created;
select status, coverage from segmenter_refresh('kept list');
update segmenter_segments set exclude = '["kept list"]' where name = 'kept procedure';
update segmenter_segments set exclude = '["kept list"]' where name = 'kept put';
select status, removed, excluded, coverage, detail from segmenter_refresh('kept put');
select status, removed, excluded, coverage, detail from segmenter_refresh('kept procedure');
delete from kept.put;
select status, added, excluded, coverage, detail from segmenter_refresh('kept put');

-- Twice is once; nobody of that id is there; an id of any form.
select count(*) from segmenter_erase('p1', keep_out => true);
select count(*) from segmenter_kept_out where hash is not null;
select count(*) from segmenter_erase('ü''"\ 	', true);
select status, added, excluded, coverage from segmenter_refresh('kept new', 'select ''ü''''"\ 	'' as id union all select id from kept.people');
-- Texts are compared exactly.
select status, added, excluded, coverage from segmenter_refresh('kept new', 'select ''P1'' as id union all select ''p1 '' union all select id from kept.people');
select status, removed from segmenter_refresh('kept new');
-- Numbers.
create table kept.numbers (id int);
insert into kept.numbers values (41), (42);
select segmenter_create_segment('kept numbers', 'select id from kept.numbers', table_name => 'kept.by_number') is not null as created;
select status, coverage from segmenter_refresh('kept numbers');
select rows from segmenter_erase('42', keep_out => true);
select status, excluded, coverage from segmenter_refresh('kept numbers');
-- Readmitted.
select segmenter_readmit('p1'), segmenter_readmit('p1') as again, segmenter_readmit('nobody') as nobody;
select status, added, excluded, coverage, detail from segmenter_refresh('kept query');
select status, added, excluded, coverage, detail from segmenter_refresh('kept watching');
select params #>> '{incremental,pass}' as pass, params #>> '{incremental,reason}' as reason from segmenter_log where segment_name = 'kept watching' order by id desc limit 1;
select status, added, excluded, coverage, detail from segmenter_refresh('kept watching');
select params #>> '{incremental,pass}' as pass from segmenter_log where segment_name = 'kept watching' order by id desc limit 1;
select * from kept.members() where segment in ('kept query', 'kept watching');
-- And kept out again.
select segment, rows from segmenter_erase('p1', keep_out => true) where segment = 'kept query';
select status, excluded, coverage from segmenter_refresh('kept query');
select action, status, segment_id, segment_name, message, params - 'role' as params from segmenter_log where action in ('keep out', 'readmit') order by id;
-- Neither the id nor its hash is anywhere but in its place.
select count(*) from segmenter_log l cross join segmenter_kept_out k where (l.segment_name like 'kept %' or l.segment_id is null) and (l::text ~ '\mp1\M' or l::text ~ encode(k.hash, 'hex'));
-- An erasure without it leaves what was kept out before.
select count(*) from segmenter_erase('p1');
select status, excluded, coverage from segmenter_refresh('kept query');

-- Who is put back into a table by hand leaves it with the refresh that notices it, before consumers get all members.
create table kept.regulars as select id, md5(id) as email from kept.people where id in ('p1', 'p2', 'p3');
create function kept.given(subscribed text) returns table (operation text, ids text) language sql as $$
    select o.operation, (select string_agg(m ->> 'id', ',' order by m ->> 'id') from jsonb_array_elements(o.payload -> 'members') m)
    from segmenter_outbox o join segmenter_subscriptions s on s.id = o.subscription_id where s.target = subscribed order by o.id
$$;
select count(segmenter_create_segment('kept by hand ' || kind, 'select id, email as hash_email from kept.regulars', table_name => 'kept.by_hand_' || kind, history => kind = 'history'))
from unnest('{history,latest}'::text[]) kind;
select count(segmenter_subscribe('kept ' || mode, 'kept by hand ' || kind, kind || ' ' || mode, jsonb_build_object('mode', mode, 'paused', mode = 'delta' and kind = 'latest')))
from unnest('{history,latest}'::text[]) kind, unnest('{delta,replace}'::text[]) mode;
create function kept.put_back(who text[] default '{p1}') returns void language sql as $$
    insert into kept.by_hand_history (segment_id, id, hash_email) select s.id, unnest(who), 'old' from segmenter_segments s where s.name = 'kept by hand history';
    insert into kept.by_hand_latest (segment_id, id, hash_email) select s.id, unnest(who), 'old' from segmenter_segments s where s.name = 'kept by hand latest'
    on conflict (id) do update set actual_end = 'infinity'
$$;
-- As if all were delivered.
create procedure kept.take_all() language sql as $$
    update segmenter_deliveries d
    set delivered_through = greatest(d.delivered_through, (select max(o.id) from segmenter_outbox o where o.subscription_id = d.subscription_id));
    delete from segmenter_outbox;
$$;
create function kept.refresh_by_hand(dry_run boolean default false) returns table (segment text, status text, added bigint, removed bigint, excluded bigint, coverage bigint, messages bigint, detail text) language sql as $$
    select r.segment, r.status, r.added, r.removed, r.excluded, r.coverage, r.messages, r.detail
    from unnest('{kept by hand history,kept by hand latest}'::text[]) name cross join lateral segmenter_refresh(name, dry_run => dry_run) r order by name
$$;
-- At the first refresh.
select kept.put_back('{p1,p3}');
select * from kept.refresh_by_hand(dry_run => true);
select * from kept.refresh_by_hand();
select * from kept.members() where segment like 'kept by hand %';
update segmenter_subscriptions set params = params - 'paused' where target = 'latest delta';
select * from kept.refresh_by_hand();
call kept.take_all();
-- Later.
select kept.put_back();
select segment, operation, id from unnest('{history,latest}'::text[]) kind, concat('kept by hand ', kind) segment, segmenter_diff(segment) order by segment;
select * from kept.refresh_by_hand(dry_run => true);
select * from kept.refresh_by_hand();
select * from kept.members() where segment like 'kept by hand %';
select target, g.* from segmenter_subscriptions, kept.given(target) g where target ~ '(delta|replace)$' order by target, g.operation;
call kept.take_all();
select segment_name, target, reason, removed, message from segmenter_log
where segment_name like 'kept by hand %' and action = 'hand over' and reason = 'erased' order by segment_name, target;
select distinct on (segment_name) segment_name, reason, params #> '{closed,kept_out,removed}' as removed, params #> '{closed,lists}' as lists
from segmenter_log where segment_name like 'kept by hand %' and action = 'refresh' order by segment_name, id desc;
select segment, event, reason, detail from segmenter_timeline('p1') where segment like 'kept by hand %' and (event, at) in (select event, max(at) from segmenter_timeline('p1') group by event, segment) order by segment, at, event;
select * from kept.refresh_by_hand();
-- With a list; with rows that are deleted by hand at the same time; while changes are held back.
update segmenter_segments set exclude = '["kept list"]' where name = 'kept by hand history';
update segmenter_subscriptions set params = params || '{"paused": true}' where target ~ '(delta|replace)$';
select * from kept.refresh_by_hand();
call kept.take_all();
select kept.put_back('{p1,p3}');
delete from kept.by_hand_latest where id = 'p2';
select * from kept.refresh_by_hand();
select * from kept.members() where segment like 'kept by hand %';
select target, g.* from segmenter_subscriptions, kept.given(target) g where target ~ '(delta|replace)$' order by target, g.operation;
call kept.take_all();
select segment_name, target, reason, removed, message from segmenter_log
where segment_name like 'kept by hand %' and action = 'hand over' and message ~ 'held back$' order by segment_name, target, reason;
update segmenter_subscriptions set params = params - 'paused' where target ~ '(delta|replace)$';
select * from kept.refresh_by_hand();
select target, g.* from segmenter_subscriptions, kept.given(target) g where target ~ '(delta|replace)$' order by target, g.operation;
call kept.take_all();
-- A guard refuses what would be handed over, and the member stays until a refresh succeeds.
update segmenter_segments set guards = '{"min_members": 9}' where name like 'kept by hand %';
select kept.put_back();
select segment, status from kept.refresh_by_hand();
update segmenter_segments set guards = '{}' where name like 'kept by hand %';
select count(*) from kept.given('history replace');
-- With a one-off query; an id that no query gives.
select segmenter_erase('stranger', keep_out => true);
select kept.put_back('{stranger}');
select status, added, removed, excluded, coverage from segmenter_refresh('kept by hand history', 'select ''p1'' as id, md5(''p1'') as hash_email union all select ''p2'', md5(''p2'')');
select * from kept.refresh_by_hand();
select * from kept.members() where segment like 'kept by hand %';
-- By the other refreshers.
insert into kept.procedure (segment_id, id) select id, 'p1' from segmenter_segments where name = 'kept procedure';
insert into kept.latest (segment_id, id) select id, 'p1' from segmenter_segments where name = 'kept latest';
insert into kept.watching (segment_id, id) select id, 'p1' from segmenter_segments where name = 'kept watching';
select r.segment, r.status, r.added, r.removed, r.excluded, r.coverage, r.detail
from unnest('{kept procedure,kept latest,kept watching}'::text[]) name cross join lateral segmenter_refresh(name) r order by name;
select * from kept.members() where segment in ('kept procedure', 'kept latest', 'kept watching');
-- An incremental pass that does not read the table as a whole looks at the ids that have changed.
insert into kept.people select 'many' || g, repeat(md5('x'), 4) from generate_series(1, 10000) g;
update segmenter_segments set refresh_params = '{"incremental": {"watch": ["kept.people"], "sql": "select p.id, p.email as hash_email from kept.people p join changed c using (id)", "full_cron": "0 0 1 1 *"}}' where name = 'kept watching';
select status, added, excluded, coverage from segmenter_refresh('kept watching');
insert into kept.watching (segment_id, id) select id, 'p1' from segmenter_segments where name = 'kept watching';
update kept.people set email = md5(id) where id in ('p1', 'p2');
select status, added, removed, changed, excluded, detail from segmenter_refresh('kept watching');
select params #>> '{incremental,pass}' as pass from segmenter_log where segment_name = 'kept watching' order by id desc limit 1;
select count(*) from kept.watching where id = 'p1' and actual_end = 'infinity';
delete from kept.people where id like 'many%';
select status, removed, excluded from segmenter_refresh('kept watching');
-- Without the secret they cannot be told. Readmitted, they come back.
select kept.put_back();
begin;
delete from segmenter_secret;
select segment, status from kept.refresh_by_hand();
rollback;
select * from kept.refresh_by_hand();
begin;
select segmenter_readmit('p1');
select * from kept.refresh_by_hand();
select * from kept.members() where segment like 'kept by hand %';
rollback;
set client_min_messages = error;
delete from segmenter_subscriptions where target ~ '(delta|replace)$';
reset client_min_messages;
delete from segmenter_consumers where name in ('kept delta', 'kept replace');

-- A transaction that keeps its snapshot does not add a person who was kept out since: see iso_kept_out.
-- Without the secret nobody can be told: no refresh goes on, rather than adding the person.
\set VERBOSITY default
begin;
create temp table secret as table segmenter_secret;
delete from segmenter_secret;
select status from segmenter_refresh('kept query');
select segmenter_erase('p2', keep_out => true);
rollback;
\set VERBOSITY terse
select segmenter_erase(null);
select segmenter_erase('p2', null);
select segmenter_readmit(null);

-- Another set has a secret of its own.
select segmenter_init('kept.own') is not null as made;
create table kept.apart (like kept.own including defaults);
create unique index on kept.apart (segment_id, id) where actual_end = 'infinity';
insert into kept.own_segments (name, table_name, refresh_params)
values ('kept apart', 'kept.apart', '{"query": {"sql": "select id from (values (''p1''), (''p2'')) v (id)"}}');
set segmenter.cfg_table = 'kept.own';
select status, coverage from segmenter_refresh('kept apart');
select segment, rows from segmenter_erase('p2', keep_out => true);
reset segmenter.cfg_table;
select count(distinct inner_key) from (table kept.own_secret union all table segmenter_secret) s;
select count(*) from kept.own_kept_out a join segmenter_kept_out b using (hash);
select segmenter_drop_set('kept.own', force => true);

select segmenter_unwatch('kept.people');
delete from segmenter_kept_out;
update segmenter_segments set exclude = '[]' where exclude <> '[]';
select count(segmenter_drop_segment(name, true)) from segmenter_segments where name like 'kept %';
delete from segmenter_log where action in ('keep out', 'readmit') or segment_name like 'kept %';
set client_min_messages = warning;
drop schema kept cascade;
