-- Members are put together byte by byte as PostgreSQL would: many of them, with many fields, of all
-- sorts of types and values.
create schema payload;
create domain payload.code as varchar check (value <> '-');
create type payload.pair as (a int, b text);
create table payload.members (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    "ключ" text, "a ""b"" 'c'" text, short char(4), code payload.code, tags text[], pair payload.pair,
    flag boolean, int2 smallint, int8 bigint, num numeric, real4 real, real8 double precision,
    day date, at timestamptz, span interval, bytes bytea, uid uuid, j json, jb jsonb, net inet,
    c1 numeric, c2 text, c3 jsonb, c4 boolean, c5 numeric, c6 text, c7 jsonb, c8 numeric, c9 text,
    c10 text, c11 numeric, c12 jsonb, c13 boolean,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(), unique (id)
);
create view payload.source as
select
    g as id, repeat('e', g % 70) as hash_email, case when g % 3 > 0 then md5(g::text) end as hash_phone,
    'ж' || g as "ключ", '"\' || chr(10) || g as "a ""b"" 'c'", 'c' || g % 10 as short, nullif(g % 5, 0)::text as code,
    case when g % 4 > 0 then array[null, 'x' || g, ''] end as tags, row(g, null)::payload.pair as pair,
    nullif(g % 3, 0) = 1 as flag, (g % 100)::int2 as int2, g::int8 * 10000000000 as int8, g / 7.0 as num,
    case g % 4 when 1 then 'NaN' else g / 7.0 end::real as real4, g / 7.0::double precision as real8,
    date '2026-01-01' + g as day, timestamptz '2026-01-01 00:00Z' + g * interval '1 minute' as at, g * interval '1 hour' as span,
    decode(md5(g::text), 'hex') as bytes, md5(g::text)::uuid as uid, json_build_object('g', g, 'l', json_build_array(g, null)) as j,
    case g % 6
        when 0 then 'null' when 1 then '"text"' when 2 then g::text when 3 then 'true'
        when 4 then '{}' else '{"a": [1.50, {"b": "' || g || '"}], "c": null}'
    end::jsonb as jb,
    '10.0.0.1'::inet + g as net,
    g * 1.10 as c1, 'x' || g as c2, to_jsonb(g) as c3, g % 2 = 0 as c4, g * 123456789.123456789 as c5, '' as c6, '[]'::jsonb as c7,
    -g::numeric as c8, 'y' as c9, repeat(md5(g::text), case g % 50 when 0 then 300 else 0 end) as c10, 0::numeric as c11, '[1, "2", [3]]'::jsonb as c12,
    true as c13
from generate_series(1, 1234) g;
insert into segmenter_segments (name, table_name, refresh_params)
values ('payload', 'payload.members', '{"query": {"sql": "select * from payload.source"}}');
insert into segmenter_consumers (name) values ('payload');
insert into segmenter_subscriptions (consumer_id, segment_id, target, params)
select c.id, s.id, 'payload', jsonb_build_object('batch_size', 500, 'fields', (
    select jsonb_object_agg(a.attname, 'f' || repeat('x', a.attnum % 7) || a.attnum)
    from pg_attribute a
    where a.attrelid = s.table_name and a.attnum > 0 and a.attname not in ('segment_id', 'actual_begin', 'actual_end', 'processed')
))
from segmenter_consumers c, segmenter_segments s
where c.name = 'payload' and s.name = 'payload';
select segment, status, added, messages, detail from segmenter_refresh('payload');
set timezone = 'UTC';
set intervalstyle = postgres;
-- As it should be, in the same order.
create view payload.wanted as
select part, jsonb_agg(member order by number) as members
from (
    select
        t.number, (t.number - 1) / 500 + 1 as part,
        (select jsonb_object_agg(u.params -> 'fields' ->> f.key, f.value) from jsonb_each(to_jsonb(t) - 'number') f where u.params -> 'fields' ? f.key) as member
    from (select row_number() over () as number, m.* from payload.members m) t, segmenter_subscriptions u
    where u.target = 'payload'
) t
group by part;
select
    o.operation, o.part, o.parts, o.members, jsonb_array_length(o.payload -> 'members') as counted,
    o.payload -> 'members' = w.members as same,
    md5(jsonb_send(o.payload -> 'members')) = md5(jsonb_send(w.members)) as same_text,
    pg_column_size(o.payload -> 'members') = pg_column_size(w.members || '[]') as same_size,
    (select bool_and(o.payload -> 'members' -> i = w.members -> i) from generate_series(0, 499, 33) i) as same_one_by_one,
    o.payload::text::jsonb = o.payload as is_sound
from segmenter_outbox o
left join payload.wanted w on w.part = o.part and o.operation = 'add'
join segmenter_segments s on s.id = o.segment_id and s.name = 'payload'
order by o.id;
-- What has changed, from the delta.
select segment, status, added, removed, changed, messages, detail from segmenter_refresh('payload', 'select id, ''new'' as hash_email, code, case id when 4 then ''{"new": [1.50]}'' else jb end as jb from payload.source where id between 2 and 5 or id > 5 and id % 2 = 0');
select o.operation, o.part, o.parts, o.members, o.payload::text::jsonb = o.payload as is_sound, e.value ->> 'fxx2' as id, e.value ->> 'fxxx3' as hash_email, (select count(*) from jsonb_object_keys(e.value)) as keys
from segmenter_outbox o
join segmenter_segments s on s.id = o.segment_id and s.name = 'payload',
lateral (select value from jsonb_array_elements(o.payload -> 'members') with ordinality a (value, n) order by n limit 1) e
where o.run_id = (select run_id from segmenter_log where segment_name = 'payload' and action = 'refresh' order by id desc limit 1)
order by o.id;
reset timezone;
reset intervalstyle;

delete from segmenter_subscriptions where target = 'payload';
delete from segmenter_consumers where name = 'payload';
delete from segmenter_segments where name = 'payload';
delete from segmenter_log;
delete from segmenter_outbox;
set client_min_messages = warning;
drop schema payload cascade;

-- A message with its members is the object that PostgreSQL would make: as a text, in its size, by each key,
-- and in an index.
with heads (head) as (
    values
        ('{}'::jsonb),
        ('{"a": 1, "version": 1.50, "operation": "add", "part": 12345678901234567890, "parts": null}'),
        ('{"segment": {"id": "x", "name": "we;ird\"\".Näme"}, "audience": {}, "zzzzzzzz": [], "m": true, "membert": false, "memberr": [1, [2], {"k": "v"}]}'),
        ((select jsonb_object_agg(repeat('k', g % 40) || g, case when g % 3 = 0 then to_jsonb(g) when g % 3 = 1 then to_jsonb('v' || g) else jsonb_build_array(g, g::text) end) from generate_series(1, 100) g)),
        ((select jsonb_object_agg('members' || g, g * 1.5) from generate_series(1, 33) g))
), arrays (members) as (
    values
        ('[]'::jsonb),
        ('[{"id": "1", "n": 2.5}, {"id": "2", "n": null}]'),
        ((select jsonb_agg(jsonb_build_object('id', g::text, 'hash', md5(g::text))) from generate_series(1, 5000) g))
), made as (
    select segmenter_message(head, members) as made, head || jsonb_build_object('members', members) as expected, members
    from heads, arrays
)
select
    count(*) as messages,
    bool_and(made = expected) as equal,
    bool_and(made::text = expected::text) as same_text,
    bool_and(pg_column_size(made) = pg_column_size(expected)) as same_size,
    bool_and(jsonb_send(made) = jsonb_send(expected)) as same_binary,
    bool_and(made -> 'members' = members) as has_members,
    bool_and((select bool_and(made -> k = expected -> k) from jsonb_object_keys(expected) k)) as has_all,
    bool_and(jsonb_hash(made) = jsonb_hash(expected)) as same_hash
from made;
select segmenter_message('[]', '[]');
select segmenter_message('{}', '1');
select segmenter_message('{"members": 1}', '[]');
