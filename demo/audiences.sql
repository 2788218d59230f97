-- The demo's second half: consumers. Played by bin/demo after demo.sql, with :socket, :port (where the
-- ad cabinet listens), :directory (where consumers keep their audiences) and :puller (a command).

\set ECHO none
\set VERBOSITY terse
\pset pager off
\pset footer off

\c demo postgres
select format('http://127.0.0.1:%s/', :'port') as url \gset
alter system set segmenter.databases = 'demo';
select format('alter system set segmenter.http_allow = %L', :'url') \gexec
select pg_reload_conf() \g /dev/null
-- Until all is handed over, and delivered to the ad cabinet; for a minute at most.
create or replace procedure shop.until_delivered() language plpgsql as $$
begin
    for n in 1..600 loop
        exit when not exists (
            select from segmenter_subscriptions u
            left join lateral (
                select l.params -> 'operations' ->> 0 as first from segmenter_log l
                where l.subscription_id = u.id and l.action = 'hand over' order by l.id desc limit 1
            ) last on true
            where last.first is null or (last.first <> 'delete' and u.actual_end <> 'infinity')
               or (u.target = 'ads' and exists (
                   select from segmenter_outbox o join segmenter_deliveries d using (subscription_id)
                   where o.subscription_id = u.id and o.id > d.delivered_through))
        );
        if n = 600 then raise exception 'the ad cabinet was not served'; end if;
        commit;
        perform pg_sleep(0.1);
    end loop;
end
$$;
\c demo marketing

\echo
\echo '13. Two consumers subscribe: a mail tool that fetches its messages itself, and an ad cabinet whose'
\echo 'URL the background workers call'
\set ECHO queries
select segmenter_subscribe('mail tool', 'win_back', 'newsletter', '{"fields": ["id", "hash_email"]}') is not null as subscribed;
insert into segmenter_consumers (name, role, params)
values ('ad cabinet', 'marketing', jsonb_build_object('updater', jsonb_build_object('http',
        jsonb_build_object('url', :'url', 'secret', 'for the demo'))));
select segmenter_subscribe('ad cabinet', 'recent_buyers', 'ads',
       '{"fields": {"hash_email": "email", "hash_phone": "phone"}, "batch_size": 500}') is not null as subscribed;

\set ECHO none
call shop.until_delivered();
\! eval "$DEMO_PULLER"
\echo 'The workers have handed over every member; the mail tool has fetched its messages (with'
\echo 'examples/puller.py), the ad cabinet has got its own'
\set ECHO queries
select name, update_consumer, update_status, pending_messages, coverage, last_receipt
from segmenter_status where update_consumer is not null order by update_consumer;

\set ECHO none
\c demo postgres
update shop.today set date = date + 1;
select shop.trade('thursday', 190) \g /dev/null
update shop.customers set consent = false where shop.dice('leaves' || id) < 0.02;
\c demo marketing
\echo '14. Thursday: 190 orders, and some do not want to hear of us any more. Only what changed goes out'
\set ECHO queries
select segment, added, removed, changed, messages from segmenter_run() where messages > 0;

\set ECHO none
call shop.until_delivered();
\! eval "$DEMO_PULLER"
\set mail `cat "$DEMO_DIRECTORY"/mail/*.json`
\set ads `cat "$DEMO_DIRECTORY"/audience.json`
create temporary table mail_tool as select jsonb_array_elements(:'mail'::jsonb -> 'members') as member;
create temporary table ad_cabinet as select jsonb_array_elements(:'ads') as member;
\echo '15. Is the audience over there the segment here? What either side has beyond the other'
\set ECHO queries
with here as (
    select jsonb_build_object('id', id, 'hash_email', hash_email) as member
    from win_back where actual_end = 'infinity')
select 'mail tool' as consumer,
       (select count(*) from here) as here, (select count(*) from mail_tool) as over_there,
       (select count(*) from (table here except all table mail_tool) x) as missing_there,
       (select count(*) from (table mail_tool except all table here) x) as too_many_there;
with here as (
    select jsonb_build_object('email', hash_email, 'phone', hash_phone) as member
    from recent_buyers where actual_end = 'infinity')
select 'ad cabinet' as consumer,
       (select count(*) from here) as here, (select count(*) from ad_cabinet) as over_there,
       (select count(*) from (table here except all table ad_cabinet) x) as missing_there,
       (select count(*) from (table ad_cabinet except all table here) x) as too_many_there;

\set ECHO none
-- Checked, not only shown.
with mail_here as (
    select jsonb_build_object('id', id, 'hash_email', hash_email) from win_back where actual_end = 'infinity'
), ads_here as (
    select jsonb_build_object('email', hash_email, 'phone', hash_phone) from recent_buyers where actual_end = 'infinity'
)
select not exists (
    (table mail_here except all table mail_tool) union all (table mail_tool except all table mail_here)
    union all (table ads_here except all table ad_cabinet) union all (table ad_cabinet except all table ads_here)
) and exists (table mail_here) and exists (table ads_here) as equal \gset
\if :equal
    \echo 'Checked: for both of them the audience over there equals the segment here.'
\else
    \echo 'ERROR:  an audience is not what its segment is'
    select 1 / 0;
\endif

-- A customer who opted out on Thursday and was in the ad cabinet's audience until then.
select min(m.id) as opted_out from recent_buyers m
where m.actual_end > localtimestamp - interval '1 minute' and m.actual_end < 'infinity'
  and exists (select from no_consent n where n.id = m.id and n.actual_end = 'infinity') \gset
\echo
\echo '16. Why is customer' :opted_out 'not in it any more, and what has happened to this customer?'
\set ECHO queries
select step, verdict, left(detail, 90) as detail from segmenter_explain('recent_buyers', :'opted_out')
where step in ('table', 'query', 'excluded', 'captured');
select at::time(0), event, segment, reason, left(detail, 40) as detail
from segmenter_timeline(:'opted_out') order by at desc limit 5;

\set ECHO none
\echo '17. Try before: how large would it be, who would come and go?'
\set ECHO queries
select members, already from segmenter_preview('select id from shop.customers where registered > ''2026-02-01''');
select operation, count(*) from segmenter_diff('win_back', $$
    select id, hash_email, hash_phone, spent
    from marketing.win_back where actual_end = 'infinity' and spent > 1500 $$) group by operation;

\set ECHO none
\echo '18. The end of a subscription has the audience deleted over there'
\set ECHO queries
update segmenter_subscriptions set actual_end = now() where target = 'ads';

\set ECHO none
call shop.until_delivered();
\set ads `cat "$DEMO_DIRECTORY"/audience.json`
truncate ad_cabinet;
insert into ad_cabinet select jsonb_array_elements(:'ads');
\set ECHO queries
select count(*) as over_there from ad_cabinet;
