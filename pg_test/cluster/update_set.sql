-- The names of the relations of the set :set, whose log is :log ('' where it has the usual name), as variables; and the
-- session works on that set. :home is the schema of its segment tables and sources.
\set ON_ERROR_STOP on
set client_min_messages = error;
set time zone 'UTC';
select format('%I.%I', n[1], n[2]) as mart, format('%I.%I', n[1], n[2] || '_segments') as segments,
    format('%I.%I', n[1], n[2] || '_consumers') as consumers, format('%I.%I', n[1], n[2] || '_subscriptions') as subscriptions,
    coalesce(nullif(:'log', ''), format('%I.%I', n[1], n[2] || '_log')) as log, format('%I.%I', n[1], n[2] || '_outbox') as outbox,
    format('%I.%I', n[1], n[2] || '_deliveries') as deliveries, format('%I.%I', n[1], n[2] || '_status') as status
from parse_ident(:'set') n
\gset
set segmenter.cfg_table = :'set';
set search_path = :"home", public;
