-- The extension's relations that belong to no relation set. The sets are defined in set.sql.

create table segmenter_registry (
    mart          regclass primary key,
    segments      regclass not null,
    consumers     regclass not null,
    subscriptions regclass not null,
    log           regclass not null,
    outbox        regclass not null,
    deliveries    regclass not null,
    status        regclass not null
);
comment on table segmenter_registry is 'the relation sets, one row for each, the extension''s own included';
comment on column segmenter_registry.mart is 'the mart, whose name is the name of the set';
comment on column segmenter_registry.segments is 'the segments';
comment on column segmenter_registry.consumers is 'the consumers';
comment on column segmenter_registry.subscriptions is 'the subscriptions';
comment on column segmenter_registry.log is 'the log';
comment on column segmenter_registry.outbox is 'the messages for consumers';
comment on column segmenter_registry.deliveries is 'the delivery state';
comment on column segmenter_registry.status is 'the status view';

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
