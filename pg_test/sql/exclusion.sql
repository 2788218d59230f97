-- Members of other segments are left out: exclude, suppression lists, priorities.
create schema shop;
create table shop.people (id text primary key, email text, phone text, spent int, is_out boolean default false, complained boolean default false);
insert into shop.people select g, 'e' || g, 'p' || g, g * 10 from generate_series(1, 10) g;
create view members as
select s.name, array_agg(m.id order by length(m.id), m.id) as ids
from segmenter m join segmenter_segments s on s.id = m.segment_id
where m.actual_end = 'infinity'
group by s.name order by s.name;

select segmenter_create_segment('opted out', 'select id from shop.people where is_out', table_name => 'shop.opted_out') is not null as created;
select segmenter_create_segment('complainers', 'select ''c'' || id as id, email as hash_email from shop.people where complained', table_name => 'shop.complainers') is not null as created;
select segmenter_create_segment('all', 'select id, email as hash_email, phone as hash_phone from shop.people', table_name => 'shop.everyone') is not null as created;
select segmenter_create_segment('big', 'select id, email as hash_email from shop.people where spent > 50', table_name => 'shop.big') is not null as created;
update segmenter_segments set refresh_auto = true;
update segmenter_segments set exclude = '["opted out", {"segment": "complainers", "by": ["hash_email", "hash_phone"]}]' where name = 'all';
select segmenter_subscribe('mail', 'all', 'news') is not null as subscribed;
update shop.people set is_out = true where id in ('1', '2');
update shop.people set complained = true where id = '3';
select segment, status, added, removed, changed, excluded, coverage, messages, detail from segmenter_run();
select * from members;

-- A list that gains members: they leave at once, without a refresh.
update shop.people set is_out = true where id = '4';
select segment, status, added, removed, changed, excluded, coverage, messages, detail from segmenter_refresh('opted out');
select * from members;
select action, status, segment_name, added, removed, excluded, coverage, message from segmenter_log where action = 'exclude';
select operation, payload #> '{members}' as members from segmenter_outbox where operation <> 'create' order by id;
-- By a hash.
update shop.people set complained = true where id = '5';
select segment, status, removed, coverage, messages, detail from segmenter_run() where segment in ('all', 'complainers');
-- Nothing more happens.
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();

-- A person who leaves the list comes back with the next refresh, in the same run.
update segmenter_segments set refresh_cron = '0 0 1 1 *' where name = 'all';
update shop.people set is_out = false where id in ('1', '4');
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;
select name, coverage, excluded from segmenter_status where name = 'all';

-- A suppression list holds for all that are not exempt.
update segmenter_segments set is_suppression = true where name = 'complainers';
update segmenter_segments set exclude = '[]' where name = 'all';
update shop.people set complained = true where id = '7';
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, email as hash_email from shop.people where complained"}}' where name = 'complainers';
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;
update segmenter_segments set exempt = '{"complainers": "invoices are no advertising"}' where name = 'big';
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;
select params -> 'exempt' as exempt from segmenter_log where segment_name = 'big' order by id desc limit 1;

-- Priorities.
update segmenter_segments set priority_group = 'offers', priority = case name when 'big' then 1 else 2 end where name in ('big', 'all');
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;
-- They are swapped in one statement.
update segmenter_segments set priority = 3 - priority where priority_group = 'offers';
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;
update segmenter_segments set priority_group = null, priority = null;
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run();
select * from members;

-- What is refused.
\set VERBOSITY terse
update segmenter_segments set exclude = '["nobody"]' where name = 'all';
update segmenter_segments set exclude = '["all"]' where name = 'all';
update segmenter_segments set exclude = '{"segment": "big"}' where name = 'all';
update segmenter_segments set exclude = '[{"segment": "big", "by": ["email"]}]' where name = 'all';
update segmenter_segments set exempt = '{"complainers": ""}' where name = 'all';
update segmenter_segments set exempt = '{"nobody": "why"}' where name = 'all';
update segmenter_segments set exempt = '{"big": "it is no list"}' where name = 'all';
update segmenter_segments set exempt = '{}' where name = 'all';
update segmenter_segments set priority = 1 where name = 'all';
update segmenter_segments set priority_group = 'offers', priority = 1 where name = 'big';
update segmenter_segments set priority_group = 'offers', priority = 1 where name = 'all';
update segmenter_segments set priority_group = null, priority = null where name = 'big';
update segmenter_segments set exclude = '["big"]' where name = 'all';
update segmenter_segments set exclude = '["all"]' where name = 'big';
update segmenter_segments set exclude = '["all"]' where name = 'complainers';
-- A list is kept while it is one. Who waits for it besides is named, too.
select segmenter_create_segment('after big', 'select 1 as id', table_name => 'shop.after_big') is not null as made;
update segmenter_segments set sources = '[{"segment": "big"}]' where name = 'after big';
\set VERBOSITY default
update segmenter_segments set actual_end = now() where name = 'big';
\set VERBOSITY terse
delete from segmenter_segments where name = 'after big';
update segmenter_segments set name = 'large' where name = 'big';
update segmenter_segments set actual_end = now() where name = 'complainers';
update segmenter_segments set name = 'complaints' where name = 'complainers';
-- A list that cannot be refreshed: who leaves out its members waits, and members leave all the same.
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'big';
select segment, status, added, removed, excluded, coverage, detail from segmenter_run();
select status, detail from segmenter_refresh('all', 'select ''77'' as id');
set segmenter.upstream = 'ignore';
select status, detail from segmenter_refresh('all');
reset segmenter.upstream;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from shop.people where spent > 80"}}' where name = 'big';
select segment, status, added, removed, excluded, coverage, detail from segmenter_run();
-- A one-off query.
select status, added, removed, excluded, coverage, detail from segmenter_refresh('all', 'select id from shop.people where id in (''8'', ''9'')');
select * from members;

-- After an erasure the number of members is unknown: the log counts them when a list takes some away.
select status from segmenter_refresh('big');
select status, coverage from segmenter_refresh('all');
select segment, status from segmenter_erase('9') order by segment;
insert into shop.people values ('80', 'e80', null, 90), ('81', 'e81', null, 90);
update segmenter_segments set refresh_auto = false where name = 'all';
select status, added from segmenter_refresh('all', 'select id from shop.people where id in (''1'', ''2'', ''80'', ''81'')');
select segment, status from segmenter_erase('1') order by segment;
select status, added, detail from segmenter_refresh('big');
select action, removed, coverage, (select cardinality(ids) from members where name = 'all') as members
from segmenter_log where segment_name = 'all' order by id desc limit 1;

-- A run over a priority group: members leave each segment in its own turn, with all that those before it have
-- gained.
create table shop.tiers (id text primary key, tier int not null default 3);
insert into shop.tiers select g from generate_series(1, 9) g;
select segmenter_create_segment('tier ' || t, format('select id from shop.tiers where tier <= %s', t), table_name => 'shop.tier_' || t, history => t <> 2) is not null as created
from generate_series(1, 3) t order by t;
update segmenter_segments set exclude = '[]', exempt = '{}', is_suppression = false, refresh_auto = false;
update segmenter_segments set priority_group = 'tiers', priority = right(name, 1)::int, refresh_auto = true where name like 'tier %';
select segmenter_subscribe('mail', 'tier 3', 'third') is not null as subscribed;
select segment, status, added, removed, excluded, coverage, detail from segmenter_run() where segment like 'tier %';
update shop.tiers set tier = id::int where id in ('1', '2');
select segment, status, added, removed, excluded, coverage, messages, detail from segmenter_run() where segment like 'tier %';
select * from members where name like 'tier %';
select operation, payload #> '{members}' as members from segmenter_outbox where subscription_id = (select id from segmenter_subscriptions where target = 'third') and operation = 'remove' order by id;
select reason, removed from segmenter_log where segment_name = 'tier 3' and action = 'refresh' order by id desc limit 1;
-- One whose turn fails loses them all the same.
update segmenter_segments set refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}' where name = 'tier 3';
update shop.tiers set tier = 1 where id = '3';
update shop.tiers set tier = 2 where id = '4';
select segment, status, added, removed, coverage, detail from segmenter_run() where segment like 'tier %';
select * from members where name like 'tier %';
-- So does one that is not due.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from shop.tiers"}}', refresh_cron = '0 0 1 1 *' where name = 'tier 3';
select segment, status from segmenter_refresh('tier 3');
update shop.tiers set tier = 1 where id = '5';
select segment, status, added, removed, coverage, detail from segmenter_run() where segment like 'tier %';
-- Members that return: to the second, and to the third.
update shop.tiers set tier = case id when '1' then 2 else 3 end where id in ('1', '5');
select segment, status, added, removed, excluded, coverage, detail from segmenter_run() where segment like 'tier %';
select * from members where name like 'tier %';
-- One who is put back by hand is followed as well as one whom a list has just gained.
insert into shop.tier_3 (segment_id, id) select id, '3' from segmenter_segments where name = 'tier 3';
update shop.tiers set tier = 1 where id = '6';
select segment, status, added, removed, coverage, detail from segmenter_run(true) where segment like 'tier %';
select * from members where name like 'tier %';
-- A group that is turned around: each compares its members with all before it.
update segmenter_segments set priority = 4 - priority where priority_group = 'tiers';
select segment, status, added, removed, excluded, coverage, detail from segmenter_run(true) where segment like 'tier %';
select * from members where name like 'tier %';
-- Members that were there before the first refresh, brought from elsewhere: those of lists leave with it.
create table shop.brought (like shop.tier_2 including defaults, unique (id));
select segmenter_put_segment('brought', 'select id from shop.tiers', table_name => 'shop.brought', history => false, exclude => '["tier 1", "tier 3"]');
insert into shop.brought (segment_id, id) select s.id, t.id from segmenter_segments s, shop.tiers t where s.name = 'brought' and t.id <> '2';
select action, status, removed, detail from segmenter_refresh('brought') r, (select 'refresh' as action) a;
select ids from members where name = 'brought';
select ids from members where name ~ '^tier [13]$';
select segmenter_drop_segment('brought', true);
-- Members that were in the table of a list before its first refresh, which a segment that follows it has not seen.
create table shop.held (like shop.tier_2 including defaults, unique (id));
select segmenter_put_segment('held', 'select unnest(''{5,6}''::text[]) as id', table_name => 'shop.held', history => false);
select segmenter_put_segment('with held', 'select id from shop.tiers', table_name => 'shop.with_held');
select status, coverage from segmenter_refresh('with held');
update segmenter_segments set exclude = '["held"]' where name = 'with held';
select status, detail from segmenter_refresh('with held');
insert into shop.held (segment_id, id) select id, '5' from segmenter_segments where name = 'held';
select status, added, coverage from segmenter_refresh('held');
select status, removed, excluded, coverage from segmenter_refresh('with held');
select ids from members where name = 'with held';
-- None of them is added by the first refresh.
select segmenter_drop_segment('with held', true), segmenter_drop_segment('held', true);
create table shop.held (like shop.tier_2 including defaults, unique (id));
select segmenter_put_segment('held', 'select unnest(''{5,6}''::text[]) as id', table_name => 'shop.held', history => false);
select segmenter_put_segment('with held', 'select id from shop.tiers', table_name => 'shop.with_held');
select status, coverage from segmenter_refresh('with held');
update segmenter_segments set exclude = '["held"]' where name = 'with held';
select status from segmenter_refresh('with held');
insert into shop.held (segment_id, id) select id, unnest('{5,6}'::text[]) from segmenter_segments where name = 'held';
select status, added, coverage from segmenter_refresh('held');
select status, removed, excluded, coverage from segmenter_refresh('with held');
select ids from members where name = 'with held';
select segmenter_drop_segment('with held', true), segmenter_drop_segment('held', true);
-- A list in whose table a trigger writes other values than it was given.
select segmenter_create_segment('lower', 'select id, upper(md5(id)) as hash_email from shop.tiers where tier = 1', table_name => 'shop.lower') is not null as created;
create function shop.lower_hash() returns trigger language plpgsql as $$ begin new.hash_email := lower(new.hash_email); return new; end $$;
create trigger lower before insert or update on shop.lower for each row execute function shop.lower_hash();
select segmenter_put_segment('with lower', 'select id, md5(id) as hash_email from shop.tiers', table_name => 'shop.with_lower', exclude => '[{"segment": "lower", "by": ["hash_email"]}]');
select status, coverage from segmenter_refresh('lower');
select status, excluded, coverage from segmenter_refresh('with lower');
update shop.tiers set tier = 1 where id = '9';
select status, added, coverage from segmenter_refresh('lower');
select '9' = any (ids) as is_member from members where name = 'with lower';
select status, coverage from segmenter_refresh('with lower');
select '9' = any (ids) as is_member from members where name = 'with lower';
update shop.tiers set tier = 9 where id = '9';
select segmenter_drop_segment('with lower', true), segmenter_drop_segment('lower', true);
-- A member who returns to a table without history with a value that is given no longer, which a list has.
create table shop.returns (like shop.tier_2 including defaults, unique (id));
select segmenter_put_segment('phones', 'select ''x'' || id as id, md5(id) as hash_phone from shop.tiers where tier = 7', table_name => 'shop.phones');
select segmenter_put_segment('returns', 'select id, md5(id) as hash_phone from shop.tiers where tier <> 8', table_name => 'shop.returns', history => false, exclude => '[{"segment": "phones", "by": ["hash_phone"]}]');
update shop.tiers set tier = 9 where id in ('8', '9');
select status, coverage from segmenter_refresh('phones');
select status, coverage from segmenter_refresh('returns');
update shop.tiers set tier = 8 where id in ('8', '9');
select status, removed, coverage from segmenter_refresh('returns');
select segmenter_put_segment('returns', 'select id from shop.tiers where tier <> 8');
update shop.tiers set tier = 7 where id = '8';
select status, coverage from segmenter_refresh('phones');
update shop.tiers set tier = 9 where id = '9';
select status, added, excluded, coverage, detail from segmenter_refresh('returns');
select id, hash_phone is not null as has_phone from shop.returns where id in ('8', '9') and actual_end = 'infinity';
update shop.tiers set tier = 9 where id = '8';
select status, coverage from segmenter_refresh('phones', force => true);
select status, added, excluded, coverage from segmenter_refresh('returns');
select segmenter_drop_segment('returns', true), segmenter_drop_segment('phones', true);
-- A list whose rows a policy hides from the owner of its table is not taken for a shorter one.
create role hidden_owner;
grant usage on schema shop to hidden_owner;
create table shop.hidden (like shop.tier_2 including defaults, unique (id));
alter table shop.hidden owner to hidden_owner;
select segmenter_put_segment('hidden', 'select id::text as id from generate_series(1, 2) id', table_name => 'shop.hidden', history => false, owner => 'hidden_owner');
select segmenter_put_segment('with hidden', 'select id from shop.tiers', table_name => 'shop.with_hidden', exclude => '["hidden"]');
select status, coverage from segmenter_refresh('hidden');
create policy seen on shop.hidden using (id <> '1');
alter table shop.hidden enable row level security, force row level security;
select status, detail from segmenter_refresh('with hidden');
alter table shop.hidden no force row level security;
select status, added, excluded from segmenter_refresh('with hidden');
alter table shop.hidden force row level security;
select status, detail from segmenter_refresh('with hidden', 'select ''1'' as id');
select ids from members where name = 'with hidden';
alter table shop.hidden no force row level security;
-- Nor is one that the owner of its table may not read any more.
revoke select on shop.hidden from hidden_owner;
\set VERBOSITY default
select status, detail from segmenter_refresh('with hidden');
\set VERBOSITY terse
grant select on shop.hidden to hidden_owner;
revoke usage on schema shop from hidden_owner;
select status, detail from segmenter_refresh('with hidden', 'select ''1'' as id');
grant usage on schema shop to hidden_owner;
select status, excluded from segmenter_refresh('with hidden');
select segmenter_drop_segment('with hidden', true), segmenter_drop_segment('hidden');
drop table shop.hidden;
drop owned by hidden_owner;
drop role hidden_owner;
-- The tables of lists are checked.
alter table shop.tier_3 no inherit segmenter;
alter table shop.tier_3 alter id type text;
select segment, status, detail from segmenter_refresh('tier 1', 'select ''9'' as id');
alter table shop.tier_3 alter id type varchar;
alter table shop.tier_3 inherit segmenter;
select segment, status, excluded, detail from segmenter_refresh('tier 1', 'select ''9'' as id');

update segmenter_segments set priority_group = null, priority = null;
set client_min_messages = error;
delete from segmenter_subscriptions;
reset client_min_messages;
delete from segmenter_consumers where name = 'mail';
select segmenter_drop_segment(name, true) from segmenter_segments order by name;
delete from segmenter_log;
drop schema shop cascade;
