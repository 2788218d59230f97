-- A consumer whose messages go into pgmq queues, one queue for each target.
--
-- Run this as a superuser in a database with the extensions segmenter and pgmq. The background
-- workers must be enabled: they call the function, as the role crm.
--
-- Guarantees:
--   * pgmq.send() commits together with the acknowledgement. So each message is in its queue
--     exactly once, even if the worker or the server is stopped in between.
--   * Messages of one audience are in the queue in order (msg_id). Several readers keep the order
--     if they read with pgmq.read_grouped(): the group is the subscription.
--   * From the queue on, pgmq's guarantee applies: at least once. Repeats have the same message_id
--     in the message.
-- Not covered: segmenter_erase() does not remove a person from messages that are in the queue
-- already. The message that removes the person comes later in the queue. Delete the messages that
-- were read with pgmq.delete(), not pgmq.archive().

begin;

create role crm login;              -- the worker connects as this role
create schema crm;
grant usage on schema crm, pgmq to crm;

-- The name of a target's queue: 'segmenter_' and the target in lower-case letters, digits and '_'.
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

-- A queue for each target. If a queue is missing, the message waits and is retried.
select pgmq.create(crm.queue('mail'));
grant insert, select on pgmq.q_segmenter_mail to crm;

insert into segmenter_consumers (name, description, role, params)
values ('crm', 'messages go to pgmq', 'crm', '{"updater": {"function": {"name": "crm.to_queue(jsonb)"}}}');

commit;

-- Then subscribe a segment:
--     select segmenter_subscribe('crm', 'vip', 'mail');
-- The reader:
--     select * from pgmq.read_grouped('segmenter_mail', 60, 10);
--     select pgmq.delete('segmenter_mail', 1);


-- With pg_net: the queue, and an HTTP request that wakes the reader.
--
-- pg_net sends a request after the commit, once and in no particular order, and keeps it in an
-- unlogged table. A request that fails, or is lost in a crash, is not sent again, but the message
-- is acknowledged already. So the members stay in the queue, and pg_net only notifies the reader
-- that a message is there. A lost notification does no harm if the reader also polls the queue
-- from time to time. To send the messages themselves by HTTP, with retries and in order, use the
-- updater "http".
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

-- pg_net grants the use of its tables to PUBLIC by default. If that was revoked:
grant usage on schema net to crm;
grant insert, select on net.http_request_queue to crm;
grant usage on all sequences in schema net to crm;

update segmenter_consumers set params = '{"updater": {"function": {"name": "crm.to_queue_and_ring(jsonb)"}}}'
where name = 'crm' and actual_end = 'infinity';

commit;
*/
