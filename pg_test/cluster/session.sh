# Sourced by tests that look from outside at the process of one session while it works.

pid=
peak=0 # the most memory of its own that the process was seen with, in kB

# The session, in the database postgres; its answers go to a file, which is there before a command can be given.
open_session() {
    mkfifo "$SCRATCH/commands"
    "$PGBIN/psql" -X -q -A -t -d postgres >"$SCRATCH/answers" 2>&1 <"$SCRATCH/commands" &
    exec 3>"$SCRATCH/commands"
    tell 'select pg_backend_pid();'
    pid=$answer
}
of() { # figure: of the session's process, in kB
    awk -v figure="$1:" '$1 == figure { print $2 }' "/proc/$pid/status" 2>/dev/null || echo 0
}
tell() { # command with one line of result: what the session answers is in $answer
    local before now
    before=$(wc -l <"$SCRATCH/answers")
    echo "$1" >&3
    while [ "$(wc -l <"$SCRATCH/answers")" -le "$before" ]; do
        if [ -n "$pid" ]; then
            [ -d "/proc/$pid" ] || { answer="the session is gone"; return 0; }
            now=$(of RssAnon)
            if [ "${now:-0}" -gt "$peak" ]; then peak=$now; fi
        fi
        sleep 0.02
    done
    answer=$(tail -n 1 "$SCRATCH/answers")
}
mb() { echo $(($1 / 1024)); }
