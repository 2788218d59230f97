# Sourced by the tests of connectors, after lib.sh: servers that speak the protocols of ad platforms, as processes of
# their own. platforms/server.py says what they can be told.

# The platforms' own clients, which judge what the servers are sent.
wanted="facebook-business==26.0.3 google-ads-datamanager==0.9.4 cryptography==50.0.2"
clients=$SEGMENTER_BUILD/clients
if [ "$(cat "$clients/wanted" 2>/dev/null)" != "$wanted" ]; then
    say "Installing the platforms' clients"
    rm -rf "$clients"
    # shellcheck disable=SC2086
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$clients" $wanted
    echo "$wanted" >"$clients/wanted"
fi
export PYTHONPATH=$clients:$HERE:$PYTHONPATH

declare -A platform_url=()

# Starts the server of a platform, which ends with the test; its URL is in platform_url.
platform() { # name, options …
    "$PYTHON" -m "platforms.$1" "${@:2}" >"$SCRATCH/$1.url" &
    wait_for "the server of $1" test -s "$SCRATCH/$1.url"
    platform_url[$1]=$(cat "$SCRATCH/$1.url")
}
tell_platform() { # name, what: fail, random, set, call or reset; order as JSON
    curl -sSf -d "${3:-{\}}" "${platform_url[$1]}/-/$2"
}
ask_platform() { # name, the place of a value in the state, such as audiences/1001/name
    curl -sSf "${platform_url[$1]}/-/state" | "$PYTHON" -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("/"):
    value = value[int(name) if isinstance(value, list) else name]
print(value if isinstance(value, (str, int)) else json.dumps(value))' "$2"
}
