-- The demo's second half: consumers. Played by bin/demo after demo.sql, with $DEMO_URL (where the ad
-- cabinet listens), $DEMO_TELL (a program that tells it what to do), $DEMO_PULLER (a command) and
-- $DEMO_DIRECTORY (where consumers keep their audiences).

\set ECHO none
\set VERBOSITY terse
\pset pager off
\pset footer off
\pset columns 96
\set url `echo "$DEMO_URL"`

\c demo postgres
-- A minute would be long here.
alter system set segmenter.retry_delay = '3s';
select pg_reload_conf() \g /dev/null
create function shop.is_delivered() returns boolean language sql as $$
    select not exists (
        select from segmenter_subscriptions u
        left join lateral (
            select l.params -> 'operations' ->> 0 as first from segmenter_log l
            where l.subscription_id = u.id and l.action = 'hand over' order by l.id desc limit 1
        ) last on true
        where last.first is null or (last.first <> 'delete' and u.actual_end <> 'infinity')
           or (u.target = 'ads' and exists (
               select from segmenter_outbox o join segmenter_deliveries d using (subscription_id)
               where o.subscription_id = u.id and o.id > d.delivered_through))
    )
$$;
-- For a minute at most.
create procedure shop.wait_until(condition text) language plpgsql as $$
declare
    is_so boolean;
begin
    for n in 1..600 loop
        execute 'select ' || condition into is_so;
        exit when is_so;
        if n = 600 then raise exception 'a minute was too short for: %', condition; end if;
        commit;
        perform pg_sleep(0.1);
    end loop;
end
$$;
-- The members of all audiences that the ad cabinet has, by its state.
create function shop.in_cabinet(state jsonb) returns table (audience text, member jsonb) language sql as $$
    select a.value ->> 'name', (select jsonb_object_agg(kind ->> 0, kind ->> 1) from jsonb_array_elements(m) kind)
    from jsonb_each(state -> 'audiences') a, jsonb_array_elements(a.value -> 'members') m
$$;

\echo
\echo '13. Two consumers subscribe: a mail tool that fetches its messages itself, and an ad account at Meta,'
\echo 'here a server on this machine that speaks Meta''s protocol. The DBA allows its URL, and its use'
\set ECHO queries
alter system set segmenter.http_allow = :'url';
create server meta foreign data wrapper segmenter_http
    options (connector 'meta', ad_account 'act_1234567890', url :'url');
grant usage on foreign server meta to marketing;
\set ECHO none
select pg_reload_conf() \g /dev/null
\c - marketing
\echo 'The team adds its access token, which is kept in the user mapping and nowhere else'
\set ECHO queries
create user mapping for marketing server meta options (access_token 'meta-token');
insert into segmenter_consumers (name, role, params)
values ('ad cabinet', 'marketing', '{"updater": {"server": "meta"}}');
select segmenter_subscribe('ad cabinet', 'recent_buyers', 'ads',
       '{"fields": ["hash_email", "hash_phone"], "batch_size": 500}') is not null as subscribed;
select segmenter_subscribe('mail tool', 'win_back', 'newsletter', '{"fields": ["id", "hash_email"]}') is not null as subscribed;
select srvname as server, usename as "user", srvoptions as options
from pg_user_mappings join pg_foreign_server using (srvname);

\set ECHO none
\echo '14. A run hands over all members. What will Meta get? The first two requests, with the token masked'
\set ECHO queries
select segment, messages from segmenter_run() where messages > 0;
\set ECHO none
\pset expanded on
\set ECHO queries
select step, method, url, headers, left(body, 90) as body
from segmenter_subscriptions u, segmenter_render(u.id) where target = 'ads' limit 2;
\set ECHO none
\pset expanded off

\c - postgres
\echo 'That is right. The DBA has background workers serve this database'
\o /dev/null
\set ECHO queries
alter system set segmenter.databases = 'demo';
select pg_reload_conf();
\set ECHO none
\o
\c - marketing
call shop.wait_until('shop.is_delivered()');
\! eval "$DEMO_PULLER"
\echo
\echo '15. They have delivered every member to Meta; the mail tool has fetched its messages (with'
\echo 'examples/puller.py)'
\set ECHO queries
select name, update_consumer, update_status, pending_messages, coverage, last_receipt
from segmenter_status where update_consumer is not null order by update_consumer;
\set ECHO none
\set cabinet `cat "$DEMO_DIRECTORY"/meta.json`
create temporary table ad_cabinet as select * from shop.in_cabinet(:'cabinet');
\echo 'What is in the ad cabinet, as it says itself'
\set ECHO queries
select audience, count(*) as members, count(member -> 'PHONE') as with_phone from ad_cabinet group by audience;

\set ECHO none
\c demo postgres
update shop.today set date = date + 1;
select shop.trade('thursday', 190) \g /dev/null
update shop.customers set consent = false where shop.dice('leaves' || id) < 0.02;
-- What the cabinet will say to the next two messages, first.
\! /usr/bin/python3 -c "$DEMO_TELL" fail '{"kind": "rate_limit", "method": "DELETE", "wait": 0}'
\! /usr/bin/python3 -c "$DEMO_TELL" fail '{"kind": "token_expired", "method": "POST"}'
\c demo marketing
select localtimestamp as thursday \gset
\echo '16. Thursday: 190 orders, and some do not want to hear of us any more. Only what changed goes out. Meta'
\echo 'has too much to do; that will pass, and the message is sent again after a while'
\set ECHO queries
select segment, added, removed, changed, messages from segmenter_run() where messages > 0;
\set ECHO none
call shop.wait_until('exists (select from segmenter_status where delivery_error is not null)');
\set ECHO queries
select update_consumer, pending_messages, left(delivery_error, 71) as delivery_error
from segmenter_status where delivery_error is not null;

\set ECHO none
call shop.wait_until('exists (select from segmenter_status where update_status = ''failed'')');
\! /usr/bin/python3 -c "$DEMO_TELL" set '{"token": "meta-token-2"}'
\echo '17. It was. But then the access token has expired, which does not pass: deliveries stop until someone'
\echo 'gives a new one'
\pset expanded on
\pset format wrapped
\set ECHO queries
select * from segmenter_doctor() where status = 'problem' and "check" <> 'summary';
\set ECHO none
\pset expanded off
\pset format aligned
\set ECHO queries
alter user mapping for marketing server meta options (set access_token 'meta-token-2');
select segmenter_retry('ad cabinet', 'recent_buyers', 'ads') as waiting_messages;

\set ECHO none
call shop.wait_until('shop.is_delivered()');
\! eval "$DEMO_PULLER"
\set mail `cat "$DEMO_DIRECTORY"/mail/*.json`
\set cabinet `cat "$DEMO_DIRECTORY"/meta.json`
create temporary table mail_tool as select jsonb_array_elements(:'mail'::jsonb -> 'members') as member;
create temporary table ad_cabinet as select * from shop.in_cabinet(:'cabinet');
\echo '18. Is the audience over there the segment here? What either side has beyond the other'
\set ECHO queries
with here as (
    select jsonb_build_object('id', id, 'hash_email', hash_email) as member
    from win_back where actual_end = 'infinity')
select 'mail tool' as consumer,
       (select count(*) from here) as here, (select count(*) from mail_tool) as over_there,
       (select count(*) from (table here except all table mail_tool) x) as missing_there,
       (select count(*) from (table mail_tool except all table here) x) as too_many_there;
with here as (
    select jsonb_strip_nulls(jsonb_build_object('EMAIL', hash_email, 'PHONE', hash_phone)) as member
    from recent_buyers where actual_end = 'infinity')
select 'ad cabinet' as consumer,
       (select count(*) from here) as here, (select count(*) from ad_cabinet) as over_there,
       (select count(*) from (table here except all select member from ad_cabinet) x) as missing_there,
       (select count(*) from (select member from ad_cabinet except all table here) x) as too_many_there;

\set ECHO none
-- Checked, not only shown.
with mail_here as (
    select jsonb_build_object('id', id, 'hash_email', hash_email) from win_back where actual_end = 'infinity'
), ads_here as (
    select 'recent_buyers' as audience, jsonb_strip_nulls(jsonb_build_object('EMAIL', hash_email, 'PHONE', hash_phone))
    from recent_buyers where actual_end = 'infinity'
)
select not exists (
    (table mail_here except all table mail_tool) union all (table mail_tool except all table mail_here)
) and not exists (
    (table ads_here except all table ad_cabinet) union all (table ad_cabinet except all table ads_here)
) and exists (table mail_here) and exists (table ads_here) and :'cabinet'::jsonb -> 'faults' = '[]'
and not exists (select from segmenter_doctor() where status = 'problem') as is_well \gset
\if :is_well
    \echo 'Checked: for both the audience over there equals the segment here; the doctor has no problem left.'
\else
    \echo 'ERROR:  an audience is not what its segment is, or something else is wrong'
    select 1 / 0;
\endif

-- A customer who opted out on Thursday and was in the ad cabinet's audience until then.
select min(m.id) as opted_out from recent_buyers m
where m.actual_end > :'thursday' and m.actual_end < 'infinity'
  and exists (select from no_consent n where n.id = m.id and n.actual_end = 'infinity') \gset
\echo
\echo '19. Why is customer' :opted_out 'not in it any more, and what has happened to this customer?'
\set ECHO queries
select step, verdict, left(detail, 90) as detail from segmenter_explain('recent_buyers', :'opted_out')
where step in ('table', 'query', 'excluded', 'captured');
select at::time(0), event, segment, reason, left(detail, 40) as detail
from segmenter_timeline(:'opted_out') order by at desc limit 5;

\set ECHO none
\echo '20. Try before: how large would it be, who would come and go?'
\set ECHO queries
select members, already from segmenter_preview('select id from shop.customers where registered > ''2026-02-01''');
select operation, count(*) from segmenter_diff('win_back', $$
    select id, hash_email, hash_phone, spent
    from marketing.win_back where actual_end = 'infinity' and spent > 1500 $$) group by operation;

\set ECHO none
\echo '21. The end of a subscription has the audience deleted over there'
\set ECHO queries
update segmenter_subscriptions set actual_end = now() where target = 'ads';

\set ECHO none
call shop.wait_until('shop.is_delivered()');
\set cabinet `cat "$DEMO_DIRECTORY"/meta.json`
truncate ad_cabinet;
insert into ad_cabinet select * from shop.in_cabinet(:'cabinet');
\set ECHO queries
select count(*) as over_there from ad_cabinet;

\set ECHO none
select c -> 'audiences' = '{}' and c -> 'faults' = '[]' as is_well from (select :'cabinet'::jsonb) x (c) \gset
\if :is_well
\else
    \echo 'ERROR:  the audience was not deleted'
    select 1 / 0;
\endif
