#!/usr/bin/env bash
# startup.sh QUIRE [--runs N] [--json FILE] - how long the server takes to start, and what it
# holds in memory before the first request.
#
# Time: from the fork that becomes `quire serve` (demo model, Unix socket) to its `ready` line.
# Memory: VmRSS right after. The KV pool is as large as the operator says and may or may not be
# resident yet, so its share is measured instead of assumed: with pools of two sizes, the
# difference in RSS says how much of a byte of pool is resident, and that share is taken off.
set -euo pipefail

readonly limit_ms=150 limit_mib=64
readonly small_pool_mib=32 large_pool_mib=128
readonly start_limit_s=60

quire=${1:?usage: startup.sh QUIRE [--runs N] [--json FILE]}
shift
runs=20
json=
while (($# > 0)); do
    case $1 in
    --runs) runs=${2:?--runs needs a number} ;;
    --json) json=${2:?--json needs a file} ;;
    *)
        echo "startup.sh: no option '$1'" >&2
        exit 2
        ;;
    esac
    shift 2
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/quire-startup.XXXXXX")
server=
cleanup() {
    [[ -n $server ]] && kill -KILL "$server" 2>/dev/null
    rm -rf "$folder"
}
trap cleanup EXIT

# start_once POOL_MIB: appends to $folder/POOL_MIB.us and $folder/POOL_MIB.kib.
start_once() {
    local pool_mib=$1 ready begin end word
    begin=${EPOCHREALTIME/./}
    exec {ready}< <(exec "$quire" serve --listen "unix:$folder/socket" \
        --kv-memory "${pool_mib}MiB" 2>"$folder/log")
    server=$!
    if ! read -r -t "$start_limit_s" -u "$ready" word _ || [[ $word != ready ]]; then
        cat "$folder/log" >&2
        echo "startup.sh: the server did not get ready" >&2
        exit 1
    fi
    end=${EPOCHREALTIME/./}
    echo $((end - begin)) >>"$folder/$pool_mib.us"
    awk '/^VmRSS:/ { print $2 }' "/proc/$server/status" >>"$folder/$pool_mib.kib"
    kill -TERM "$server"
    wait "$server"
    server=
    exec {ready}<&-
}

# quantile FILE PER_CENT
quantile() {
    sort -n "$1" | awk -v p="$2" '{ v[NR] = $1 } END { i = int((NR - 1) * p / 100 + 0.5) + 1; print v[i] }'
}

for ((i = 0; i < runs; i++)); do
    start_once "$small_pool_mib"
    start_once "$large_pool_mib"
done

median_us=$(quantile "$folder/$large_pool_mib.us" 50)
worst_us=$(quantile "$folder/$large_pool_mib.us" 100)
small_kib=$(quantile "$folder/$small_pool_mib.kib" 50)
large_kib=$(quantile "$folder/$large_pool_mib.kib" 50)
cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
commit=$(git -C "$(dirname "$0")" describe --always --dirty 2>/dev/null || echo unknown)

awk -v median_us="$median_us" -v worst_us="$worst_us" -v runs="$runs" \
    -v small_kib="$small_kib" -v large_kib="$large_kib" \
    -v small_pool="$small_pool_mib" -v large_pool="$large_pool_mib" \
    -v limit_ms="$limit_ms" -v limit_mib="$limit_mib" -v json="$json" \
    -v cpu="${cpu:-unknown}" -v cores="$(nproc)" -v kernel="$(uname -sr)" \
    -v commit="$commit" -v date="$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
function verdict(value, limit) { return value <= limit ? "ok" : "OVER" }
BEGIN {
    share = (large_kib - small_kib) / 1024 / (large_pool - small_pool)
    share = share < 0 ? 0 : share
    rss_mib = large_kib / 1024
    own_mib = rss_mib - share * large_pool
    median_ms = median_us / 1000
    worst_ms = worst_us / 1000

    printf "%s, %d cores, %s, commit %s\n\n", cpu, cores, kernel, commit
    printf "%-36s %10s %10s\n", "quire serve, demo model", "measured", "limit"
    printf "%-36s %7.1f ms %7d ms  %s\n", "start to ready, median of " runs, median_ms, limit_ms, verdict(median_ms, limit_ms)
    printf "%-36s %7.1f ms\n", "start to ready, slowest", worst_ms
    printf "%-36s %6.1f MiB\n", "resident", rss_mib
    printf "%-36s %6.1f MiB\n", "KV pool", large_pool
    printf "%-36s %6.1f %%\n", "KV pool, resident share", share * 100
    printf "%-36s %6.1f MiB %6d MiB  %s\n", "resident without the KV pool", own_mib, limit_mib, verdict(own_mib, limit_mib)

    if (json == "")
        exit
    printf "{\n" > json
    printf "  \"benchmark\": \"startup\",\n  \"date\": \"%s\",\n  \"commit\": \"%s\",\n", date, commit > json
    printf "  \"machine\": {\"cpu\": \"%s\", \"cores\": %d, \"kernel\": \"%s\"},\n", cpu, cores, kernel > json
    printf "  \"runs\": %d,\n", runs > json
    printf "  \"start_ms\": {\"median\": %.1f, \"slowest\": %.1f, \"limit\": %d},\n", median_ms, worst_ms, limit_ms > json
    printf "  \"rss_mib\": %.1f,\n  \"kv_pool_mib\": %d,\n  \"kv_pool_resident_share\": %.3f,\n", rss_mib, large_pool, share > json
    printf "  \"rss_without_kv_pool_mib\": {\"measured\": %.1f, \"limit\": %d}\n}\n", own_mib, limit_mib > json
}'
