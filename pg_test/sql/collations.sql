-- Ids of a collation in which texts are equal that read otherwise: they are different members.
create schema coll;
create collation coll.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table coll.texts (id text collate coll.any_case primary key, n int not null default 1);
insert into coll.texts values ('Ann'), ('bob'), (''), ('ё');
create table coll.segment (like segmenter including defaults, unique (id));
insert into segmenter_segments (name, table_name, refresh_params) values ('coll', 'coll.segment', '{"incremental": {
    "watch": ["coll.texts"], "sql": "select id, n as hash_email from coll.texts join changed using (id)"}}');
select segmenter_watch('coll.texts');
select status, added, removed, changed, coverage, detail from segmenter_refresh('coll');
update coll.texts set id = upper(id), n = 2 where id in ('ann', 'bob');
insert into coll.texts values ('Zoe');
select status, added, removed, changed, coverage, detail from segmenter_refresh('coll');
select id, hash_email from coll.segment where actual_end = 'infinity' order by id collate "C";
select status, added, removed, changed, coverage, detail from segmenter_refresh('coll', full => true);
select params #>> '{incremental,pass}' as pass, params #>> '{incremental,missed}' as missed from segmenter_log where segment_name = 'coll' order by id;

-- Whoever was erased is kept out by the id as a table had it.
select segmenter_init('coll.own') is not null as made;
drop view coll.own_status, coll.own_current;
alter table coll.own alter id type varchar collate coll.any_case;
set segmenter.cfg_table = 'coll.own';
create table coll.erased (like coll.own including defaults);
create unique index on coll.erased (segment_id, id) where actual_end = 'infinity';
insert into coll.own_segments (name, table_name, refresh_params)
values ('coll erased', 'coll.erased', '{"query": {"sql": "select id from (values (''Ann''), (''p1'')) v (id)"}}');
select status, coverage from segmenter_refresh('coll erased');
select segment, rows from segmenter_erase('ANN', keep_out => true);
select status, added, excluded, coverage from segmenter_refresh('coll erased');
select status, added, excluded, coverage from segmenter_refresh('coll erased', 'select ''ANN'' as id union all select ''p1''');
reset segmenter.cfg_table;
select segmenter_drop_set('coll.own', force => true);

-- A column whose collation no pattern can be used with, in a file for people.
set client_min_messages = error;
alter table coll.segment add cell text collate coll.any_case;
update segmenter_segments set refresh_params = $${"query": {"sql": "select 'x' as id, '=1+1' as cell"}}$$ where name = 'coll';
select status from segmenter_refresh('coll');
select segmenter_subscribe('coll', 'coll', 'file', '{"fields": ["id", "cell"]}') is not null as subscribed;
select * from segmenter_take('coll', 'coll', 'file') as t (id text, cell text);
delete from segmenter_subscriptions where target = 'file';
delete from segmenter_consumers where name = 'coll';
reset client_min_messages;

delete from segmenter_segments where name = 'coll';
select segmenter_unwatch('coll.texts');
set client_min_messages = warning;
drop schema coll cascade;
