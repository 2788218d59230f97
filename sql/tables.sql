-- What belongs to the extension whatever sets of service relations there are. The sets themselves are in
-- set.sql.

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
comment on table segmenter_registry is 'the sets of service relations: one row a set, the extension''s own among them';
comment on column segmenter_registry.mart is 'the mart, by whose name the set is called';
comment on column segmenter_registry.segments is 'what the segments are';
comment on column segmenter_registry.consumers is 'who receives segments';
comment on column segmenter_registry.subscriptions is 'who follows which segment';
comment on column segmenter_registry.log is 'what happened';
comment on column segmenter_registry.outbox is 'the messages for consumers';
comment on column segmenter_registry.deliveries is 'how far each subscription is delivered';
comment on column segmenter_registry.status is 'the view that a DBA looks at';

-- Written by triggers, which know its four columns by their place.
create table segmenter_changes (
    source    oid   not null,
    id_column name  not null,
    xid       xid8  not null,
    ids       text[]
);
create index segmenter_changes_idx on segmenter_changes (source, xid);
-- Compressing ids takes longer than writing them.
alter table segmenter_changes alter ids set storage external;
comment on table segmenter_changes is 'ids written in watched tables, until every segment that watches them has read them: one row a statement';
comment on column segmenter_changes.source is 'the table, pg_class.oid';
comment on column segmenter_changes.id_column is 'the column that held the ids';
comment on column segmenter_changes.xid is 'the transaction that wrote them';
comment on column segmenter_changes.ids is 'the ids; null: all of them, since the table was truncated, or has no such column any more; none: changes up to this one were pruned';
