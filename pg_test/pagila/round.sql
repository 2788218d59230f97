-- One round: the shop changes, segments are refreshed, everything is compared. :seed, :round.
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
set client_min_messages = warning;

call oracle.begin_round(:seed, :round);
select mode, quiet, caller, zone, mode = 'run' as is_run, mode = 'run_each' as is_run_each from oracle.round \gset
set timezone = :'zone';
\if :quiet
    -- All that is due is up to date first, since some rounds refresh a few only.
    insert into oracle.todo select position, name from oracle.segments on conflict do nothing;
    select format('do $do$ begin perform segmenter_refresh(%L, %s); end $do$', name,
        case when name = 'manual' then quote_literal(query) else 'null' end)
    from oracle.segments order by position \gexec
    delete from oracle.todo where :'mode' <> 'refresh' and name = 'manual';
\else
    select oracle.change(:seed, :round);
\endif
select pg_stat_force_next_flush();
call oracle.before();

set role :caller;
\if :is_run
    insert into oracle.results select *, false from segmenter_run();
\elif :is_run_each
    call segmenter_run_each();
\else
    select format('insert into oracle.results select *, %2$s from segmenter_refresh(%1$L, %3$s, %2$s)',
        name, dry_run::text, case when name = 'manual' then quote_literal(query) else 'null' end)
    from oracle.todo join oracle.segments using (name, position), unnest('{true,false}'::boolean[]) dry_run
    order by position, dry_run desc \gexec
\endif
reset role;

select pg_stat_force_next_flush();
call oracle.after();
select format('round %s: %s as %s%s, %s segments, %s added, %s removed, %s changed', round, mode, caller,
    case when quiet then ', nothing to do' else '' end, count(l.id), sum(l.added), sum(l.removed), sum(l.changed))
from oracle.round r join segmenter_log l on l.id > r.log_id
group by round, mode, caller, quiet;
