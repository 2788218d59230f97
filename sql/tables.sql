-- Texts are passed to Rust as UTF-8.
do $$
begin
    if pg_catalog.getdatabaseencoding() operator(pg_catalog.<>) 'UTF8' then
        raise exception using
            errcode = 'feature_not_supported',
            message = pg_catalog.format('the encoding of database "%s" is %s', pg_catalog.current_database(), pg_catalog.getdatabaseencoding()),
            detail = 'Segmenter works in databases whose encoding is UTF8.',
            hint = 'Create a database with the encoding UTF8: create database with encoding ''UTF8'' template template0.';
    end if;
end
$$;

-- The extension's relations that belong to no relation set. The sets are defined in set.sql.

create table segmenter_registry (
    mart           regclass primary key,
    schema_version int not null
);
comment on table segmenter_registry is 'the relation sets, one row for each, the extension''s own included';
comment on column segmenter_registry.mart is 'the mart, whose name is the name of the set';
comment on column segmenter_registry.schema_version is 'the version of the definition that its relations have; the library works with a range of versions';

create table segmenter_registry_relations (
    mart     regclass not null,
    kind     text     not null,
    relation regclass not null unique,
    primary key (mart, kind)
);
comment on table segmenter_registry_relations is 'the relations of each set';
comment on column segmenter_registry_relations.mart is 'the set, by its mart';
comment on column segmenter_registry_relations.kind is 'what the relation is: mart, segments, consumers, subscriptions, log, outbox, deliveries, handovers, state, attempts, status';
comment on column segmenter_registry_relations.relation is 'the relation';

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
