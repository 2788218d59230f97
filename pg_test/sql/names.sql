-- Hostile names: of segments, schemas, tables, columns, roles, and values that look like our SQL.
-- Every one of them is a name or a value and nothing else.
create schema "my ""schema";
create table "my ""schema"."pe;ople" ("i""d" int, "e-mail" text);
insert into "my ""schema"."pe;ople"
values (1, 'a'), (2, $$'; drop table "my ""schema"."pe;ople"; --$$), (3, '@table@'), (4, '$1'), (5, '{{name}}'), (6, '\'), (7, '%s %n');

create table "my ""schema"."we;ird"".Name" (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(),
    "se;lect" int, "@table@" text, "@members@" text, "$1" text, "a b" text, "select" text, "UPPER" text, "n1" text, "o1" text,
    q text, m text, t text, d text, s text, operation text, "per%cent" text, "back\slash" text, "ключ" text,
    "a column with a name of just as many bytes as a name may hold!!" text
);
create unique index "in;dex""" on "my ""schema"."we;ird"".Name" (id) where actual_end = 'infinity';

insert into segmenter_segments (name, table_name, refresh_params)
values ($$we;ird"".Na'me$$, '"my ""schema"."we;ird"".Name"', jsonb_build_object('query', jsonb_build_object('sql', $$
    select
        "i""d" as id, "e-mail" as hash_email, '@mart@' as hash_phone, "i""d" as "se;lect", "e-mail" as "@table@", '@old_values@' as "@members@",
        'x' as "$1", 'x' as "a b", 'x' as "select", "e-mail" as "UPPER", 'n' as "n1", 'o' as "o1",
        'q' as q, 'm' as m, 't' as t, 'd' as d, 's' as s, 'o' as operation, '%' as "per%cent", '\' as "back\slash", '🗝' as "ключ",
        'long' as "a column with a name of just as many bytes as a name may hold!!"
    from "my ""schema"."pe;ople" -- @received@ @table@
$$)));
select segment, status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
select segment, status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
select id, hash_email, hash_phone, "se;lect", "@table@", "@members@", "UPPER", "n1", "o1", q, m, "per%cent", "back\slash", "ключ"
from "my ""schema"."we;ird"".Name"
order by id;

-- A change, a leave, and a return, on history and, with another index, on the latest state.
update "my ""schema"."pe;ople" set "e-mail" = 'new' where "i""d" = 1;
delete from "my ""schema"."pe;ople" where "i""d" = 2;
select segment, status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
delete from "my ""schema"."we;ird"".Name" where actual_end <> 'infinity';
drop index "my ""schema"."in;dex""";
create unique index on "my ""schema"."we;ird"".Name" (id);
update "my ""schema"."pe;ople" set "e-mail" = 'old' where "i""d" = 1;
delete from "my ""schema"."pe;ople" where "i""d" = 3;
select segment, status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
insert into "my ""schema"."pe;ople" values (3, 'back');
select segment, status, added, removed, changed, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
select id, hash_email, "UPPER", "ключ" from "my ""schema"."we;ird"".Name" order by id;

-- Hostile ids.
select status, added, removed, detail from segmenter_refresh($$we;ird"".Na'me$$, $$
    select id, id as hash_email from (values
        (''), (' '), ('NULL'), (''''), ('"'), ('\'), (';--'), ('@table@'), ('$1'), ('é'), (E'e\u0301'), ('E'), ('e'), (E'\n'), (repeat('x', 1000))
    ) v (id)
$$);
select count(*), count(distinct id), bool_and(id = hash_email) as untouched
from "my ""schema"."we;ird"".Name"
where actual_end = 'infinity';

-- In errors, the log and the status they stand as they are.
select segment, status, detail from segmenter_refresh($$we;ird"".Na'me$$, 'select 1 as id, 2 as "no;such"" column"');
select segment, status, detail from segmenter_refresh($$no;such"'segment$$);
select segment_name, message from segmenter_log where status = 'failed' and segment_name like '%;%' order by id;
select name, table_name, last_status, coverage from segmenter_status where name like '%;%';

-- A member of a role with such a name may refresh, another may not.
create role "ro;le""'";
grant usage on schema "my ""schema" to "ro;le""'";
grant select on "my ""schema"."pe;ople" to "ro;le""'";
grant select, insert, update on "my ""schema"."we;ird"".Name" to "ro;le""'";
update segmenter_segments set owner = '"ro;le""''"' where name like '%;%';
select segment, status, coverage, detail from segmenter_refresh($$we;ird"".Na'me$$);
select owner from segmenter_segments where name like '%;%';
create role "Other";
set role "Other";
select segment, status, detail from segmenter_refresh($$we;ird"".Na'me$$);
set role "ro;le""'";
select segment, status, detail from segmenter_refresh($$we;ird"".Na'me$$);
insert into segmenter_segments (name, table_name, owner) values ('x', '"my ""schema"."we;ird"".Name"', '"Other"');
reset role;

-- Names of all lengths: a name has no limit, and a table's name is cut nowhere.
select segmenter_create_segment(repeat('ab', 31) || 'c', 'select 1 as id') is not null as created;
select segmenter_create_segment(repeat('ab', 32), 'select 1 as id');
select segmenter_create_segment(repeat('é', 32), 'select 1 as id');
select segmenter_create_segment(repeat('long ', 100), 'select 1 as id', table_name => '"my ""schema"."Long ""Table"') is not null as created;
select segmenter_create_segment($$bobby'"; drop table x; --$$, 'select 1 as id, 2 as "a;b""c", 3 as "ключ"') is not null as created;
select left(segment, 20) as segment, status, added, detail from segmenter_refresh(repeat('long ', 100));
select segment, status, added, detail from segmenter_refresh(repeat('ab', 31) || 'c');
select segment, status, added, detail from segmenter_refresh($$bobby'"; drop table x; --$$);
table "bobby'""; drop table x; --" limit 0;
select table_name from segmenter_status order by 1;

delete from segmenter_segments;
delete from segmenter_log;
drop table "bobby'""; drop table x; --", abababababababababababababababababababababababababababababababc;
set client_min_messages = warning;
drop schema "my ""schema" cascade;
drop role "Other", "ro;le""'";
