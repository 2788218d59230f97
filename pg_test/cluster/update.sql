-- Segments and subscriptions of every kind in one set of the old version, made and served as the role that the session
-- is of. See update_set.sql for :set, :log and :home; update_faked.sql adds what only a superuser can make up.
\i :dir/update_set.sql

-- People, those who have left, and a way to write SQL of segments with the schema's name in it.
select format('create function sql(text) returns text language sql immutable as %L', format($$select replace($1, '{home}', %L)$$, quote_ident(:'home'))) \gexec
create table people (
    id text primary key, email text not null, phone text, vip boolean not null, at timestamptz not null default now()
);
insert into people select g, 'p' || g || '@example.org', nullif(g % 5, 0)::text, g % 10 = 0 from generate_series(1, 300) g;
create table gone (id text not null, at timestamptz not null default now());
select segmenter_watch('people');
create function plain() returns text language sql immutable as $$
    select sql('select p.id, md5(p.email) as hash_email, p.phone as hash_phone from {home}.people p where p.vip')
$$;
create function changed() returns text language sql immutable as $$
    select sql('select p.id, md5(p.email) as hash_email, p.phone as hash_phone from {home}.people p join changed using (id) where p.vip')
$$;
create function since() returns text language sql immutable as $$
    select sql('select id from {home}.people where at > $1 union all select id from {home}.gone where at > $1')
$$;
create function segment(name text, cron text default null, history boolean default false, query text default plain()) returns uuid language sql as $$
    select segmenter_create_segment(name, query, cron, sql('{home}.' || quote_ident('t ' || name)), history)
$$;
-- A refresh that must end like this.
create function refresh(segment text, expected text default 'ok', query text default null) returns text language plpgsql as $$
declare
    r record;
begin
    select * into r from segmenter_refresh(segment, query);
    if r.status <> expected then
        raise 'refresh of %: % instead of %: %', segment, r.status, expected, r.detail;
    end if;
    return r.status;
end
$$;
-- A consumer takes what waits, all or so many messages, and acknowledges it with receipts.
create function deliver(consumer text, most int default 1000) returns int language plpgsql as $$
declare
    m record;
    n int := 0;
begin
    while n < most loop
        select * into m from segmenter_claim(consumer);
        exit when not found;
        perform segmenter_ack(m.lease, m.message_id, jsonb_build_object('external_id', 'at ' || consumer, 'coverage', n, 'num_received', m.members));
        n := n + 1;
    end loop;
    return n;
end
$$;
select format('create procedure load(segment uuid) language sql as %L', sql($$
    delete from {home}."t procedure" where id in (select id from {home}.people where not vip);
    insert into {home}."t procedure" (segment_id, id, hash_email) select segment, id, md5(email) from {home}.people where vip on conflict (id) do nothing;
$$)) from (select segment('procedure')) s \gexec
-- Many statements change the definition of a segment.
select format('create function alter_segment(segment text, what text) returns void language plpgsql as %L', format($$
begin
    execute 'update ' || %L || ' set ' || what || format(' where name = %%L and actual_end = ''infinity''', segment);
end
$$, :'segments')) \gexec
create function incremental(full_cron text, key text, value jsonb) returns text language sql as $$
    select format('refresh_params = %L', jsonb_build_object('incremental', jsonb_strip_nulls(jsonb_build_object(key, value, 'sql', changed(), 'full_cron', full_cron))))
$$;

-- ---- Segments of every kind.
select segment('query', '30 6 1 2 *'), segment('history', null, true), segment('manual'), segment('never', '30 6 1 2 *'), segment('never, always');
select alter_segment('procedure', format('refresh_params = %L', jsonb_build_object('procedure', jsonb_build_object('sql', sql(
    (select format('call {home}.load(%L)', s.id) from :segments s where name = 'procedure'))))));
select alter_segment('history', 'refresh_auto = true');
select alter_segment('never, always', 'refresh_auto = true');
select segment('since', '30 6 1 2 *', true), segment('since, always'), segment('since, full', null), segment('since, one-off'), segment('since, redefined'), segment('since, erased'),
    segment('watching', '30 6 1 2 *', true), segment('watching, always'), segment('watching, full'), segment('watching, failed');
select alter_segment('since', incremental('@yearly', 'changed', to_jsonb(since())));
select alter_segment('since, always', incremental(null, 'changed', to_jsonb(since())) || ', refresh_auto = true');
-- Its next pass is full, since that is due every second.
select alter_segment('since, full', incremental('1 second', 'changed', to_jsonb(since())));
select alter_segment('since, one-off', incremental(null, 'changed', to_jsonb(since())));
select alter_segment('since, redefined', incremental(null, 'changed', to_jsonb(since())));
select alter_segment('since, erased', incremental(null, 'changed', to_jsonb(since())));
select alter_segment('watching', incremental('@yearly', 'watch', jsonb_build_array(sql('{home}.people'))));
select alter_segment('watching, always', incremental(null, 'watch', jsonb_build_array(sql('{home}.people'))) || ', refresh_auto = true');
select alter_segment('watching, full', incremental('1 second', 'watch', jsonb_build_array(sql('{home}.people'))));
select alter_segment('watching, failed', incremental(null, 'watch', jsonb_build_array(sql('{home}.people'))) || ', refresh_auto = true, refresh_cron = ''30 6 1 2 *''');
create table shared (like :mart including defaults, unique (segment_id, id));
create table shared_history (like :mart including defaults);
create unique index on shared_history (segment_id, id) where actual_end = 'infinity';
insert into :segments (name, table_name, refresh_auto, refresh_cron, refresh_params)
select 'shared ' || n, t, n % 2 = 0, '30 6 1 2 *', jsonb_build_object('query', jsonb_build_object('sql', plain() || ' and length(p.id) = ' || n))
from generate_series(2, 3) n, unnest('{shared}'::regclass[]) t
union all
select 'shared history ' || n, t, false, null, jsonb_build_object('query', jsonb_build_object('sql', plain() || ' and length(p.id) = ' || n))
from generate_series(2, 3) n, unnest('{shared_history}'::regclass[]) t;
select segment('one-off'), segment('failed once', '30 6 1 2 *'), segment('failed twice', '30 6 1 2 *'), segment('failed at first', '30 6 1 2 *'), segment('failed, always'),
    segment('failed and well', '30 6 1 2 *'), segment('refused', '30 6 1 2 *'), segment('refused after failures', '30 6 1 2 *'),
    segment('waiting', '30 6 1 2 *'), segment('waiting at first', '30 6 1 2 *'), segment('waiting after failures', '30 6 1 2 *'), segment('waited', '30 6 1 2 *'), segment('waiting, always'),
    segment('retired', '30 6 1 2 *'), segment('retired, failed', '30 6 1 2 *'), segment('running', '30 6 1 2 *'), segment('running at first', '30 6 1 2 *'),
    segment('interrupted', '30 6 1 2 *'), segment('pruned', '30 6 1 2 *'), segment('strange', '30 6 1 2 *'), segment('lost'), segment('deleted'), segment('old name'), segment('base', null, true);
select alter_segment('failed, always', 'refresh_auto = true'), alter_segment('waiting, always', 'refresh_auto = true');
alter table "t base" add extra text default 'x', add other text default 'y';

select refresh(name) from unnest('{query,history,manual,procedure,since,"since, always","since, full","since, one-off","since, redefined","since, erased",watching,"watching, always","watching, full","watching, failed",shared 2,shared 3,shared history 2,shared history 3,one-off,failed once,failed twice,"failed, always",failed and well,refused,refused after failures,waiting,"waiting, always",waiting after failures,waited,retired,"retired, failed",running,interrupted,pruned,strange,lost,deleted,old name}'::text[]) name;

-- ---- Subscriptions of every kind, each with a consumer of its own.
create function subscribe(consumer text, segment text, params jsonb default '{}') returns uuid language sql as $$
    select segmenter_subscribe(consumer, segment, 'ads', params)
$$;
select format('create function alter_subscription(consumer text, what text) returns void language plpgsql as %L', format($$
begin
    execute 'update ' || %L || ' u set ' || what || ' from ' || %L || format(' c where c.id = u.consumer_id and c.name = %%L', consumer);
end
$$, :'subscriptions', :'consumers')) \gexec
select subscribe('delivered', 'base'), subscribe('half', 'base', '{"batch_size": 5}'), subscribe('leased', 'base', '{"batch_size": 5}'),
    subscribe('expired', 'base'), subscribe('stuck', 'base'), subscribe('nacked', 'base'), subscribe('ended', 'base'), subscribe('ended, not served', 'base'),
    subscribe('ended, new', 'base'), subscribe('revived', 'base'), subscribe('fields', 'base', '{"fields": ["hash_email"]}'),
    subscribe('fields, not served', 'base'), subscribe('failed', 'base', '{"fields": ["id", "extra"]}'), subscribe('failed, mended', 'base', '{"fields": ["id", "extra"]}'),
    subscribe('failed at first', 'base'), subscribe('replace', 'base', '{"mode": "replace"}'), subscribe('key', 'base', '{"fields": {"id": "key", "hash_phone": "phone"}}'),
    subscribe('skipped', 'base'), subscribe('resynced', 'base'), subscribe('later', 'base'), subscribe('deleted', 'base'), subscribe('retired', 'base'),
    subscribe('of retired', 'retired'), subscribe('of retired, served', 'retired, failed'), subscribe('of since', 'since'), subscribe('of watching', 'watching'), subscribe('of latest', 'query'), subscribe('of lost', 'lost');
select alter_subscription('later', 'cron = ''@yearly''');
update :consumers set params = '{"max_attempts": 1}' where name = 'stuck';
select alter_subscription('ended, new', 'actual_end = now()');
select alter_subscription('failed at first', 'params = ''{"fields": ["id", "other"]}''');
alter table "t base" drop other;
-- Whom they were served.
select refresh('base'), refresh('retired'), refresh('retired, failed'), refresh('since'), refresh('watching'), refresh('query'), refresh('lost');
select deliver(c) from unnest('{delivered,ended,revived,fields,"fields, not served",failed,"failed, mended",replace,key,resynced,deleted,retired,"of retired, served",of since,of watching,of latest}'::text[]) c;
select deliver('half', 2);
-- What is claimed in the end, stays claimed: half of it, or all, or for a moment only.
create table leases as select 'half' as consumer, c.* from segmenter_claim('half', 3, '1 day') c;
select segmenter_ack(lease, message_id, '{"external_id": "at half"}') from leases order by message_id limit 1;
insert into leases select 'leased', c.* from segmenter_claim('leased', 2, '1 day') c;
insert into leases select 'expired', c.* from segmenter_claim('expired', 2, '1 millisecond') c;
select segmenter_nack(lease, message_id, 'no way') from segmenter_claim('stuck');
select segmenter_nack(lease, message_id, 'not now', '1 day') from segmenter_claim('nacked');
select segmenter_skip(u.id) from :subscriptions u join :consumers c on c.id = u.consumer_id where c.name = 'skipped';

-- Others ended, or have other fields, before and after that was handed over.
select alter_subscription('ended', 'actual_end = now()');
select alter_subscription('revived', 'actual_end = now()');
select alter_subscription('fields', 'params = ''{"fields": ["id"]}''');
alter table "t base" drop extra;
insert into people select g, 'p' || g || '@example.org', null, true from generate_series(401, 405) g;
update people set email = 'new ' || id, at = clock_timestamp() where id in ('10', '20');
-- One is changed by nobody: it has entries of hand-overs that failed only.
select refresh('base');
select deliver(c) from unnest('{delivered,ended,revived,fields,replace,key}'::text[]) c;
select alter_subscription('revived', 'actual_end = ''infinity''');
select alter_subscription('ended, not served', 'actual_end = now()');
select alter_subscription('fields, not served', 'params = ''{"fields": ["id", "hash_phone"]}''');
update :consumers set actual_end = now() where name = 'retired';
select segmenter_resync(u.id) from :subscriptions u join :consumers c on c.id = u.consumer_id where c.name = 'resynced';
delete from :subscriptions where consumer_id in (select id from :consumers where name = 'deleted');
-- (A segment that was never refreshed is not handed over any more: upstream.sql.)
select subscribe('new', 'base');

-- ---- What became of the segments.
select refresh(name) from unnest('{query,history,procedure,since,"since, always","since, full","since, redefined","since, erased",watching,"watching, always","watching, full",waited,pruned}'::text[]) name;
select refresh('one-off', query => $$select '10' as id$$), refresh('since, one-off', query => $$select '10' as id, 'x' as hash_email$$);
-- Now each pass is over what has changed: these are recorded, and not read.
update people set email = 'newer ' || id, at = clock_timestamp() where id in ('30', '40');
create function break(segment text) returns void language sql as $$
    select alter_segment(segment, $r$refresh_params = '{"query": {"sql": "select 1 / 0 as id"}}'$r$)
$$;
select break('failed once');
select break('failed twice');
select break('failed at first');
select break('failed, always');
select break('failed and well');
select break('waiting after failures');
select break('refused after failures');
select break('retired, failed');
select refresh(name, 'failed') from unnest('{failed once,failed twice,failed twice,failed at first,"failed, always","failed, always",failed and well,failed and well,waiting after failures,waiting after failures,refused after failures,"retired, failed"}'::text[]) name;
-- An incremental one that fails keeps how far it has got.
revoke select on people from current_user;
select refresh('watching, failed', 'failed');
grant select on people to current_user;
do $$
declare
    plain text := format('refresh_params = %L', jsonb_build_object('query', jsonb_build_object('sql', plain())));
begin
    perform alter_segment('failed and well', plain);
    perform alter_segment('refused after failures', plain || $g$, guards = '{"max_change": 0.0001}'$g$);
    perform alter_segment('refused', $g$guards = '{"max_change": 0.0001}'$g$);
    perform alter_segment('waiting', $g$sources = '[{"name": "the load", "ready": "select false"}]'$g$);
    perform alter_segment('waiting at first', $g$sources = '[{"name": "the load", "ready": "select false"}]'$g$);
    perform alter_segment('waiting after failures', $g$sources = '[{"name": "the load", "ready": "select false"}]'$g$);
    perform alter_segment('waiting, always', $g$sources = '[{"name": "the load", "ready": "select false"}]'$g$);
    perform alter_segment('waited', $g$sources = '[{"name": "the load", "ready": "select false"}]'$g$);
    perform alter_segment('since, redefined', incremental('@yearly', 'changed', to_jsonb(since())));
end
$$;
select refresh('failed and well'), refresh('refused', 'refused'), refresh('refused after failures', 'refused');
select refresh(name, 'waiting') from unnest('{waiting,waiting,"waiting, always",waiting at first,waiting after failures,waited}'::text[]) name;
select alter_segment('waited', $$sources = '[]'$$);
select refresh('waited');
select alter_segment('retired', 'actual_end = now()');
select alter_segment('retired, failed', 'actual_end = now()');
-- A name that was used before.
select segmenter_create_segment('retired', plain(), '30 6 1 2 *', sql('{home}."t retired again"'));
select alter_segment('old name', 'name = ''new name''');
delete from :segments where name = 'deleted';
drop table "t lost";
select refresh('lost', 'failed');

-- Somebody was erased, and is still among those who changed.
insert into gone values ('50');
delete from people where id = '50';
select count(*) from segmenter_erase('50');
select alter_subscription('failed, mended', 'params = ''{"fields": ["id"]}''');
-- The last changes are not read.
update people set email = 'newest ' || id, at = clock_timestamp() where id in ('60', '61', '70');
