create procedure segmenter_run_each("all" boolean default false)
language plpgsql
as $$
declare
    -- Names are looked up in the caller's search_path.
    run  constant pg_catalog.uuid := @extschema@.segmenter_run_id();
    step record;
begin
    call @extschema@.segmenter_run_check();
    for step in select * from @extschema@.segmenter_run_plan($1) loop
        -- Whatever the session's transactions are: each refresh sees what was committed before it.
        commit;
        set transaction isolation level read committed;
        perform @extschema@.segmenter_run_step(step.segment_id, step.segment, step.cycle, run, step.hand_over_only);
        -- A COMMIT that fails would end the procedure.
        call @extschema@.segmenter_run_commit(step.segment_id, step.segment, run, step.hand_over_only);
    end loop;
    commit;
    set transaction isolation level read committed;
    perform @extschema@.segmenter_run_prune();
end
$$;
