-- What no session makes at will, of the set :set: refreshes that are going on or were interrupted, and a log that was
-- pruned. As a superuser, beside update.sql.
\i :dir/update_set.sql
insert into :log (processed, run_id, action, status, segment_id, segment_name, params)
select now() - interval '5 minutes', md5(s.id::text)::uuid, 'refresh', 'running', s.id, s.name, jsonb_build_object('refresh_params', s.refresh_params, 'role', s.owner)
from :segments s where s.name in ('running', 'running at first', 'interrupted');
insert into :log (processed, run_id, action, status, segment_id, segment_name, elapsed, message, params)
select l.processed, l.run_id, 'refresh', 'interrupted', l.segment_id, l.segment_name, '4 minutes', 'the server or the worker was stopped before the refresh ended', l.params
from :log l where l.status = 'running' and l.segment_name = 'interrupted';
insert into :log (action, status, segment_id, segment_name, error, params)
select 'refresh', 'failed', s.id, s.name, '{"sqlstate": "55P03", "message": "it is busy"}', '{"attempted": false}'
from :segments s where s.name = 'strange';
delete from :log where segment_name = 'pruned';
-- Entries that concern nothing that is there.
insert into :log (action, status, segment_name, message) values ('refresh', 'failed', 'no such segment', 'it does not exist');
insert into :log (action, status, segment_id, subscription_id, params) values ('hand over', 'ok', gen_random_uuid(), gen_random_uuid(), '{"operations": ["create", "add"], "fields": {"id": "id"}}');
-- The log is forgotten whenever a test says so, where there is a row that wants it.
create table :"home".forgetful (really boolean);
select format('create function %I.forget() returns void language plpgsql security definer as %L', :'home', format($$
begin
    if exists (select from %I.forgetful) then truncate %s; end if;
end
$$, :'home', :'log')) \gexec
grant all on :"home".forgetful to public;
