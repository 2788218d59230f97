-- The function $1: the name to call it by, its result type, and whether its arguments and its
-- result are those of a consumer's function.
-- runs as: consumer role, caller
-- params: function text
-- row: call text, result oid, fits boolean
select
    quote_ident(n.nspname) || '.' || quote_ident(p.proname) as call,
    p.prorettype as result,
    p.prokind = 'f' and not p.proretset
        and p.pronargs = 1 and p.proargtypes[0] = 'jsonb'::regtype
        and p.prorettype in ('jsonb'::regtype, 'json'::regtype, 'void'::regtype) as fits
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.oid = to_regprocedure($1)
