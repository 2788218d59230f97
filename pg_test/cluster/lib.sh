# Sourced by the cluster tests: a private cluster of the test's own, and how results are told.
# A test prints "ok NAME" or "not ok NAME: why" for everything it checks, and ends with finish.

source "$(dirname "${BASH_SOURCE[0]}")/../../bin/env.sh"
HERE=$ROOT/pg_test/cluster
unset PGPORT PGOPTIONS PGTZ PGSERVICE PGDATABASE
export PGUSER=postgres PGCLIENTENCODING=UTF8
failures=0

# Starts the test's cluster anew, with settings (NAME=VALUE …) of its own; dropped at the end, or
# left running for a look where SEGMENTER_KEEP is set.
cluster() { # name, settings …
    CLUSTER=$1
    "$ROOT/bin/cluster" drop "$CLUSTER"
    trap 'end_cluster' EXIT
    "$ROOT/bin/cluster" start "$@"
    PGHOST=$("$ROOT/bin/cluster" socket "$CLUSTER")
    export PGHOST
    SCRATCH=$(mktemp -d)
}

end_cluster() {
    local job
    for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
    rm -rf "${SCRATCH:-}"
    [ -n "${SEGMENTER_KEEP:-}" ] || "$ROOT/bin/cluster" drop "$CLUSTER"
}

# psql as scripts want it: quiet, values only, the first error ends it.
psql() { "$PGBIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

# The values of one query in one database.
ask() { # database, query
    psql -d "$1" -c "$2"
}

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

# Waits until a command succeeds, for a minute at most.
wait_for() { # what, command …
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { not_ok "waiting" "$what did not come within a minute"; return 1; }
        sleep 0.01
    done
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
