-- A consumer whose messages go into pgmq queues, one queue a target.
--
-- Run it as a superuser, in the database that has segmenter and pgmq. It needs the
-- background workers: they call the function, as the role crm.
--
-- What is guaranteed:
--   * pgmq.send() commits together with the acknowledgement, so each message is in its
--     queue exactly once, however often the worker or the server is stopped amid it.
--   * Messages of one audience are in the queue in their order (msg_id). So that several
--     readers keep it too, they read with pgmq.read_grouped(): the group is the subscription.
--   * From the queue on, pgmq's promise holds: at least once. message_id in the message
--     tells repeats.
-- What is not: segmenter_erase() does not reach into the queue. The removal it hands over
-- follows in the queue; delete read messages with pgmq.delete() rather than pgmq.archive().

begin;

create role crm login;              -- the worker connects as this role
create schema crm;
grant usage on schema crm, pgmq to crm;

-- The queue of a target: 'segmenter_' and the target in small letters, digits and '_'.
create function crm.queue(target text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp
as $$ select 'segmenter_' || left(regexp_replace(lower(target), '[^a-z0-9]+', '_', 'g'), 37) $$;

create function crm.to_queue(message jsonb) returns jsonb
language sql set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('message', 'pgmq ' || sent.msg_id, 'num_received', jsonb_array_length(message -> 'members'))
    from pgmq.send(
        crm.queue(message #>> '{audience,target}'),
        message,
        jsonb_build_object('x-pgmq-group', message #>> '{audience,subscription_id}')
    ) as sent (msg_id)
$$;
comment on function crm.to_queue(jsonb) is 'puts a message of Segmenter into the queue of its target';

revoke execute on function crm.queue(text), crm.to_queue(jsonb) from public;
grant execute on function crm.queue(text), crm.to_queue(jsonb) to crm;

-- A queue for each target. Where one is missing the message waits and is tried again.
select pgmq.create(crm.queue('mail'));
grant insert, select on pgmq.q_segmenter_mail to crm;

insert into segmenter_consumers (name, description, role, params)
values ('crm', 'messages go to pgmq', 'crm', '{"updater": {"function": {"name": "crm.to_queue(jsonb)"}}}');

commit;

-- Then, for a segment:
--     select segmenter_subscribe('crm', 'vip', 'mail');
-- And the reader:
--     select * from pgmq.read_grouped('segmenter_mail', 60, 10);
--     select pgmq.delete('segmenter_mail', 1);


-- With pg_net: the queue, and a bell.
--
-- pg_net sends after the commit, once, in no order, and keeps what it has to send in an
-- unlogged table: a request that fails, or that a crash meets, is gone, and Segmenter has
-- its acknowledgement already. So the members stay in the queue, and pg_net only tells the
-- reader that there is something. A ring that is lost costs nothing if the reader also
-- looks by itself now and then. To have the messages themselves sent by HTTP, with
-- retries and in order, use the updater "http".
/*
begin;

create function crm.to_queue_and_ring(message jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    receipt jsonb := crm.to_queue(message);
begin
    perform net.http_post(
        url => 'https://reader.example.com/ring',
        body => jsonb_build_object(
            'queue', crm.queue(message #>> '{audience,target}'),
            'message_id', message -> 'message_id'),
        headers => jsonb_build_object(
            'Content-Type', 'application/json',
            'Idempotency-Key', message ->> 'message_id'),
        timeout_milliseconds => 5000);
    return receipt;
end $$;
comment on function crm.to_queue_and_ring(jsonb) is 'puts a message of Segmenter into the queue of its target and tells the reader';

revoke execute on function crm.to_queue_and_ring(jsonb) from public;
grant execute on function crm.to_queue_and_ring(jsonb) to crm;

-- pg_net grants its tables to everybody by default; where that was taken back:
grant usage on schema net to crm;
grant insert, select on net.http_request_queue to crm;
grant usage on all sequences in schema net to crm;

update segmenter_consumers set params = '{"updater": {"function": {"name": "crm.to_queue_and_ring(jsonb)"}}}'
where name = 'crm' and actual_end = 'infinity';

commit;
*/
