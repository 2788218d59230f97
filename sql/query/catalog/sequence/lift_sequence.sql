-- Makes the id that a sequence gives next the one after $2.
-- runs as: set owner
-- params: sequence text, through bigint
-- row: through bigint
select setval($1::regclass, $2)
