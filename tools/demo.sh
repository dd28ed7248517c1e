#!/usr/bin/env bash
# demo.sh QUIRE [ARGUMENT...] - serves the demo model on a Unix socket in a folder of its own
# and streams one generation from it. Arguments go to `quire generate`.
set -euo pipefail

readonly quire=$1
shift
readonly start_limit_s=60

folder=$(mktemp -d "${TMPDIR:-/tmp}/quire-demo.XXXXXX")
server=

cleanup() {
    [[ -n $server ]] && kill -KILL "$server" 2>/dev/null
    rm -rf "$folder"
}
trap cleanup EXIT

server_failed() {
    printf 'demo: %s\n' "$1" >&2
    cat "$folder/server.log" >&2
    exit 1
}

exec {ready}< <(exec "$quire" serve --listen "unix:$folder/quire.sock" 2>"$folder/server.log")
server=$!
read -r -t "$start_limit_s" -u "$ready" word address _ || server_failed "the server did not start"
[[ $word == ready ]] || server_failed "the server said '$word', not 'ready'"

arguments=("$@")
((${#arguments[@]})) || arguments=(--echo --prompt "Once upon a time" --max-tokens 200 --temperature 0.8 --seed 7)
"$quire" generate --addr "$address" "${arguments[@]}"

kill -TERM "$server"
wait "$server" || server_failed "the server did not stop cleanly"
server=
