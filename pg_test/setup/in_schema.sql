-- The extension in a schema of its own, which comes last in every session's search_path.
create schema crm_hq;
grant usage on schema crm_hq to public;
create extension segmenter schema crm_hq;
select format('alter database %I set search_path = crm_hq, public', current_database()) as command \gset
:command;
