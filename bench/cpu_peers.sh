#!/usr/bin/env bash
# cpu_peers.sh QUIRE [OPTION...] - Quire and llama.cpp on this machine's processor, with the same
# GGUF files, in turn: medians, ratios, and the fraction of what the machine allows, to stdout and
# bench/results/. docs/cpu.md says what the cases are.
#
#   LLAMA_BIN=DIR   required: where llama-bench, llama-batched-bench and llama-server of your own
#                   build of llama.cpp are; one from September 2025 on knows `-fa on`
#   PYTHON=PROGRAM  default python3; needs gguf and numpy where a model is to be made, grpcio and
#                   grpcio-tools for the cases with a server (tests/e2e/requirements.txt has them)
#
#   --shapes LIST   of bench/models/, default "110m 1b"
#   --types LIST    of weights, default "bf16 q8_0 q4_0" (make_gguf.py knows more)
#   --rounds N      of Quire and llama.cpp in turn, default 3
#   --runs N        of each case in a round, default 2
#   --threads N     default: one a processor
#   --long N        tokens before the decodes of long contexts, default 4096; 0: none
#   --clients LIST  streaming at one time from the servers, default "8 32"; "": none
#   --work DIR      models and raw results, default build/cpu-peers
#   --json FILE     default bench/results/cpu-peers.json
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
readonly prompt=512 context=64 steps=32 long_batch=8 batches=1,2,4,8,16,32,64
readonly server_context=512 # tokens of a client's request at most
readonly kv=(--kv-dtype f16) # as llama.cpp has them
readonly port=7171
shapes="110m 1b"
types="bf16 q8_0 q4_0"
rounds=3
runs=2
threads=$(nproc)
long=4096
clients="8 32"
work=$root/build/cpu-peers
json=$root/bench/results/cpu-peers.json
python=${PYTHON:-python3}

die() {
    echo "cpu_peers.sh: $*" >&2
    exit 2
}

quire=${1:?usage: cpu_peers.sh QUIRE [OPTION...]}
shift
while (($# > 0)); do
    case $1 in
    --shapes | --types | --rounds | --runs | --threads | --long | --clients | --work | --json)
        (($# > 1)) || die "$1 needs a value"
        printf -v "${1#--}" %s "$2"
        ;;
    *) die "no option '$1'" ;;
    esac
    shift 2
done
[[ -n ${LLAMA_BIN:-} ]] || die "LLAMA_BIN is not set: the directory of your build of llama.cpp"
for program in llama-bench llama-batched-bench; do
    [[ -x $LLAMA_BIN/$program ]] || die "no $LLAMA_BIN/$program"
done
if [[ -n $clients ]]; then
    [[ -x $LLAMA_BIN/llama-server ]] || die "no $LLAMA_BIN/llama-server; or: --clients ''"
    "$python" -c 'import grpc_tools' 2>/dev/null ||
        die "$python has no grpcio-tools: set PYTHON; or: --clients ''"
fi

raw=$work/raw
rm -rf "$raw"
mkdir -p "$raw" "$(dirname "$json")"

# quiet LOG COMMAND...: what it says on stderr only where it fails.
quiet() {
    local log=$1
    shift
    "$@" 2>"$log" || {
        tail -n 20 "$log" >&2
        die "failed: $*"
    }
}

# run_quire MODEL STEM
run_quire() {
    quiet "$2-quire.log" "$quire" bench cpu --model "$1" "${kv[@]}" --threads "$threads" --runs "$runs" \
        --prompt "$prompt" --batches "$batches" --context "$context" --steps "$steps" \
        --long-context "$long" --long-batch "$long_batch" --json "$2-bench.json" >/dev/null
}

# batched_bench MODEL PROMPT SEQUENCES: lines of JSON; -c is for the largest number of them.
batched_bench() {
    "$LLAMA_BIN/llama-batched-bench" -m "$1" -c $((${3##*,} * ($2 + steps))) -npp "$2" \
        -ntg "$steps" -npl "$3" -t "$threads" -tb "$threads" -ngl 0 -fa on --output-format jsonl |
        sed -n '/^{/p'
}

# run_llama MODEL STEM
run_llama() {
    local run
    quiet "$2-llama.log" "$LLAMA_BIN/llama-bench" -m "$1" -p "$prompt" -n 0 -t "$threads" \
        -ngl 0 -fa 1 -r "$runs" -o json >"$2-prefill.json"
    for ((run = 0; run < runs; run++)); do
        quiet "$2-llama.log" batched_bench "$1" "$context" "$batches" >>"$2-batched.jsonl"
        ((long == 0)) ||
            quiet "$2-llama.log" batched_bench "$1" "$long" "$long_batch" >>"$2-batched.jsonl"
    done
}

# stream MODEL STEM CLIENTS: both servers in turn, each started anew.
stream() {
    local address=127.0.0.1:$port
    local -a clients_of=("$python" "$root/bench/stream_clients.py" --clients "$3")
    quiet "$2-clients.log" "${clients_of[@]}" --log "$2-quire-server.log" quire "$address" -- \
        "$quire" serve --model "$1" --listen "$address" --threads "$threads" --max-running "$3" \
        --max-context "$server_context" "${kv[@]}" >"$2-$3-clients-quire.json"
    quiet "$2-clients.log" "${clients_of[@]}" --log "$2-llama-server.log" llama "$address" -- \
        "$LLAMA_BIN/llama-server" -m "$1" --host 127.0.0.1 --port "$port" -t "$threads" \
        -tb "$threads" -ngl 0 -fa on -np "$3" -c $(($3 * server_context)) \
        >"$2-$3-clients-llama.json"
}

for shape in $shapes; do
    for type in $types; do
        model=$work/$shape-$type.gguf
        [[ -f $model ]] ||
            "$python" "$root/bench/make_gguf.py" "$root/bench/models/$shape.json" "$type" "$model"
        cat "$model" >/dev/null # into the page cache
        for ((round = 1; round <= rounds; round++)); do
            echo "$shape $type: round $round of $rounds" >&2
            run_quire "$model" "$raw/$shape-$type-$round"
            run_llama "$model" "$raw/$shape-$type-$round"
            for n in $clients; do
                stream "$model" "$raw/$shape-$type-$round" "$n"
            done
        done
    done
done
QUIRE_COMMIT=${QUIRE_COMMIT:-$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)} \
    "$python" "$root/bench/cpu_peers_report.py" "$raw" "$json" --shapes "$shapes" --types "$types"
