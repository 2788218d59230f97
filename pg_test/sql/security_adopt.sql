-- A set is what it was made as: where its relations are given to another role, or replaced, nothing of it runs until
-- the new owner adopts it.
\i setup/security.sql
\i setup/schema.sql

\c - sgm_low
select segmenter_init('sgm.seg');
set segmenter.cfg_table = 'sgm.seg';
select segmenter_create_segment('sgm_own', 'select 1 as id', '@yearly', 'sgm.own') is not null as created;
select segmenter_subscribe('sgm_crm', 'sgm_own', 'sgm_mail') is not null as subscribed;
select status, coverage from segmenter_refresh('sgm_own');
select owner_name, owner, schema_version from segmenter_registry where mart = 'sgm.seg'::regclass;
select kind, name, relkind from segmenter_registry_relations where mart = 'sgm.seg'::regclass order by kind;
create function sgm.spring() returns trigger language plpgsql as $$
begin
    raise info '% as %', tg_name, current_user;
    if current_user <> 'sgm_low' then execute 'alter role sgm_low superuser'; end if;
    return new;
end
$$;
create trigger on_log before insert on sgm.seg_log for each row execute function sgm.spring();
create trigger on_segments before update on sgm.seg_segments for each row execute function sgm.spring();

-- The usual way to remove a role.
\c - sgm_admin
reassign owned by sgm_low to sgm_admin;
set segmenter.cfg_table = 'sgm.seg';
select status from segmenter_refresh('sgm_own');
\set VERBOSITY terse
select status from segmenter_run();
call segmenter_run_each();
select segmenter_claim('sgm_crm');
select segmenter_erase('1');
select segmenter_due();
select segmenter_drop_segment('sgm_own');
select segmenter_drop_set('sgm.seg', true);
select name, last_status, next_refresh from sgm.seg_status;
insert into sgm.seg_segments (name, table_name) values ('sgm_more', 'sgm.own');
alter table sgm.seg_segments disable trigger on_segments;
update sgm.seg_segments set description = 'touched';
alter table sgm.seg_segments enable trigger on_segments;
select owner, segments from segmenter_sets() where cfg_table = 'sgm.seg';
select * from segmenter_doctor();
reset segmenter.cfg_table;
select status, detail from segmenter_doctor() where "check" = 'sets';
select rolsuper from pg_roles where rolname = 'sgm_low';

-- Who may adopt it, and when.
\c - sgm_victim
select segmenter_adopt_set('sgm.seg');
\c - sgm_admin
\set VERBOSITY terse
select segmenter_adopt_set(null);
select segmenter_adopt_set('sgm.none');
select segmenter_adopt_set('pg_class');
alter table sgm.seg_outbox owner to sgm_victim;
select segmenter_adopt_set('sgm.seg');
alter table sgm.seg_outbox owner to sgm_admin;
drop trigger on_log on sgm.seg_log;
drop trigger on_segments on sgm.seg_segments;
select segmenter_adopt_set('sgm.seg');
select owner_name, owner from segmenter_registry where mart = 'sgm.seg'::regclass;
set segmenter.cfg_table = 'sgm.seg';
update sgm.seg_segments set owner = 'sgm_admin';
select status, coverage from segmenter_refresh('sgm_own');
select status, detail from segmenter_doctor() where "check" = 'sets';

-- One relation of another role, or of another kind, is enough.
alter table sgm.seg_state owner to sgm_victim;
select status from segmenter_refresh('sgm_own');
alter table sgm.seg_state owner to sgm_admin;
select status, coverage from segmenter_refresh('sgm_own');
drop view sgm.seg_status;
select status, coverage from segmenter_refresh('sgm_own');
\c - :super
\set VERBOSITY terse
update segmenter_registry_relations set relation = 'sgm.seg_segments_pkey' where kind = 'attempts' and mart = 'sgm.seg'::regclass;
set segmenter.cfg_table = 'sgm.seg';
select status from segmenter_refresh('sgm_own');
select segmenter_adopt_set('sgm.seg');
update segmenter_registry_relations set relation = 'sgm.seg_attempts' where kind = 'attempts' and mart = 'sgm.seg'::regclass;

-- A renamed role is the same; a renamed relation is the same.
alter role sgm_admin rename to sgm_boss;
alter table sgm.seg_log rename to log_of_seg;
select owner from segmenter_sets() where cfg_table = 'sgm.seg';
select status, coverage from segmenter_refresh('sgm_own');
select segmenter_adopt_set('sgm.seg');
select r.owner_name, r.owner, k.name from segmenter_registry r join segmenter_registry_relations k using (mart)
where k.kind = 'log' and r.mart = 'sgm.seg'::regclass;

-- What pg_dump takes along: whole sets only.
create view sgm.dumped as select k.* from segmenter_registry_relations k where k.mart = 'sgm.seg'::regclass and :schema.segmenter_is_whole(mart);
select count(*) from sgm.dumped;
drop table sgm.seg_attempts;
select count(*) from sgm.dumped;
select status from segmenter_refresh('sgm_own');
select segmenter_adopt_set('sgm.seg');
reset segmenter.cfg_table;
set client_min_messages = error;
drop schema sgm, sgm_victim cascade;
drop owned by sgm_boss cascade;
drop role sgm_low, sgm_victim, sgm_boss;
