-- Config rows are checked when they are written: what is wrong is named, with a hint, and nothing
-- of the row stays.
\i setup/columns.sql
create schema config;
create table config.model (:columns);
create table config.a (like config.model including all, unique (id));
create table config.b (like config.model including all, unique (segment_id, id));

-- The SQLSTATE, the message and the hint of a statement that must fail; what it did is undone.
create procedure config.try(statement text) language plpgsql as $$
declare
    hint text;
begin
    execute statement;
    raise 'it was accepted';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    raise info '[%] %', sqlstate, concat_ws(E'\nHINT:  ', sqlerrm, nullif(hint, ''));
end $$;
create procedure config.try_segment(field text, value text) language plpgsql as $$
begin
    call config.try(format('insert into segmenter_segments (name, table_name, %I) values (''s'', ''config.b'', %L)', field, value));
end $$;
-- The same of values that are of a wrong kind altogether, short.
create procedure config.refuse_all(statement text, variadic vals text[]) language plpgsql as $$
declare
    value text;
begin
    foreach value in array vals loop
        begin
            execute format(statement, value);
            raise 'it was accepted';
        exception when others then
            raise info '% -> [%] %', coalesce(value, 'NULL'), sqlstate, split_part(sqlerrm, ':', 1);
        end;
    end loop;
end $$;
create procedure config.refuse(field text, variadic vals text[]) language plpgsql as $$
begin
    call config.refuse_all(format('insert into segmenter_segments (name, table_name, %I) values (''s'', ''config.b'', %%L)', field), variadic vals);
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
call config.try_segment('refresh_params', '{"incremental": {"sql": "select 1 as id"}}');
call config.refuse('refresh_params', '{"query": "select 1 as id"}', '{"query": {"sql": null}}', '{"query": {"sql": ["select 1 as id"]}}',
    '{"Query": {"sql": "select 1 as id"}}', '"query"', '[]', 'null', null);

-- guards.
call config.try_segment('guards', '{"max_removd": 5}');
call config.try_segment('guards', '{"max_change": 10}');
call config.try_segment('guards', '{"min_members": 5, "max_members": 4}');
call config.refuse('guards', '{"max_removed": -5}', '{"max_removed": 0.5}', '{"max_removed": "5"}', '{"max_removed": null, "x": 1}',
    '{"max_change": -0.1}', '{"max_change": "0.1"}', '{"allow_empty": "yes"}', '[]', '[1]', '5', 'null', null);

-- sources.
call config.try_segment('sources', '[{"table": "dwh.orders", "loaded": "loaded_at"}]');
call config.try_segment('sources', '[{"name": "orders"}]');
call config.try_segment('sources', '[{"table": "dwh.orders", "min_rows": 1}, {"name": "orders", "ready": "select true", "table": "dwh.orders"}]');
call config.try_segment('sources', '[{"loaded_at": "loaded_at"}]');
call config.refuse('sources', '[{"table": "dwh.orders", "min_rows": -1}]', '[{"table": "dwh.orders", "error_after": 1}]', '[{}]',
    '["dwh.orders"]', '{"table": "dwh.orders"}', 'null', null);

-- refresh_cron and refresh_timezone.
call config.try_segment('refresh_cron', '0 24 * * *');
call config.try_segment('refresh_cron', '60 * * * *');
call config.try_segment('refresh_cron', '* * 0 * *');
call config.try_segment('refresh_cron', '* * * jun,foo *');
call config.try_segment('refresh_cron', '* * * * mon-funday');
call config.try_segment('refresh_cron', '* * * *');
call config.try_segment('refresh_cron', '@dayly');
call config.try_segment('refresh_cron', '60 seconds');
call config.refuse('refresh_cron', '*/0 * * * *', '30-20 * * * *', '5/2 * * * *', '* * * * * *', '1,,2 * * * *', '-1 * * * *', '* * $,1 * *', '@daily x', '');
call config.try_segment('refresh_timezone', 'Europe/Berlyn');
call config.refuse('refresh_timezone', '+02', 'CEST-1', '');

-- Objects are written as objects: a list of their values is none.
call config.refuse('refresh_params', '{"query": ["select 1 as id"]}', '{"incremental": ["select 1 as id", "select id from changed"]}');
call config.try_segment('guards', '[1]');
call config.refuse('sources', '[["dwh.orders", null, null, null, null, 1]]');
call config.refuse_all('insert into segmenter_consumers (name, params) values (''c'', %L)', '[]', '["pull", 3]', '5', 'null');

-- What must be there, and how it must be.
call config.try('insert into segmenter_segments (name, table_name) values (null, ''config.b'')');
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

-- An owner that is not given is the caller.
insert into segmenter_segments (name, table_name, owner) values ('s', 'config.b', null);
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
call config.refuse_all('update segmenter_subscriptions set params = %L', '[]', '["replace", 5]', '5', 'null');
call config.try(config.subscription('cron', '0 25 * * *'));
call config.try(config.subscription('timezone', 'Mars/Olympus'));
call config.try(config.subscription('status', 'lost'));
call config.try(config.subscription('target', null));
call config.try(config.subscription('segment_id', '00000000-0000-0000-0000-000000000000'));
update segmenter_subscriptions set params = '{"mode": "replace", "batch_size": 100, "fields": {"id": "user"}}', cron = '0 9 * * *', timezone = 'Asia/Tokyo';
update segmenter_subscriptions set params = '{"mode": "delta", "fields": ["id", "hash_email"]}';
call config.try('insert into segmenter_subscriptions (consumer_id, segment_id, target) select consumer_id, segment_id, target from segmenter_subscriptions');
update segmenter_subscriptions set actual_end = now();
insert into segmenter_subscriptions (consumer_id, segment_id, target) values (:'consumer', :'segment', 'ads');
call config.try('delete from segmenter_segments where name = ''A''');

delete from segmenter_subscriptions;
delete from segmenter_consumers;
delete from segmenter_segments;
set client_min_messages = warning;
drop schema config cascade;

-- What a subscription hands over is checked when it is said: the rest can be changed whatever has become of it.
select segmenter_create_segment('config_fields', 'select 1 as id, 2 as more', table_name => 'public.config_fields') is not null as created;
select segmenter_subscribe('config_fields', 'config_fields', 'x', '{"fields": ["id", "more"]}') is not null as subscribed;
alter table public.config_fields drop column more;
update segmenter_subscriptions set params = '{"fields": ["id", "more"], "batch_size": 5}' where target = 'x';
update segmenter_subscriptions set actual_end = now() where target = 'x' returning actual_end <> 'infinity' as ended;
delete from segmenter_subscriptions where target = 'x';
delete from segmenter_consumers where name = 'config_fields';
delete from segmenter_segments where name = 'config_fields';
drop table public.config_fields;
