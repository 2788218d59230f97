-- Texts are passed to Rust as UTF-8.
do $$
begin
    if pg_catalog.getdatabaseencoding() operator(pg_catalog.<>) 'UTF8' then
        raise exception using
            errcode = 'feature_not_supported',
            message = pg_catalog.format('the database''s encoding is %s, Segmenter needs UTF8', pg_catalog.getdatabaseencoding()),
            detail = pg_catalog.format('The database is "%s".', pg_catalog.current_database()),
            hint = 'Create a database with the encoding UTF8: create database ... with encoding ''UTF8'' template template0.';
    end if;
end
$$;

-- The extension's relations that belong to no relation set. The sets are defined in set.sql.

create function segmenter_role_named(name text) returns regrole
language sql immutable strict parallel safe
as $$ select r.oid from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) $1 $$;

-- pg_dump leaves out generated columns: in a restored database the owner is the role of that name.
create table segmenter_registry (
    mart           regclass primary key,
    schema_version int not null,
    owner_name     text,
    owner          regrole generated always as (segmenter_role_named(owner_name)) stored
);
comment on table segmenter_registry is 'the relation sets, one row for each, the extension''s own included';
comment on column segmenter_registry.mart is 'the mart, whose name is the name of the set';
comment on column segmenter_registry.schema_version is 'the version of the definition that its relations have; the library works with a range of versions';
comment on column segmenter_registry.owner_name is 'the name of its owner when it was made or adopted; null: the owner of the extension';
comment on column segmenter_registry.owner is 'its owner: the set works only while all its relations belong to this role; null: there was no role of that name';

create table segmenter_registry_relations (
    mart     regclass not null,
    kind     text     not null,
    relation regclass not null unique,
    name     text     not null,
    relkind  "char"   not null,
    primary key (mart, kind)
);
comment on table segmenter_registry_relations is 'the relations of each set';
comment on column segmenter_registry_relations.mart is 'the set, by its mart';
comment on column segmenter_registry_relations.kind is 'what the relation is: mart, segments, consumers, subscriptions, log, outbox, deliveries, handovers, withheld, reports, state, counts, attempts, alerts, alert_states, definitions, secret, kept_out, status, current';
comment on column segmenter_registry_relations.relation is 'the relation';
comment on column segmenter_registry_relations.name is 'its name when it was made or adopted; a relation that was renamed stays part of the set';
comment on column segmenter_registry_relations.relkind is 'its kind, pg_class.relkind: the set works only while it is of this kind';

create function segmenter_is_whole(mart oid) returns boolean
language sql stable parallel safe
as $$
    select not exists (
        select from @extschema@.segmenter_registry_relations k
        where k.mart operator(pg_catalog.=) $1
          and k.kind operator(pg_catalog.<>) all (array['status', 'current'])
          and not exists (
              select from pg_catalog.pg_class c
              where c.oid operator(pg_catalog.=) k.relation and c.relkind operator(pg_catalog.=) k.relkind
          )
    )
$$;

-- Triggers write its four columns by position.
create table segmenter_changes (
    source    oid   not null,
    id_column name  not null,
    xid       xid8  not null,
    ids       text[]
);
create index segmenter_changes_idx on segmenter_changes (source, xid);
-- Compressing ids takes longer than writing them uncompressed.
alter table segmenter_changes alter ids set storage external;
-- Without an identity PostgreSQL refuses to delete from a published table. A key would cost every writer.
alter table segmenter_changes replica identity full;
comment on table segmenter_changes is 'ids written in watched tables, until every segment that watches them has read them: one row for each statement';
comment on column segmenter_changes.source is 'the table, pg_class.oid';
comment on column segmenter_changes.id_column is 'the column that held the ids';
comment on column segmenter_changes.xid is 'the transaction that wrote them';
comment on column segmenter_changes.ids is 'the ids; null: all ids, since the table was truncated or the column dropped; empty: changes up to this one were pruned';

create table segmenter_change_readers (
    mart       regclass    not null,
    segment_id uuid        not null,
    read_at    timestamptz not null,
    cluster    text        not null,
    sources    oid[]       not null,
    through    xid8        not null,
    primary key (mart, segment_id)
) with (fillfactor = 50);
comment on table segmenter_change_readers is 'how far each segment has read the captured changes: what all of them have read is deleted. It is written by refreshes, in the transaction of each';
comment on column segmenter_change_readers.mart is 'the set, by its mart';
comment on column segmenter_change_readers.segment_id is 'the segment';
comment on column segmenter_change_readers.read_at is 'when it read';
comment on column segmenter_change_readers.cluster is 'the system identifier of the database cluster that the positions belong to';
comment on column segmenter_change_readers.sources is 'the tables that it watches, with their partitions and children, pg_class.oid';
comment on column segmenter_change_readers.through is 'the first transaction whose changes it may not have read';

create table segmenter_connectors (
    name        text    primary key,
    description text,
    spec        jsonb   not null,
    is_builtin  boolean not null default false,
    constraint segmenter_connectors_name_check check (name operator(pg_catalog.<>) '')
);
comment on table segmenter_connectors is 'the connectors: how ad platforms and other systems are reached. A foreign server names one in its option "connector"';
comment on column segmenter_connectors.name is 'the name';
comment on column segmenter_connectors.description is 'a description for people';
comment on column segmenter_connectors.spec is 'which options, secrets, requests and answers the platform has: docs/connectors.md';
comment on column segmenter_connectors.is_builtin is 'true: it comes with Segmenter, and is renewed with each version';

create table segmenter_requests (
    mapping      oid         not null,
    requested_at timestamptz not null,
    time_limit   interval
);
create index segmenter_requests_idx on segmenter_requests (mapping, requested_at);
-- Without an identity PostgreSQL refuses to delete from a published table.
alter table segmenter_requests replica identity full;
comment on table segmenter_requests is 'requests of the last day, of connectors whose platform limits them';
comment on column segmenter_requests.mapping is 'the user mapping they were made with, pg_user_mapping.oid';
comment on column segmenter_requests.requested_at is 'when a request ended: the platform got it before; of one that goes on, when its time limit ends';
comment on column segmenter_requests.time_limit is 'the time limit of a request that goes on; null: it has ended';
