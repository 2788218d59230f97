-- Config rows are checked when they are written: what is wrong is named, with a hint, and nothing
-- of the row stays.
create schema config;
create table config.model (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now()
);
create table config.a (like config.model including all, unique (id));
create table config.b (like config.model including all, unique (segment_id, id));

-- The SQLSTATE, the message and the hint of a statement that must fail.
create procedure config.try(statement text) language plpgsql as $$
declare
    hint text;
    detail text;
begin
    execute statement;
    raise info 'done';
exception when others then
    get stacked diagnostics hint = pg_exception_hint, detail = pg_exception_detail;
    raise info '[%] %', sqlstate, concat_ws(E'\n', sqlerrm, 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
end $$;
create procedure config.try_segment(field text, value text) language plpgsql as $$
begin
    call config.try(format('insert into segmenter_segments (name, table_name, %I) values (''s'', ''config.b'', %L)', field, value));
end $$;

-- What is given where nothing is said.
insert into segmenter_segments (name, table_name) values ('a', 'config.a');
select
    id is not null as has_id, name, description, table_name, owner = current_user::regrole as is_mine, context, refresh_auto,
    refresh_params, refresh_cron, refresh_timezone, sources, guards, actual_begin = now() as since_now, actual_end
from segmenter_segments
where name = 'a' and actual_begin > now() - interval '1 minute';

-- refresh_params.
call config.try_segment('refresh_params', '{"qery": {"sql": "select 1 as id"}}');
call config.try_segment('refresh_params', '{"query": {"sql": "select 1 as id"}, "procedure": {"sql": "call p()"}}');
call config.try_segment('refresh_params', '{"query": {"sql": "select 1 as id", "timeout": 5}}');
call config.try_segment('refresh_params', '{"query": {}}');
call config.try_segment('refresh_params', '{"query": "select 1 as id"}');
call config.try_segment('refresh_params', '{"query": {"sql": null}}');
call config.try_segment('refresh_params', '{"query": {"sql": ["select 1 as id"]}}');
call config.try_segment('refresh_params', '{"incremental": {"sql": "select 1 as id"}}');
call config.try_segment('refresh_params', '{"Query": {"sql": "select 1 as id"}}');
call config.try_segment('refresh_params', '"query"');
call config.try_segment('refresh_params', '[]');
call config.try_segment('refresh_params', 'null');
call config.try_segment('refresh_params', null);

-- guards.
call config.try_segment('guards', '{"max_removd": 5}');
call config.try_segment('guards', '{"max_removed": -5}');
call config.try_segment('guards', '{"max_removed": 0.5}');
call config.try_segment('guards', '{"max_removed": "5"}');
call config.try_segment('guards', '{"max_change": 10}');
call config.try_segment('guards', '{"max_change": -0.1}');
call config.try_segment('guards', '{"min_members": 5, "max_members": 4}');
call config.try_segment('guards', '{"allow_empty": "yes"}');
call config.try_segment('guards', '[]');
call config.try_segment('guards', 'null');
call config.try_segment('guards', null);

-- sources.
call config.try_segment('sources', '[{"table": "dwh.orders", "loaded": "loaded_at"}]');
call config.try_segment('sources', '[{"name": "orders"}]');
call config.try_segment('sources', '[{"name": "orders", "ready": "select true", "table": "dwh.orders"}]');
call config.try_segment('sources', '[{"loaded_at": "loaded_at"}]');
call config.try_segment('sources', '[{"table": "dwh.orders", "min_rows": -1}]');
call config.try_segment('sources', '[{"table": "dwh.orders", "error_after": 1}]');
call config.try_segment('sources', '["dwh.orders"]');
call config.try_segment('sources', '{"table": "dwh.orders"}');
call config.try_segment('sources', 'null');
call config.try_segment('sources', null);
-- A time span has to be one, and the name of a table or a column a name.
call config.try_segment('sources', '[{"table": "dwh.orders", "loaded_at": "loaded_at", "error_after": "1 dya"}]');
call config.try_segment('sources', '[{"table": "dwh.orders", "loaded_at": "loaded_at", "warn_after": "12 huors"}]');
call config.try_segment('sources', '[{"table": "a.b.c.d", "loaded_at": "loaded_at", "error_after": "1 day"}]');
-- Without a column to look at, an age cannot be told.
call config.try_segment('sources', '[{"table": "dwh.orders", "error_after": "1 day"}]');

-- refresh_cron and refresh_timezone.
call config.try_segment('refresh_cron', '0 24 * * *');
call config.try_segment('refresh_cron', '60 * * * *');
call config.try_segment('refresh_cron', '* * 0 * *');
call config.try_segment('refresh_cron', '* * * jun,foo *');
call config.try_segment('refresh_cron', '* * * * mon-funday');
call config.try_segment('refresh_cron', '*/0 * * * *');
call config.try_segment('refresh_cron', '30-20 * * * *');
call config.try_segment('refresh_cron', '* * * *');
call config.try_segment('refresh_cron', '* * * * * *');
call config.try_segment('refresh_cron', '@dayly');
call config.try_segment('refresh_cron', '60 seconds');
call config.try_segment('refresh_cron', '');
call config.try_segment('refresh_timezone', 'Europe/Berlyn');
call config.try_segment('refresh_timezone', '+02');
call config.try_segment('refresh_timezone', '');

-- What must be there, and how it must be.
call config.try_segment('name', null);
call config.try('insert into segmenter_segments (table_name) values (''config.b'')');
call config.try('insert into segmenter_segments (name) values (''s'')');
call config.try('insert into segmenter_segments (name, table_name) values ('''', ''config.b'')');
call config.try('insert into segmenter_segments (name, table_name) values (''s'', null)');
call config.try('insert into segmenter_segments (name, table_name) values (''s'', ''config.nothing'')');
call config.try('insert into segmenter_segments (name, table_name) values (''s'', 0)');
call config.try('insert into segmenter_segments (name, table_name) values (''s'', 4294967295)');
call config.try_segment('refresh_auto', null);
call config.try_segment('actual_end', null);
call config.try_segment('actual_begin', null);
call config.try_segment('actual_end', '1999-01-01');
call config.try_segment('owner', 'nobody_of_this_name');
call config.try_segment('owner', '4294967295');

-- An owner that is not given is the caller.
call config.try_segment('owner', null);
select owner = current_user::regrole as is_mine from segmenter_segments where name = 's';
delete from segmenter_segments where name = 's';

-- Updates are checked no less, and the row stays as it was.
call config.try('update segmenter_segments set refresh_params = ''{"x": 1}'' where name = ''a''');
call config.try('update segmenter_segments set guards = ''{"x": 1}'' where name = ''a''');
call config.try('update segmenter_segments set refresh_cron = ''* * * * 8'' where name = ''a''');
call config.try('update segmenter_segments set name = null where name = ''a''');
call config.try('update segmenter_segments set id = gen_random_uuid() where name = ''a''');
select refresh_params, guards, refresh_cron from segmenter_segments where name = 'a';

-- Names are unique among actual segments.
call config.try('insert into segmenter_segments (name, table_name) values (''a'', ''config.b'')');
insert into segmenter_segments (name, table_name) values ('A', 'config.b');
update segmenter_segments set actual_end = now() where name = 'a';
insert into segmenter_segments (name, table_name) values ('a', 'config.b');
select name, table_name, actual_end = 'infinity' as actual from segmenter_segments order by 1, 2;
call config.try('update segmenter_segments set actual_end = ''infinity'' where table_name = ''config.a''::regclass');

-- Everything that may be given.
update segmenter_segments set
    description = 'what it is', context = 'TASK-1', refresh_auto = true, refresh_cron = '*/15 6-22 $ jan-mar,12 Mon-Fri', refresh_timezone = 'Europe/Berlin',
    refresh_params = '{"procedure": {"sql": "call p()"}}',
    sources = '[{"table": "dwh.orders", "loaded_at": "loaded_at", "warn_after": "12 hours", "error_after": "1 day", "filter": "shop = 1", "min_rows": 1},
        {"name": "orders", "ready": "select true"}]',
    guards = '{"min_members": 1, "max_members": 10, "max_added": 5, "max_removed": 0, "max_change": 1, "allow_empty": true}'
where name = 'a' and actual_end = 'infinity';
update segmenter_segments set refresh_params = '{"incremental": {"changed": "select 1 as id", "sql": "select id from changed"}}', refresh_cron = '@DAILY'
where name = 'a' and actual_end = 'infinity';
update segmenter_segments set refresh_cron = '30 seconds', refresh_params = '{}', guards = '{}', sources = '[]', refresh_timezone = 'utc'
where name = 'a' and actual_end = 'infinity';

-- Consumers and subscriptions.
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"updater": "push"}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"updator": "pull"}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"updater": {"http": {"headers": {}}}}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"updater": {"function": {"name": "f", "x": 1}}}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"updater": {"function": {"name": "f"}, "http": {"url": "u"}}}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', ''{"max_attempts": -1}'')');
call config.try('insert into segmenter_consumers (name, params) values (''c'', null)');
call config.try('insert into segmenter_consumers (name) values (null)');
insert into segmenter_consumers (name, params) values ('pull', '{"updater": "pull", "max_attempts": 3}'),
    ('call', '{"updater": {"function": {"name": "crm.push(jsonb)"}}}'),
    ('http', '{"updater": {"http": {"url": "https://x", "headers": {"A": "b"}, "timeout": "5s", "secret": "s"}}}'),
    ('none', default);
call config.try('insert into segmenter_consumers (name) values (''pull'')');
update segmenter_consumers set actual_end = now() where name = 'pull';
insert into segmenter_consumers (name) values ('pull');

select id as segment from segmenter_segments where name = 'A' \gset
select id as consumer from segmenter_consumers where name = 'none' \gset
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'consumer', :'segment', 'ads');
select target, name, params, cron, timezone, status, external_id, actual_end from segmenter_subscriptions;
create function config.subscription(field text, value text) returns text language sql as $$
    select format('update segmenter_subscriptions set %I = %L', field, value)
$$;
call config.try(config.subscription('params', '{"mode": "all"}'));
call config.try(config.subscription('params', '{"batchsize": 1}'));
call config.try(config.subscription('params', '{"batch_size": 0}'));
call config.try(config.subscription('params', '{"fields": 5}'));
call config.try(config.subscription('params', null));
call config.try(config.subscription('cron', '0 25 * * *'));
call config.try(config.subscription('timezone', 'Mars/Olympus'));
call config.try(config.subscription('status', 'lost'));
call config.try(config.subscription('target', null));
call config.try(config.subscription('segment_id', '00000000-0000-0000-0000-000000000000'));
call config.try(config.subscription('params', '{"mode": "replace", "batch_size": 100, "fields": {"id": "user"}}'));
call config.try(config.subscription('params', '{"mode": "delta", "fields": ["id", "hash_email"]}'));
call config.try('insert into segmenter_subscriptions (consumer_id, segment_id, target) select consumer_id, segment_id, target from segmenter_subscriptions');
update segmenter_subscriptions set actual_end = now();
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'consumer', :'segment', 'ads');
call config.try('delete from segmenter_segments where name = ''A''');

delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
set client_min_messages = warning;
drop schema config cascade;
