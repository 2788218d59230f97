-- From 1.0.0 to 1.1.0. Every change of an SQL object is made here too: after the update the catalogue must
-- equal that of a fresh installation, the text of segmenter_definition() included (pg_test/cluster/update).
\echo Use "ALTER EXTENSION segmenter UPDATE" to load this file. \quit
