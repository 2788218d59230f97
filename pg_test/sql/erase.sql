-- Erasing a person: gone from segments, history, messages and the log, and told to whoever had him.
\set VERBOSITY terse
create schema erase;
create table erase.people (id text primary key, email text, phone text);
insert into erase.people select 'person-' || g, md5('mail' || g), md5('call' || g) from generate_series(1, 4) g;
select segmenter_create_segment('history', 'select id, email as hash_email, phone as hash_phone from erase.people', table_name => 'erase.history') as history \gset
select segmenter_create_segment('latest', 'select id, email as hash_email, phone as hash_phone from erase.people', table_name => 'erase.latest', history => false) as latest \gset
select segmenter_create_segment('retired', 'select id, email as hash_email from erase.people', table_name => 'erase.retired') as retired \gset
select segmenter_subscribe('has all', 'history', 'x') as a \gset
select segmenter_subscribe('has none yet', 'history', 'y') as b \gset
select segmenter_subscribe('has hashes', 'latest', 'x', '{"fields": {"hash_email": "em"}}') as c \gset
select segmenter_subscribe('was told to remove', 'latest', 'y', '{"fields": ["id"]}') as d \gset

-- Every place in which a text stands.
create function erase.traces(what text, out place text, out times bigint) returns setof record language sql as $$
    select 'history', count(*) from erase.history t where t::text ~ what
    union all select 'latest', count(*) from erase.latest t where t::text ~ what
    union all select 'retired', count(*) from erase.retired t where t::text ~ what
    union all select 'outbox, delivered', count(*) from segmenter_outbox o join segmenter_deliveries d using (subscription_id) where o.payload::text ~ what and o.id <= d.delivered_through
    union all select 'outbox, undelivered', count(*) from segmenter_outbox o join segmenter_deliveries d using (subscription_id) where o.payload::text ~ what and o.id > d.delivered_through
    union all select 'log', count(*) from segmenter_log t where t::text ~ what
    union all select 'deliveries', count(*) from segmenter_deliveries t where t::text ~ what
    union all select 'hand-overs', count(*) from segmenter_handovers t where t::text ~ what
    union all select 'states', count(*) from segmenter_state t where t::text ~ what
    union all select 'attempts', count(*) from segmenter_attempts t where t::text ~ what
$$;
create function erase.deliver(consumer text) returns bigint language sql as $$
    select count(segmenter_ack(lease, message_id, '{"message": "thanks for person-2"}')) from segmenter_claim(consumer, 100)
$$;
select count(*) from unnest('{history,latest,retired}'::text[]) n, lateral segmenter_refresh(n);
select erase.deliver('has all'), erase.deliver('has hashes'), erase.deliver('was told to remove');
update segmenter_segments set actual_end = now() where name = 'retired';
-- Another version, a list by hand and errors that name him; and he has left one of them.
update erase.people set email = md5('new') where id = 'person-2';
select count(*) from segmenter_refresh('history') where changed = 1;
set client_min_messages = error;
select status from segmenter_refresh('history', 'select ''person-2'' as id union all select ''person-2''');
select status from segmenter_refresh('latest', 'select id, email as hash_email, phone as hash_phone from erase.people where id <> ''person-2''');
reset client_min_messages;
select message_id, lease from segmenter_claim('has none yet') \gset
select segmenter_nack(:'lease', :message_id, 'cannot take person-2', '0 s');
select * from erase.traces('person-2') where times > 0 order by 1;
select * from erase.traces(md5('mail2')) where times > 0 order by 1;

delete from erase.people where id = 'person-2';
select * from segmenter_erase('person-2') order by segment;
-- Only in what is still to be said: remove him. (Without ids everybody else is handed over anew.)
select * from erase.traces('person-2') where times > 0 order by 1;
select c.name, o.operation, o.members, o.payload -> 'members' as members
from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id join segmenter_deliveries d using (subscription_id)
where o.id > d.delivered_through and o.payload::text ~ (md5('mail2') || '|' || md5('new') || '|person-2') order by c.name, o.id;
select bool_and(o.members = jsonb_array_length(o.payload -> 'members')) as counts_agree, bool_and(o.part <= o.parts) as parts_agree from segmenter_outbox o;
select action, status, segment_name, target, message, params - 'role' as params from segmenter_log where action = 'erase' order by segment_name, target;
select message, error from segmenter_log where message ~ 'erased' or error::text ~ 'erased' order by error, id;
-- And once it is delivered, nowhere. (The receipts name the person again.)
select consumer, erase.deliver(consumer) > 0 as delivered from unnest('{has all,has none yet,has hashes,was told to remove}'::text[]) consumer;
select * from erase.traces('person-2') where times > 0 and place not in ('log', 'deliveries');
select * from erase.traces(md5('mail2') || '|' || md5('new') || '|' || md5('call2')) where times > 0;
-- The others are all there.
select 'history' as segment, count(*) from erase.history where actual_end = 'infinity' union all select 'latest', count(*) from erase.latest where actual_end = 'infinity';
set client_min_messages = error;
select segment, status, added, removed from unnest('{history,latest}'::text[]) n, lateral segmenter_refresh(n);
reset client_min_messages;

-- Where two look the same, one stays: everybody else is handed over anew.
insert into erase.people values ('person-8', md5('shared'), 'a'), ('person-9', md5('shared'), 'b');
select messages from segmenter_refresh('latest');
delete from erase.people where id = 'person-8';
select * from segmenter_erase('person-8') order by segment;
select c.name, o.operation, (select count(*) from jsonb_array_elements(o.payload -> 'members') m where m ->> 'em' = md5('shared')) as shared
from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id join segmenter_deliveries d using (subscription_id)
where o.id > d.delivered_through and c.name in ('has hashes', 'was told to remove') order by c.name, o.id;
select erase.deliver('has hashes') > 0 as a, erase.deliver('was told to remove') > 0 as b;
-- An id as SQL and JSON write it.
set client_min_messages = error;
select status from segmenter_refresh('latest', 'select ''o''''b"c'' as id union all select ''o''''b"c''');
reset client_min_messages;
select count(*) from segmenter_erase('o''b"c');
select count(*) from segmenter_log where (message || error::text || params::text) ~ 'b.*"c';

-- Whom nobody knows, and nothing at all.
select * from segmenter_erase('nobody');
select * from segmenter_erase('');
select count(*) from segmenter_log where message ~ 'erased';
select * from segmenter_erase(null);
-- Who is nearly so called: in case or blanks, by a hash, by a contact. Nobody of other roles' segments.
\set VERBOSITY default
select * from segmenter_erase(E' Person-3\n');
select * from segmenter_erase('42');
insert into erase.people values (encode(sha256('raw@example.com'), 'hex'), md5('mail-raw'), 'r');
set client_min_messages = error;
select status from segmenter_refresh('latest');
reset client_min_messages;
select * from segmenter_erase('RAW@example.com');
select * from segmenter_erase('mail-raw');
select * from segmenter_erase(md5('mail-raw'));
select * from segmenter_erase(md5('person-3'));
insert into erase.people values (U&'jose\0301', md5('jose'), 'r');
set client_min_messages = error;
select status from segmenter_refresh('latest');
reset client_min_messages;
select * from segmenter_erase(U&'Jos\00e9');
delete from erase.people where id = U&'jose\0301';
select segment, rows, status from segmenter_erase(U&'jose\0301');
\set VERBOSITY terse
-- A pattern is no pattern.
select * from segmenter_erase('person-.');
select * from segmenter_erase('%');
-- In a transaction that is rolled back nothing is erased.
begin;
select rows from segmenter_erase('person-1');
rollback;
select times > 0 as still_there from erase.traces('person-1') where place = 'history';
-- Values that PostgreSQL cannot show as jsonb: the rows are deleted all the same, and consumers get a replace of
-- what can be shown.
create table erase.docs (id int, doc json, actual text);
insert into erase.docs values (1, '{"a": "x\u0000y"}'), (2, '{"a": "ok"}'), (3, '{"a": "fine"}');
select segmenter_create_segment('docs', 'select id, doc, actual as hash_email from erase.docs', table_name => 'erase.doc') as docs \gset
update erase.docs set doc = '{"a": "was well"}', actual = 'h' where id = 1;
set client_min_messages = warning;
select segmenter_subscribe('docs', 'docs', 'with id', '{"fields": ["id", "doc"]}') as docs_id \gset
select segmenter_subscribe('docs', 'docs', 'without', '{"fields": {"doc": "d"}}') as docs_other \gset
select status, messages from segmenter_refresh('docs');
update erase.docs set doc = '{"a": "x\u0000y"}' where id = 1;
set client_min_messages = error;
select status from segmenter_refresh('docs');
delete from erase.docs where id = 1;
select segment, rows, status from segmenter_erase('1') order by segment;
reset client_min_messages;
select count(*) from erase.doc where id = '1';
select count(*) from segmenter_outbox where subscription_id in (:'docs_id', :'docs_other') and payload::text ~ 'was well';
select u.target, o.operation, o.payload -> 'members' as members
from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
where u.id in (:'docs_id', :'docs_other') and o.operation <> 'create' order by o.id;
-- A table that lost its index.
do $$ begin execute (select 'drop index ' || indexrelid::regclass from pg_index where indrelid = 'erase.doc'::regclass and indisunique limit 1); end $$;
select rows, status from segmenter_erase('2');
-- A table that is gone.
drop table erase.retired cascade;
select segment, rows from segmenter_erase('person-1') order by segment;

-- Only from segments of roles that the caller is a member of.
create role erase_other;
grant usage on schema erase to erase_other;
set role erase_other;
select * from segmenter_erase('person-3');
reset role;
drop owned by erase_other;
drop role erase_other;

set client_min_messages = error;
delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
delete from segmenter_outbox;
delete from segmenter_log;
drop schema erase cascade;
