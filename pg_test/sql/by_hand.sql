-- Rows of a segment table that were changed by hand: each audience gets all members.
\set VERBOSITY terse
create schema by_hand;
create type by_hand.grade as enum ('a', 'b');
create table by_hand.people (id int primary key, email text, grade by_hand.grade default 'a', amount numeric(8, 2), tags text[]);
insert into by_hand.people select g, 'e' || g from generate_series(1, 5) g;
create function by_hand.make(segment text, history boolean) returns uuid language plpgsql as $$
declare
    made uuid;
begin
    made := segmenter_create_segment(segment, 'select id, email as hash_email, grade, amount, tags from by_hand.people',
        table_name => 'by_hand.' || segment, history => history);
    perform segmenter_subscribe(mode || ' ' || segment, segment, 'ads', jsonb_build_object('mode', mode))
    from unnest('{delta,replace}'::text[]) mode;
    return made;
end
$$;
select count(by_hand.make('latest', false)), count(by_hand.make('history', true));

-- What a refresh says, and what it hands over to the subscription in mode delta.
create function by_hand.refresh(segment text, "full" boolean default false, dry_run boolean default false,
    out said text, out given text)
language plpgsql as $$
declare
    last bigint := coalesce((select max(id) from segmenter_outbox), 0);
begin
    select format('%s +%s -%s ~%s, %s messages', r.status, r.added, r.removed, r.changed, r.messages)
        || coalesce(': ' || r.detail, '')
    into said
    from segmenter_refresh(refresh.segment, "full" => refresh."full", dry_run => refresh.dry_run) r;
    select string_agg(o.operation || ' ' || coalesce((
        select string_agg(e ->> 'id', ',' order by e ->> 'id') from jsonb_array_elements(o.payload -> 'members') e
    ), '-'), ' ' order by o.id)
    into given
    from segmenter_outbox o
    join segmenter_consumers c on c.id = o.consumer_id
    where o.id > last and c.name = 'delta ' || refresh.segment;
end
$$;
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
select * from by_hand.refresh('latest');

-- Emptied.
truncate by_hand.latest, by_hand.history;
delete from by_hand.people where id = 5;
select * from by_hand.refresh('latest', dry_run => true);
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
select message from segmenter_log where segment_name = 'latest' and action = 'refresh' order by id desc limit 1;
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');

-- A row deleted, a membership ended; then they leave the source.
delete from by_hand.latest where id = '4';
update by_hand.history set actual_end = actual_begin where id = '4';
delete from by_hand.people where id = 4;
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
-- A row deleted and another one inserted: the number is the same.
delete from by_hand.latest where id = '1';
insert into by_hand.latest (segment_id, id) select id, '99' from segmenter_segments where name = 'latest';
select * from by_hand.refresh('latest');
-- A value changed, and changed back at the source; an id that is another one.
update by_hand.latest set hash_email = 'mine' where id = '2';
select * from by_hand.refresh('latest');
update by_hand.history set amount = 7 where id = '2' and actual_end = 'infinity';
update by_hand.people set amount = 7 where id = 2;
select * from by_hand.refresh('history');
update by_hand.latest set id = '1000' where id = '1';
select * from by_hand.refresh('latest');
-- Changed, given to a consumer without a refresh, and changed back before one has noticed it.
update by_hand.latest set hash_email = hash_email || '!' where id = '2';
select segmenter_resync('delta latest', 'latest', 'ads') > 0 as is_given;
update by_hand.latest set hash_email = rtrim(hash_email, '!') where id = '2';
select * from by_hand.refresh('latest');
select * from by_hand.refresh('latest');
-- Every kind of change by refreshes is no change by hand.
update by_hand.people set amount = 1.5, tags = '{x,null}', grade = 'b' where id = 1;
insert into by_hand.people values (7, null, null, 1e5, '{}');
delete from by_hand.people where id = 3;
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
insert into by_hand.people values (3, 'e3');
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
select * from by_hand.refresh('latest');
select * from by_hand.refresh('history');
-- Neither are other columns of the query or a rewrite of the table.
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, email as hash_email from by_hand.people"}}'
where name = 'latest';
vacuum full by_hand.latest;
select * from by_hand.refresh('latest');
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, grade, email as hash_email from by_hand.people"}}'
where name = 'latest';
select * from by_hand.refresh('latest');
alter table by_hand.latest alter grade type text;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id, grade::text, email as hash_email from by_hand.people"}}'
where name = 'latest';
select * from by_hand.refresh('latest');
select * from by_hand.refresh('latest');
-- With too little memory for fingerprints (of more than 41,943 members), and by a one-off query.
set maintenance_work_mem = '1MB';
insert into by_hand.people select g, 'e' || g from generate_series(1001, 44000) g;
select said from by_hand.refresh('history');
delete from by_hand.history where id = '1001';
select said from by_hand.refresh('history');
delete from by_hand.people where id > 1000;
select said from by_hand.refresh('history');
select * from by_hand.refresh('history');
reset maintenance_work_mem;
-- (Their messages are delivered, and are kept no longer: an erasure looks into each message there is.)
do $$
declare
    consumer text;
begin
    for consumer in select name from segmenter_consumers where name like any ('{delta %,replace %}') loop
        loop
            perform segmenter_ack(c.lease, max(c.message_id)) from segmenter_claim(consumer, 1000) c group by c.lease;
            exit when not found;
        end loop;
    end loop;
end
$$;
delete from segmenter_outbox;
select status, detail from segmenter_refresh('latest', 'select 1 as id');
select * from by_hand.refresh('latest');

-- Another table, with other rows.
create table by_hand.moved (like by_hand.latest including defaults including indexes);
truncate by_hand.latest;
update segmenter_segments set table_name = 'by_hand.moved' where name = 'latest';
select * from by_hand.refresh('latest');
select * from by_hand.refresh('latest');
-- What is refused is noticed again.
delete from by_hand.moved where id = '2';
update segmenter_segments set guards = '{"max_added": 0}' where name = 'latest';
set client_min_messages = error;
select * from by_hand.refresh('latest');
reset client_min_messages;
update segmenter_segments set guards = '{}' where name = 'latest';
select * from by_hand.refresh('latest');
-- A new subscriber gets everything once.
delete from by_hand.moved where id = '2';
select segmenter_subscribe('new', 'latest', 'ads') is not null;
select * from by_hand.refresh('latest');
select o.operation, o.members from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id where c.name = 'new' order by o.id;

-- Triggers that write other values than the query gives: they are no change by hand.
create function by_hand.lower() returns trigger language plpgsql as $$
begin
    new.hash_email := lower(new.hash_email);
    return new;
end
$$;
create trigger lower before insert or update on by_hand.history for each row execute function by_hand.lower();
update by_hand.people set email = upper(email);
select said from by_hand.refresh('history');
select said from by_hand.refresh('history');
drop trigger lower on by_hand.history;
select said from by_hand.refresh('history');
select said from by_hand.refresh('history');

-- The cascade of a foreign key.
alter table by_hand.history add key int references by_hand.people on delete cascade;
update by_hand.history set key = id::int where actual_end = 'infinity';
select said from by_hand.refresh('history');
delete from by_hand.people where id = 7;
select * from by_hand.refresh('history');

-- A procedure.
create procedure by_hand.load() language plpgsql as $$
begin
    truncate by_hand.history;
    insert into by_hand.history (segment_id, id, hash_email)
    select s.id, p.id, p.email from by_hand.people p, segmenter_segments s where s.name = 'history';
end
$$;
update segmenter_segments set refresh_params = '{"procedure": {"sql": "call by_hand.load()"}}' where name = 'history';
select said from by_hand.refresh('history');
select said from by_hand.refresh('history');
update by_hand.history set hash_email = 'mine' where id = '1' and actual_end = 'infinity';
select * from by_hand.refresh('history');

-- An incremental segment: a small table is compared at each pass.
select segmenter_watch('by_hand.people');
update segmenter_segments set refresh_params = $${"incremental": {"watch": ["by_hand.people"],
    "sql": "select id, email as hash_email from by_hand.people join changed using (id)"}}$$
where name = 'latest';
select * from by_hand.refresh('latest');
update by_hand.people set email = 'new' where id = 1;
select * from by_hand.refresh('latest');
delete from by_hand.moved where id = '2';
delete from by_hand.people where id = 2;
select * from by_hand.refresh('latest');
select * from by_hand.refresh('latest');
truncate by_hand.moved;
select * from by_hand.refresh('latest');
-- A large one at a full pass, and where its file is another one.
insert into by_hand.people select g, repeat('e', 800) from generate_series(1001, 2500) g;
select said, left(given, 20) as given from by_hand.refresh('latest');
delete from by_hand.moved where id = '1001';
insert into by_hand.moved (segment_id, id) select id, '90001' from segmenter_segments where name = 'latest';
update by_hand.people set email = 'newer' where id = 1;
select said, left(given, 20) as given from by_hand.refresh('latest');
select said, left(given, 20) as given from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('latest', "full" => true);
vacuum full by_hand.moved;
select said from by_hand.refresh('latest');
delete from by_hand.moved where id = '1001';
vacuum full by_hand.moved;
select said, left(given, 20) as given from by_hand.refresh('latest');
select said from by_hand.refresh('latest');

-- An erasure is no change by hand.
select segment, rows from segmenter_erase('1002') order by segment;
select said from by_hand.refresh('latest', "full" => true);

-- A change by hand before an erasure, or after it, is noticed all the same: of a row, and of which members
-- there are, in as many rows as before.
delete from by_hand.people where id > 1010;
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('history', "full" => true);
update by_hand.moved set hash_email = 'by hand' where id = '1005';
update by_hand.history set hash_email = 'by hand' where id = '1005' and actual_end = 'infinity';
select segment, rows from segmenter_erase('1003') order by segment;
delete from by_hand.people where id = 1003;
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('history', "full" => true);
select segment, rows from segmenter_erase('nobody') order by segment;
select segment, rows from segmenter_erase('1004') order by segment;
delete from by_hand.people where id = 1004;
update by_hand.moved set id = 'x' where id = '1006';
update by_hand.history set id = 'x' where id = '1006' and actual_end = 'infinity';
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('history', "full" => true);
-- And nothing is left of it; an erasure alone is no change by hand.
select segment, rows from segmenter_erase('1007') order by segment;
delete from by_hand.people where id = 1007;
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('history', "full" => true);

-- In a restored database rows have other hashes, ids have the same: a change by hand is noticed also if a list has
-- taken members out before the next full pass.
select segmenter_create_segment('listed', 'select id from by_hand.people where id = 1010', table_name => 'by_hand.listed') is not null as made;
update segmenter_segments set exclude = '["listed"]' where name = 'latest';
update segmenter_state set content = jsonb_set(content, '{place}', '"1/1"')
where segment_id = (select id from segmenter_segments where name = 'latest');
update by_hand.moved set id = 'y' where id = '1008';
select status from segmenter_refresh('listed');
select action, removed from segmenter_log where segment_name = 'latest' order by id desc limit 1;
-- (Where no column has a type of the database's own, rows have the same hashes, too.)
select s.name, t.content ->> 'place' = '' as is_portable from segmenter_state t join segmenter_segments s on s.id = t.segment_id
where s.name in ('listed', 'history') order by 1;
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('latest', "full" => true);
-- After an update of Segmenter not even the number is known: an erasure, a hand-over or a list does not make it known.
update segmenter_state set members = null, coverage = null, content = null
where segment_id = (select id from segmenter_segments where name = 'latest');
select segment, rows from segmenter_erase('1009') order by segment;
delete from by_hand.people where id = 1009;
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from by_hand.people where id in (1001, 1010)"}}' where name = 'listed';
select status from segmenter_refresh('listed');
select action, removed from segmenter_log where segment_name = 'latest' order by id desc limit 1;
select members, coverage from segmenter_state where segment_id = (select id from segmenter_segments where name = 'latest');
select said from by_hand.refresh('latest', "full" => true);
-- Where triggers may alter rows, a change by hand is noticed also if a list has taken members out before.
create function by_hand.pass() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger pass before insert or update on by_hand.moved for each row execute function by_hand.pass();
update by_hand.moved set hash_email = 'with a trigger' where id = '1005';
update segmenter_segments set refresh_params = '{"query": {"sql": "select id from by_hand.people where id in (1001, 1006, 1010)"}}' where name = 'listed';
select status from segmenter_refresh('listed');
select action, removed from segmenter_log where segment_name = 'latest' order by id desc limit 1;
select said from by_hand.refresh('latest', "full" => true);
select said from by_hand.refresh('latest', "full" => true);
drop trigger pass on by_hand.moved;
-- A member that a list has, put back by hand, or with a table that is restored: the next refresh takes it out.
update by_hand.moved m set actual_end = 'infinity', hash_email = p.email from by_hand.people p where m.id = '1010' and p.id = 1010;
insert into by_hand.moved (segment_id, id, hash_email) select s.id, '1010', p.email
from segmenter_segments s, by_hand.people p where s.name = 'latest' and p.id = 1010 and not exists (select from by_hand.moved m where m.id = '1010');
select * from segmenter_diff('latest') where id = '1010';
select said, given from by_hand.refresh('latest', "full" => true);
select id from by_hand.moved where id = '1010' and actual_end = 'infinity';
select said from by_hand.refresh('latest', "full" => true);
update segmenter_segments set exclude = '[]' where name = 'latest';
delete from segmenter_segments where name = 'listed';
delete from segmenter_log where segment_name = 'listed';

set client_min_messages = error;
delete from segmenter_subscriptions u using segmenter_segments s where s.id = u.segment_id and s.name in ('latest', 'history');
delete from segmenter_consumers where name in ('new', 'delta latest', 'replace latest', 'delta history', 'replace history');
delete from segmenter_segments where name in ('latest', 'history');
delete from segmenter_log where segment_name in ('latest', 'history');
delete from segmenter_outbox;
drop schema by_hand cascade;
select segmenter_prune();
