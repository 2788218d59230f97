\set ECHO none
-- Included by tests that make segment tables by hand: :columns are the columns that each must have.
\set columns 'segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar, actual_begin timestamp not null default now(), actual_end timestamp not null default ''infinity'', processed timestamp not null default now()'
\set ECHO all
