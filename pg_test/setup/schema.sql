\set ECHO none
-- Included by tests that have to say which schema the extension is in: it is :schema. That is public, unless
-- pg_test/elsewhere runs the tests.
select extnamespace::regnamespace as schema from pg_extension where extname = 'segmenter' \gset
\set ECHO all
