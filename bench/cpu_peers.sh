#!/usr/bin/env bash
# cpu_peers.sh QUIRE [OPTION...] - Quire and llama.cpp on this machine's processor, with the same
# GGUF files, in turn: medians, ratios, and the fraction of what the machine allows, to stdout and
# bench/results/. docs/cpu.md says what the cases are.
#
#   LLAMA_BIN=DIR   where llama-bench, llama-batched-bench and llama-server of your own build of
#                   llama.cpp are, from October 2025 on
#   PYTHON=PROGRAM  default python3; needs what bench/requirements.txt names
#
#   --shapes LIST   of bench/models/, default "110m"
#   --types LIST    of weights, default "bf16 q8_0 q4_0" (make_gguf.py knows more)
#   --cases LIST    of prefill, decode, long, start and clients; default: all
#   --rounds N      of Quire and llama.cpp in turn, default 2
#   --runs N        of each case in a round, default 1
#   --threads N     default: one a processor
#   --batches LIST  sequences of the decodes, default 1,2,4,8,16,32,64
#   --long N        tokens that each sequence holds in the case `long`, default 4096
#   --clients LIST  streaming at one time in the case `clients`, default "8 32"
#   --alone         Quire only; LLAMA_BIN is not needed
#   --keep          models in the work folder that this run does not measure stay in the results
#   --work DIR      models and raw results, default build/cpu-peers
#   --json FILE     default bench/results/cpu-peers.json
#   --plots STEM    write STEM.svg, STEM.png, and STEM-servers.*, with gnuplot; default: none
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
readonly prompt=512 context=64 steps=32 long_batch=8
readonly server_context=256  # tokens of a client's request at most; llama.cpp rounds up to 256
readonly kv=(--kv-dtype bf16) # two bytes a number, as llama.cpp's F16
readonly page_size=16
shapes=110m
types="bf16 q8_0 q4_0"
cases="prefill decode long start clients"
rounds=2
runs=1
threads=$(nproc)
batches=1,2,4,8,16,32,64
long=4096
clients="8 32"
alone=
keep=
work=$root/build/cpu-peers
json=$root/bench/results/cpu-peers.json
plots=
python=${PYTHON:-python3}

die() {
    echo "cpu_peers.sh: $*" >&2
    exit 2
}

# ---- what is wanted, and whether it is there ----

quire=${1:?usage: cpu_peers.sh QUIRE [OPTION...]}
shift
while (($# > 0)); do
    case $1 in
    --alone | --keep)
        printf -v "${1#--}" yes
        shift
        continue
        ;;
    --shapes | --types | --cases | --rounds | --runs | --threads | --batches | --long | --clients | \
        --work | --json | --plots)
        (($# > 1)) || die "$1 needs a value"
        printf -v "${1#--}" %s "$2"
        ;;
    *) die "no option '$1'; the head of the script has them" ;;
    esac
    shift 2
done

# wants CASE...: whether one of them is to be run
wants() {
    local name
    for name; do
        [[ " $cases " == *" $name "* ]] && return
    done
    return 1
}

# has_model FILE: that it was made, by the make_gguf.py that is here now
has_model() {
    [[ $1 -nt $root/bench/make_gguf.py ]]
}

need_programs() {
    local program
    local -a programs=()
    [[ -x $quire ]] || die "no $quire: build it, or name another"
    [[ -n $alone ]] && return
    [[ -n ${LLAMA_BIN:-} ]] ||
        die "LLAMA_BIN is not set: the directory of your build of llama.cpp; or: --alone"
    wants prefill && programs+=(llama-bench)
    wants decode long && programs+=(llama-batched-bench)
    wants start clients && programs+=(llama-server)
    for program in "${programs[@]}"; do
        [[ -x $LLAMA_BIN/$program ]] || die "no $LLAMA_BIN/$program: build llama.cpp's target $program"
    done
}

need_python() {
    local -a modules=()
    local shape type module
    wants start clients && modules+=(grpc_tools)
    for shape in $shapes; do
        [[ -f $root/bench/models/$shape.json ]] || die "no bench/models/$shape.json"
        for type in $types; do
            has_model "$work/$shape-$type.gguf" || modules+=(gguf numpy)
        done
    done
    for module in "${modules[@]}"; do
        "$python" -c "import $module" 2>/dev/null || die "$python has no $module: set PYTHON to" \
            "one with bench/requirements.txt"
    done
}

for name in $cases; do
    case $name in
    prefill | decode | long | start | clients) ;;
    *) die "no case '$name': prefill, decode, long, start or clients" ;;
    esac
done
need_programs
need_python
[[ -z $plots ]] || command -v gnuplot >/dev/null || die "no gnuplot (Debian package gnuplot-nox)"

# ---- running ----

child=
cleanup() {
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
    wait || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# quiet LOG COMMAND...: what it says on stderr only where it fails. In the background, so that a
# signal ends it at once.
quiet() {
    local log=$1
    shift
    "$@" 2>"$log" &
    child=$!
    wait "$child" || {
        child=
        tail -n 20 "$log" >&2
        die "failed: $*"
    }
    child=
}

# expect KEY FILE PROGRAM: that its output is still what the report reads
expect() {
    grep -qF "\"$1\"" "$2" ||
        die "$3 says nothing about $1, so this script does not know its output: see $2"
}

# run_quire MODEL STEM
run_quire() {
    local -a sizes=(--prompt 0 --batches "" --long-context 0)
    wants prefill && sizes+=(--prompt "$prompt")
    wants decode && sizes+=(--batches "$batches")
    wants long && sizes+=(--long-context "$long")
    quiet "$2-quire.log" "$quire" bench cpu --model "$1" "${kv[@]}" --threads "$threads" \
        --runs "$runs" "${sizes[@]}" --context "$context" --steps "$steps" \
        --long-batch "$long_batch" --json "$2-bench.json" >/dev/null
}

# batched_bench MODEL STEM PROMPT SEQUENCES: appends lines of JSON. -c is for the largest number of
# sequences; the prompt is computed once and copied to all of them (-pps).
batched_bench() {
    quiet "$2-llama.log" "$LLAMA_BIN/llama-batched-bench" -m "$1" \
        -c $((${4##*,} * ($3 + steps))) -npp "$3" -ntg "$steps" -npl "$4" -pps -t "$threads" \
        -tb "$threads" -ngl 0 -fa on --output-format jsonl >"$2-batched.out"
    expect speed_tg "$2-batched.out" llama-batched-bench
    sed -n '/^{/p' "$2-batched.out" >>"$2-batched.jsonl"
}

# run_llama MODEL STEM
run_llama() {
    local run
    if wants prefill; then
        quiet "$2-llama.log" "$LLAMA_BIN/llama-bench" -m "$1" -p "$prompt" -n 0 -t "$threads" \
            -ngl 0 -fa 1 -r "$runs" -o json >"$2-prefill.json"
        expect samples_ts "$2-prefill.json" llama-bench
    fi
    for ((run = 0; run < runs; run++)); do
        ! wants decode || batched_bench "$1" "$2" "$context" "$batches"
        ! wants long || batched_bench "$1" "$2" "$long" "$long_batch"
    done
}

# stream KIND MODEL STEM CLIENTS OPTION...: a server started anew, and its clients
stream() {
    local kind=$1 model=$2 stem=$3 n=$4
    local -a server
    shift 4
    if [[ $kind == quire ]]; then
        server=("$quire" serve --model "$model" --listen '127.0.0.1:{port}' "${kv[@]}"
            --threads "$threads" --max-running "$n" --max-context "$server_context"
            --page-size "$page_size" --kv-pages $((n * server_context / page_size)))
    else
        server=("$LLAMA_BIN/llama-server" -m "$model" --host 127.0.0.1 --port '{port}'
            -t "$threads" -tb "$threads" -ngl 0 -fa on -np "$n" -c $((n * server_context))
            --cache-ram 0)
    fi
    quiet "$stem.log" "$python" "$root/bench/stream_clients.py" "$kind" --clients "$n" "$@" \
        --log "$stem-server.log" -- "${server[@]}" >"$stem.json"
}

# run_servers MODEL STEM
run_servers() {
    local run n kind
    if wants start; then
        for ((run = 1; run <= runs; run++)); do
            for kind in "${kinds[@]}"; do
                stream "$kind" "$1" "$2-start-$kind-$run" 1 --requests 1
            done
        done
    fi
    wants clients || return 0
    for n in $clients; do
        for kind in "${kinds[@]}"; do
            stream "$kind" "$1" "$2-$n-clients-$kind" "$n"
        done
    done
}

# measure SHAPE TYPE
measure() {
    local model=$work/$1-$2.gguf stem round
    rm -f "$raw/$1-$2-"*
    has_model "$model" || {
        "$python" "$root/bench/make_gguf.py" "$root/bench/models/$1.json" "$2" "$model.part"
        mv "$model.part" "$model"
    }
    cat "$model" >/dev/null # into the page cache
    for ((round = 1; round <= rounds; round++)); do
        echo "$1 $2: round $round of $rounds, $SECONDS s so far" >&2
        stem=$raw/$1-$2-$round
        run_quire "$model" "$stem"
        [[ -n $alone ]] || run_llama "$model" "$stem"
        run_servers "$model" "$stem"
    done
}

kinds=(quire llama)
[[ -z $alone ]] || kinds=(quire)
raw=$work/raw
[[ -n $keep ]] || rm -rf "$raw"
mkdir -p "$raw" "$(dirname "$json")"
QUIRE_COMMIT=${QUIRE_COMMIT:-$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)}
export QUIRE_COMMIT
for shape in $shapes; do
    for type in $types; do
        measure "$shape" "$type"
    done
done
"$python" "$root/bench/cpu_peers_report.py" "$raw" "$json" --server-context "$server_context"
[[ -z $plots ]] || "$python" "$root/bench/cpu_peers_plot.py" "$json" "$plots"
