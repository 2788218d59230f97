# Other extensions that hook into the planner, the executor and utility statements, with all that they can
# log and track switched on.
neighbours=(pg_stat_statements auto_explain pgaudit pg_stat_kcache pg_qualstats pg_wait_sampling)
# Sets loaded to those that are there, for shared_preload_libraries, and absent to the others.
find_neighbours() {
    local library
    loaded='' absent=''
    for library in "${neighbours[@]}"; do
        if [ -e "$("$PGCONFIG" --pkglibdir)/$library.so" ]; then loaded+=${loaded:+,}$library; else absent+=${absent:+, }$library; fi
    done
}
# A module that is not loaded has no such settings, which does no harm.
neighbour_settings=(
    "pg_stat_statements.track = all" "pg_stat_statements.track_planning = on"
    "auto_explain.log_min_duration = 0" "auto_explain.log_analyze = on" "auto_explain.log_timing = off" "auto_explain.log_buffers = on" "auto_explain.log_wal = on"
    "auto_explain.log_triggers = on" "auto_explain.log_verbose = on" "auto_explain.log_settings = on" "auto_explain.log_nested_statements = on"
    "pgaudit.log = 'all'" "pgaudit.log_parameter = on" "pgaudit.log_relation = on" "pgaudit.log_rows = on"
    "pg_stat_kcache.track = all" "pg_stat_kcache.track_planning = on"
    "pg_qualstats.sample_rate = 1" "pg_qualstats.track_constants = on" "pg_qualstats.track_pg_catalog = on"
    "pg_wait_sampling.profile_queries = on" "compute_query_id = on"
)
