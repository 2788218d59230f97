# Sourced by the other scripts: where things are, and how to run PostgreSQL's programs.
# Everything built or run stays under $SEGMENTER_BUILD: the tools there, and what belongs to one
# version of PostgreSQL in $BUILD: a private copy to install into, the clusters. No file of the
# system's PostgreSQL is changed, and no cluster but ours. (The versions that Debian's packages do not
# have are kept outside of it, for every clone: see bin/postgres.)

set -euo pipefail

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mapfile -t VERSIONS < <(awk '/^[0-9]/ { print $1 }' "$ROOT/versions")
PG=${PG:-${VERSIONS[0]}}
[[ " ${VERSIONS[*]} " == *" $PG "* ]] || die "PostgreSQL $PG is not supported; PG is one of ${VERSIONS[*]}"
VERSION=$(sed -n '/^version = /{ s/^version = "\(.*\)"$/\1/p; q }' "$ROOT/Cargo.toml")

# PostgreSQL does not run as root, and the user that runs it must be able to get here; a socket's path
# must be short, too.
if [ -z "${SEGMENTER_BUILD:-}" ]; then
    SEGMENTER_BUILD=/var/tmp/segmenter-$(id -un)-$(printf %s "$ROOT" | cksum | cut -d' ' -f1)
fi
BUILD=$SEGMENTER_BUILD/$PG
# The same layout for every version. (A test runs a cluster of another release.)
PREFIX=${SEGMENTER_PREFIX:-$BUILD/pg}
PGHOME=$PREFIX/lib/postgresql/$PG
PGBIN=$PGHOME/bin
PGCONFIG=$PGBIN/pg_config
PYTHON=$SEGMENTER_BUILD/python/bin/python
export SEGMENTER_BUILD
export PATH=$HOME/.cargo/bin:$PATH
# The server that pgrx binds to. The same for every cargo command: pgrx is compiled again when it changes.
export PGRX_PG_CONFIG_PATH=$PGCONFIG
# What the caller's shell says of servers and debugging does not concern ours.
unset PGPORT PGHOSTADDR PGSERVICE PGOPTIONS RUST_BACKTRACE
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

# Runs a command with root's rights.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command as the user that runs PostgreSQL: the current one, or postgres where that is root.
as_pg() {
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

# A directory that this user may write to.
pg_dir() {
    mkdir -p "$1"
    if [ "$(id -u)" = 0 ]; then chown postgres: "$1"; fi
}

# How a test ends that cannot be run here; it says why before.
SKIPPED=77
