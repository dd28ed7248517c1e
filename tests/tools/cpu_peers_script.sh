#!/usr/bin/env bash
# cpu_peers_script.sh - bench/cpu_peers.sh on stand-ins for Quire, llama.cpp and the clients of
# servers: it runs them in turn with the same sizes, its report has medians, ratios and fractions of
# what they say, and it says what is missing or went wrong.
set -euo pipefail

root=${QUIRE_SOURCE_DIR:?}
folder=$(mktemp -d "${TMPDIR:-/tmp}/quire-peers.XXXXXX")
trap 'rm -rf "$folder"' EXIT
export STAND_IN_CALLS=$folder/calls
unset LLAMA_BIN

fail() {
    echo "FAILED: $*" >&2
    cat "$folder/out" "$folder/err" "$folder/calls" >&2 2>/dev/null || true
    exit 1
}

# stand_in NAME: a program that notes its arguments, then runs what stdin has.
stand_in() {
    {
        # shellcheck disable=SC2016 # for the stand-in to expand
        printf '#!/usr/bin/env bash\necho "%s $*" >>"$STAND_IN_CALLS"\n' "$1"
        cat
    } >"$folder/$1"
    chmod +x "$folder/$1"
}

stand_in quire <<'STAND_IN'
limits='{"read_bytes_per_s_1_thread": 1e9, "read_bytes_per_s": 2e9, "operations_per_s": {}}'
cat >"${!#}" <<JSON # the last argument is that of --json
{"device": "cpu/none", "threads": 3, "parameters": 10, "date": "today", "commit": "abc",
 "processor": "stand-in", "cores": 3, "limits_before": $limits, "limits_after": $limits,
 "memory": {"weight_bytes": 20},
 "cases": [{"name": "prefill 512", "tokens": 512, "seconds": [1, 2], "fraction_of_limit": 0.5,
            "limited_by": "f32"},
           {"name": "decode, batch 2, context 64", "tokens": 64, "seconds": [1, 1],
            "fraction_of_limit": 0.9, "limited_by": "read"},
           {"name": "decode, batch 8, context 4096", "skipped": "no"}]}
JSON
STAND_IN
good_llama_bench='[{"build_commit": "abc", "build_number": 7, "n_prompt": 512, "samples_ts": [192, 192]}]'
stand_in llama-bench <<STAND_IN
echo '$good_llama_bench'
STAND_IN
stand_in llama-batched-bench <<'STAND_IN'
echo 'some words'
[[ $* == *"-npp 64 "* ]] && echo '{"pp": 64, "pl": 2, "speed_tg": 32.0}' ||
    echo '{"pp": 4096, "pl": 8, "speed_tg": 16.0}'
STAND_IN
stand_in llama-server </dev/null

# Clients: of Quire 30 tokens/s, 60 ms to ready and 100 bytes over weights and KV; half of that speed
# and twice of those of llama.cpp. KV of a client is 256 tokens of 36,864 bytes.
stand_in python <<'STAND_IN'
[[ $1 == -c ]] && exit
[[ $1 == */stream_clients.py ]] || exec python3 "$@"
kind=$2 n=$4
[[ $kind == quire ]] && factor=1 || factor=2
cat <<JSON
{"clients": $n, "tokens_per_s": $((30 / factor)), "start_s": $(printf '0.%02d' $((6 * factor))),
 "first_token_s": 0.2, "ttft_p50_s": 0.1, "ttft_p99_s": 0.1, "itl_p50_s": 0.1, "itl_p99_s": 0.1,
 "resident_bytes": $((20 + n * 256 * 36864 + 100 * factor))}
JSON
STAND_IN
export PYTHON=$folder/python

script=("$root/bench/cpu_peers.sh" "$folder/quire" --types bf16 --rounds 2 --runs 2 --threads 3
    --work "$folder/models" --json "$folder/peers.json")

# peers OPTION...
peers() {
    : >"$folder/calls"
    "${script[@]}" "$@" >"$folder/out" 2>"$folder/err"
}

# ran: the programs that were called, without repetitions next to each other; the clients by kind.
ran() {
    sed -nE 's/^python .*stream_clients.py (quire|llama) --clients ([0-9]+).*/\2-\1/; t print
             /^python/d; s/ .*//; :print p' "$folder/calls" | uniq | tr '\n' ' '
}

# refuses MESSAGE OPTION...
refuses() {
    local message=$1
    shift
    peers "$@" && fail "it runs with $*"
    grep -qF -- "$message" "$folder/err" || fail "it does not say '$message'"
}

# holds EXPRESSION: true of the JSON's first model
holds() {
    python3 -c "
import json
results = json.load(open('$folder/peers.json'))
model = results['models'][0]
cases = {row['name']: row for row in model['cases']}
servers = {(row['case'], row['clients']): row for row in model['servers']}
assert $1, json.dumps(results, indent=1)" || fail "the JSON: not $1"
}

mkdir "$folder/models"
touch "$folder/models/110m-bf16.gguf"

# What is missing or wrong.
refuses 'LLAMA_BIN is not set'
LLAMA_BIN=$folder/nowhere refuses "no $folder/nowhere/llama-bench"
export LLAMA_BIN=$folder
refuses "no case 'prefil'" --cases 'decode prefil'
refuses "no bench/models/none.json" --shapes none
refuses "no option '--shape'" --shape 110m
refuses "--rounds needs a value" --rounds
PYTHON=false refuses 'false has no grpc_tools'

# Everything, in turn.
peers --clients "2 4" || fail "it ends with an error"
round="quire llama-bench llama-batched-bench 1-quire 1-llama 1-quire 1-llama 2-quire 2-llama 4-quire 4-llama "
[[ $(ran) == "$round$round" ]] || fail "it runs $(ran)"
grep -q '^quire bench cpu .*--prompt 512 --batches 1,2,4,8,16,32,64 --long-context 4096 ' \
    "$folder/calls" || fail "quire bench cpu"
grep -q '^llama-bench .*-p 512 -n 0 -t 3 .*-fa 1 -r 2 ' "$folder/calls" || fail "llama-bench"
grep -q '^llama-batched-bench .*-c 6144 -npp 64 -ntg 32 -npl 1,2,4,8,16,32,64 -pps -t 3 ' \
    "$folder/calls" || fail "llama-batched-bench"
grep -q '^llama-batched-bench .*-c 33024 -npp 4096 -ntg 32 -npl 8 ' "$folder/calls" ||
    fail "llama-batched-bench of long contexts"
grep -q 'quire serve .*--max-running 4 --max-context 256 --page-size 16 --kv-pages 64' \
    "$folder/calls" || fail "quire serve"
grep -q 'llama-server .* -np 4 -c 1024 ' "$folder/calls" || fail "llama-server"

# Medians of 512 and 256 are 384 tokens/s, twice the peer's; its fraction is half of ours.
holds "[cases['prefill 512'][k] for k in ('tokens_per_s', 'llama_tokens_per_s', 'ratio')] == [384, 192, 2]"
holds "cases['prefill 512']['fraction_of_limit'] == 0.5"
holds "cases['prefill 512']['llama_fraction_of_limit'] == 0.25"
holds "cases['decode, batch 2, context 64']['ratio'] == 2"
holds "[len(cases['decode, batch 2, context 64'][k]) for k in ('runs', 'llama_runs')] == [4, 4]"
holds "len(cases) == 2 and len(model['limits']) == 4 and model['rounds'] == 2"
holds "list(servers) == [('start', 1), ('clients', 2), ('clients', 4)]"
holds "len(servers['start', 1]['quire']['runs']) == 4 == len(servers['start', 1]['llama']['runs'])"
holds "len(servers['clients', 4]['quire']['runs']) == 2"
holds "[servers['start', 1][k]['start_s'] for k in ('quire', 'llama')] == [0.06, 0.12]"
holds "[row['quire']['over_weights_and_kv_bytes'] for row in model['servers']] == [100] * 3"
holds "servers['clients', 4]['llama']['over_weights_and_kv_bytes'] == 200"
grep -q 'prefill 512 .* 384.0 .* 192.0 .* 2.00 .* 0.50 (0.25)  f32' "$folder/out" || fail "the table"
grep -q '4 clients: tokens/s .* 30 .* 15 .* 2.00' "$folder/out" || fail "the table's servers"

python3 "$root/bench/cpu_peers_tables.py" "$folder/peers.json" >"$folder/out"
grep -qxF '| prefill 512 | 384, 2.00 x, 0.50 (0.25) |' "$folder/out" || fail "the table in Markdown"
grep -qxF '| start: to ready, ms | 60 (120) |' "$folder/out" || fail "the servers in Markdown"

# A part of it; a second model beside the first; Quire alone.
peers --cases prefill --rounds 1 || fail "not a part of it"
[[ $(ran) == "quire llama-bench " ]] || fail "of a part it runs $(ran)"
grep -q '^quire bench cpu .*--batches  .*--long-context 0 ' "$folder/calls" || fail "all of the decodes"
touch "$folder/models/1b-q8_0.gguf"
peers --keep --shapes 1b --types q8_0 --cases prefill --rounds 1 || fail "not a second model"
holds "[(m['shape'], m['type']) for m in results['models']] == [('110m', 'bf16'), ('1b', 'q8_0')]"
(unset LLAMA_BIN && peers --alone --cases "prefill start" --rounds 1) || fail "not Quire alone"
[[ $(ran) == "quire 1-quire " ]] || fail "alone it runs $(ran)"
holds "'ratio' not in cases['prefill 512'] and servers['start', 1]['llama'] is None"

# Plots.
if command -v gnuplot >/dev/null; then
    peers --clients 2 --rounds 1 --plots "$folder/plot" || fail "not with plots"
    for plot in plot plot-servers; do
        grep -q '</svg>' "$folder/$plot.svg" || fail "no $plot.svg"
        file=$(head -c 4 "$folder/$plot.png" | tail -c 3)
        [[ $file == PNG ]] || fail "no $plot.png"
    done
    grep -q '2.00 x' "$folder/plot.svg" || fail "no ratio in the plot"
else
    echo "skipped: plots (no gnuplot)"
fi

# A peer that fails, one whose output has changed, and a signal.
stand_in llama-bench <<'STAND_IN'
echo 'no such option' >&2
exit 1
STAND_IN
refuses 'no such option'
stand_in llama-bench <<'STAND_IN'
echo '[{"n_prompt": 512, "tokens_per_second": [192, 192]}]'
STAND_IN
refuses 'llama-bench says nothing about samples_ts'
stand_in llama-bench <<'STAND_IN'
echo $$ >"$STAND_IN_CALLS.pid"
exec sleep 120
STAND_IN
"${script[@]}" >"$folder/out" 2>"$folder/err" &
running=$!
for ((i = 0; i < 600; i++)); do
    [[ -s $folder/calls.pid ]] && break
    sleep 0.1
done
kill -TERM "$running"
wait "$running" && fail "a signal does not end it"
if kill -0 "$(<"$folder/calls.pid")" 2>/dev/null; then
    fail "what it started goes on after a signal"
fi
