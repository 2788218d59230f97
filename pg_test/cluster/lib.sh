# Sourced by the cluster tests and others: a private cluster of the test's own, how results are told, and
# what several tests ask or wait for. A test prints "ok NAME" or "not ok NAME: why" for everything it checks,
# and ends with finish.

source "$(dirname "${BASH_SOURCE[0]}")/../../bin/env.sh"
HERE=$ROOT/pg_test/cluster
unset PGPORT PGOPTIONS PGTZ PGSERVICE PGDATABASE
export PGUSER=postgres PGCLIENTENCODING=UTF8
# For the parts of tests that are written in Python.
export PYTHONPATH=$ROOT/pg_test/lib PYTHONDONTWRITEBYTECODE=1
failures=0

# ---- The cluster.

# Starts the test's cluster anew, with settings (NAME=VALUE …) of its own; dropped at the end, or
# left running for a look where SEGMENTER_KEEP is set.
cluster() { # name, settings …
    # (pg_test/elsewhere runs a test while the test itself may be running.)
    CLUSTER=${SEGMENTER_CLUSTER:-}$1
    "$ROOT/bin/cluster" drop "$CLUSTER"
    trap 'end_cluster' EXIT
    start_cluster "${@:2}"
    PGHOST=$("$ROOT/bin/cluster" socket "$CLUSTER")
    export PGHOST
    SCRATCH=$(mktemp -d)
}

start_cluster() { # settings …
    "$ROOT/bin/cluster" start "$CLUSTER" "$@"
}
stop_cluster() {
    "$ROOT/bin/cluster" stop "$CLUSTER"
}

end_cluster() {
    local job
    for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
    rm -rf "${SCRATCH:-}"
    [ -n "${SEGMENTER_KEEP:-}" ] || "$ROOT/bin/cluster" drop "$CLUSTER"
}

configure() { # setting, value: for the whole server, from now on
    ask postgres "alter system set $1 = $2" && ask postgres "select pg_reload_conf()" >/dev/null
}

# The postmaster is killed; the server is started again, with settings, once its processes are gone.
kill_server() { # settings …
    local postmaster
    postmaster=$(as_pg head -1 "$PGHOST/data/postmaster.pid")
    as_pg kill -9 "$postmaster"
    # Its children end by themselves; until then the data directory is taken.
    are_gone() { ! pgrep -f "postgres.*$PGHOST/data" >/dev/null && ! pgrep -P "$postmaster" >/dev/null; }
    wait_for "the end of the processes" are_gone
    as_pg rm -f "$PGHOST/data/postmaster.pid" "$PGHOST"/.s.PGSQL.*
    start_cluster "$@"
    wait_for "the server" answers postgres
}

# The extension in a database; where pg_test/elsewhere says so, with a set that segmenter_init() made.
create_extension() { # database
    local output
    output=$(psql -d "$1" -f "${SEGMENTER_CREATE:-$ROOT/pg_test/setup/extension.sql}" 2>&1) || {
        echo "$output" >&2
        return 1
    }
}
drop_extension() { # database
    local before=
    [ -z "${SEGMENTER_CREATE:-}" ] || before="select segmenter_drop_set('public.segmenter', true);"
    ask "$1" "set client_min_messages = error; $before drop extension segmenter cascade" >/dev/null
}

# ---- Questions.

# psql as scripts want it: quiet, values only, the first error ends it.
psql() { "$PGBIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

# The values of one query in one database.
ask() { # database, query
    psql -d "$1" -c "$2"
}

answers() { # database: the server does
    ask "${1:-postgres}" "select 1" >/dev/null 2>&1
}

lines() { # pattern: how many lines of the server's log match
    as_pg grep -cE -- "$1" "$PGHOST/log" || true
}

workers() { # condition: how many workers there are, servers of sets not among them
    ask postgres "select count(*) from pg_stat_activity where backend_type = 'segmenter worker' and application_name <> 'segmenter server' and ${1:-true}"
}

pid_of() { # launcher, scheduler or worker; servers of sets are no workers here
    ask postgres "select pid from pg_stat_activity where backend_type = 'segmenter $1' and application_name <> 'segmenter server'"
}

# One of several processes, by a number thrown with a seed.
one_of() { # launcher, scheduler or worker; number
    local pids
    mapfile -t pids < <(pid_of "$1" | sort -n)
    [ ${#pids[@]} = 0 ] || echo "${pids[$2 % ${#pids[@]}]}"
}

# Of the log in the database shop.
entries() { # segment, status, further condition: how many
    ask shop "select count(*) from segmenter_log where segment_name = '$1' and status = '$2' and ${3:-true}"
}

# ---- Conditions, for wait_for.

is() { # value, command …: the command prints the value
    local value=$1
    shift
    [ "$("$@")" = "$value" ]
}

has_value() { # value, database, query
    is "$1" ask "$2" "$3"
}

has_lines() { # pattern: the server's log has a line that matches
    [ "$(lines "$1")" -gt 0 ]
}

has() { # segment, status, count, further condition: the log in the database shop has so many entries
    [ "$(entries "$1" "$2" "${4:-}")" -ge "$3" ]
}

# ---- Results.

ok() { # name
    echo "ok $*"
}

not_ok() { # name, why
    echo "not ok $1: $2"
    failures=$((failures + 1))
}

# Two texts that must be the same; where they are not, how they differ.
same() { # name, expected, actual
    if [ "$2" = "$3" ]; then
        ok "$1"
    else
        not_ok "$1" "expected (-) and actual (+) differ:"
        diff -U0 <(printf '%s\n' "$2") <(printf '%s\n' "$3") | tail -n +3 | cut -c1-300 | head -n 40 || true
    fi
}

# A command that must succeed; its output is shown where it does not.
succeeds() { # name, command …
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$(tail -n 5 <<<"$output")"; return 1; fi
}

# A command that must fail with a text that matches.
fails() { # name, pattern, command …
    local name=$1 pattern=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        not_ok "$name" "it succeeded"
    elif grep -qE -- "$pattern" <<<"$output"; then
        ok "$name"
    else
        not_ok "$name" "it failed otherwise: $output"
    fi
}

# ---- Waiting. Nothing is waited for by sleeping for a time that should do.

# Waits until a command succeeds, for two minutes at most.
wait_for() { # what, command …
    # (A scheduler that was ended again and again is started a minute later.)
    local what=$1 limit=${LIMIT:-120}
    local end=$((SECONDS + limit))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { not_ok "waiting" "$what did not come within $limit s"; return 1; }
        sleep 0.01
    done
}

# Waits until the scheduler of a database has gone round so many times from now on, each time from the
# beginning to the end: what it has not done by then, it does not do. segmenter_doctor() says how many whole
# seconds ago it went round last.
rounds() { # database, count
    local since round
    # The first one may have begun before.
    for round in $(seq 0 "$2"); do
        since=$(ask "$1" "select clock_timestamp()")
        wait_for "round $round of the scheduler" has_value t "$1" "
            select clock_timestamp() - (substring(detail from '(\\d+) s ago')::int + 1) * interval '1 s' > '$since'
            from segmenter_doctor() where \"check\" = 'scheduler'" || return 1
    done
}

# Waits until so many more rounds of the scheduler of a database have failed. (A round is a transaction; those
# that fail are the only ones there that are rolled back.)
failed_rounds() { # database, count
    local rolled_back="select xact_rollback from pg_stat_database where datname = '$1'" before
    before=$(ask postgres "$rolled_back")
    wait_for "failed rounds of the scheduler" has_value t postgres "select ($rolled_back) >= $before + $2"
}

# Ends a test that cannot be run here, which is told and counted.
skip() { # why
    echo "skipped: $*"
    exit "$SKIPPED"
}

# Whether the server has an extension, or a library.
has_extension() { [ -e "$("$PGCONFIG" --sharedir)/extension/$1.control" ]; }
has_library() { [ -e "$("$PGCONFIG" --pkglibdir)/$1.so" ]; }

finish() {
    if [ "$failures" -gt 0 ]; then
        echo "$(basename "$0"): $failures failed, in $SECONDS s" >&2
        exit 1
    fi
    echo "$(basename "$0"): all ok, in $SECONDS s"
}
