#!/usr/bin/env bash
# gpu.sh - everything that needs a CUDA device, in one run of under ten minutes: `./dev gpu`.
#
# Works in a checkout (build/release) and in a bundle (bin), with bash and coreutils alone; Python
# only for the peers. Each part has a time limit, and a part that fails does not stop the next.
# docs/gpu.md says what the parts are and how to read what comes out.
set -uo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
readonly root
if [[ -x $root/bin/quire ]]; then # a bundle
    readonly programs=$root/bin source_dir=$root/share/quire
    testdata=${QUIRE_TESTDATA:-$root/testdata}
else
    readonly programs=$root/build/release source_dir=$root
    testdata=${QUIRE_TESTDATA:-$root/../shared/testdata}
fi
readonly quire=$programs/quire testdata

# In this order. The figures come before the sanitizer, which takes what time is left.
readonly all_parts=(device conformance correctness ids bench peers sanitizer)
readonly -A part_limit_s=([device]=40 [conformance]=60 [correctness]=150 [ids]=60 [bench]=120
    [peers]=150 [sanitizer]=150)
readonly -A part_summary=(
    [device]="device, driver, measured bandwidth"
    [conformance]="each primitive of the kernels, bit by bit against its definition"
    [correctness]="the tests of ops, attention and models, on the device"
    [ids]="tokens and text of whole runs, against published ones and the CPU's"
    [bench]="attention, matrix products, a step of an 8B model, swapping"
    [peers]="the same cases by PyTorch, transformers and FlashInfer"
    [sanitizer]="compute-sanitizer: memcheck, racecheck, initcheck, synccheck on small cases")
readonly test_limit_s=60 sanitizer_limit_s=60 needs_no_device=(conformance correctness ids)

usage() {
    cat <<'TEXT'
usage: ./dev gpu [--out DIR] [--only PART[,PART...]] [--tests REGEX] [--time SECONDS]
                 [--device N] [--emulated]

  --out DIR       folder for all.json, one JSON a part, and logs (default: gpu-results)
  --only PARTS    of: device conformance correctness ids bench peers sanitizer (default: all)
  --tests REGEX   of the test programs, only those whose name matches
  --time SECONDS  for everything together (default: 580; emulated: 3000)
  --device N      which device (default: 0)
  --emulated      conformance, correctness and ids on the emulator, where there is no device

Exit status: 0 when every part ran and passed, or says why it was skipped; else 1.
TEXT
}

die() {
    printf 'gpu: %s\n' "$*" >&2
    exit 2
}

# ---- what the results are written as ----

# json_string TEXT: quoted; what is not printable ASCII is left out.
json_string() {
    local text
    text=$(LC_ALL=C tr -cd '\11\12\40-\176' <<<"$1")
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\t'/\\t}
    printf '"%s"' "${text//$'\n'/\\n}"
}

# json_join ELEMENT...: "a,\n b" of "a" "b"
json_join() {
    local separator=''
    for element; do
        printf '%s\n   %s' "$separator" "$element"
        separator=,
    done
}

# What the running part has found.
entries=()         # JSON objects, one for each program that ran
figures=()         # "name": contents of a JSON file that a program wrote
part_deadline=0    # in SECONDS
part_counts=''     # of results, to words
declare -A counted # result -> number

# remaining LIMIT: seconds that may still be spent, at most LIMIT
remaining() {
    local left=$((part_deadline - SECONDS))
    ((left < $1)) && echo "$left" || echo "$1"
}

# add_entry NAME RESULT SECONDS OUTPUT
add_entry() {
    entries+=("$(printf '{"name": %s, "result": %s, "seconds": %d, "output": %s}' \
        "$(json_string "$1")" "$(json_string "$2")" "$3" "$(json_string "$4")")")
    counted[$2]=$((${counted[$2]:-0} + 1))
    printf '  %-12s %-40s %4d s\n' "$2" "$1" "$3"
    case $2 in
    failed | 'timed out') tail -n 15 <<<"$4" | sed 's/^/    | /' ;;
    'not run' | skipped) printf '    | %s\n' "$(tail -n 1 <<<"$4")" ;;
    esac
}

# run NAME LIMIT COMMAND...: one program of the part. A program that has nothing to do here prints
# a line "skipped: why" and exits with 0.
run() {
    local name=$1 limit log=$out/logs/$part/$1.log start=$SECONDS rc=0 result=ok
    limit=$(remaining $((patience * $2)))
    shift 2
    if ((limit <= 0)); then
        add_entry "$name" 'not run' 0 "the time for this part is used up"
        return 1
    fi
    mkdir -p "$(dirname "$log")"
    timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null || rc=$?
    if ((rc == 124 || rc == 137)); then
        result='timed out'
    elif ((rc != 0)); then
        result=failed
    elif grep -q '^skipped: ' "$log" && ! grep -q '\[ *OK *\]' "$log"; then
        result=skipped
    fi
    add_entry "$name" "$result" $((SECONDS - start)) "$(tail -c 4000 "$log")"
    [[ $result == ok ]]
}

# take_figures NAME FILE: keeps the JSON that a program wrote, if it did.
take_figures() {
    [[ -s $2 ]] && figures+=("$(printf '%s: %s' "$(json_string "$1")" "$(cat "$2")")")
    return 0
}

# The worst of the part's results.
part_result() {
    local result
    for result in failed 'timed out' 'not run' ok skipped; do
        if [[ -n ${counted[$result]:-} ]]; then
            echo "$result"
            return
        fi
    done
    echo 'not run'
}

counts_in_words() {
    local result words=''
    for result in ok failed 'timed out' 'not run' skipped; do
        [[ -n ${counted[$result]:-} ]] && words+="${words:+, }${counted[$result]} $result"
    done
    echo "${words:-nothing ran}"
}

# run_part NAME: runs part_NAME and writes NAME.json.
run_part() {
    local start=$SECONDS result
    part=$1 entries=() figures=() counted=()
    part_deadline=$((SECONDS + patience * ${part_limit_s[$part]}))
    ((part_deadline > deadline)) && part_deadline=$deadline
    printf '\n== %s: %s\n' "$part" "${part_summary[$part]}"
    "part_$part"
    result=$(part_result)
    part_counts=$(counts_in_words)
    {
        printf '{"part": %s, "result": %s, "seconds": %d,\n "programs": [%s],\n "figures": {%s}}\n' \
            "$(json_string "$part")" "$(json_string "$result")" $((SECONDS - start)) \
            "$(json_join "${entries[@]}")" "$(json_join "${figures[@]}")"
    } >"$out/$part.json"
    summary+=("$(printf '%-12s %-10s %4d s   %s' "$part" "$result" $((SECONDS - start)) "$part_counts")")
    [[ $result == ok || $result == skipped ]] || failed+=("$part")
}

# ---- the parts ----

# Names of the test programs that can use a device: those whose source asks for the platform.
cuda_tests() {
    if [[ -f $root/cuda_tests ]]; then
        cat "$root/cuda_tests"
    else
        "$root/tools/cuda_tests.sh"
    fi | grep -E -- "$tests_regex"
}

# run_tests NAME...
run_tests() {
    local name
    local -a command
    for name; do
        command=("$programs/tests/test.$name")
        [[ -x $programs/gpu_tests ]] && command=("$programs/gpu_tests" "$name")
        run "$name" "$test_limit_s" "${command[@]}"
    done
    (($# > 0)) || add_entry none skipped 0 "no test of this part matches"
}

part_device() {
    local tool
    {
        printf 'system      %s, %s\n' "$(uname -sr)" "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
        for tool in nvcc compute-sanitizer python3; do
            printf '%-11s %s\n' "$tool" "$(tool_version "$tool")"
        done
    } | tee "$out/logs/system.txt" | sed 's/^/  /'
    add_entry system ok 0 "$(cat "$out/logs/system.txt")"
    if command -v nvidia-smi >/dev/null; then
        run nvidia-smi 20 nvidia-smi
    fi
    run version 10 "$quire" --version
    bench bandwidth
}

tool_version() {
    local path
    path=$(find_tool "$1") || {
        echo "not here"
        return
    }
    printf '%s, %s' "$("$path" --version 2>/dev/null | grep -m1 -iE 'release|version|python')" "$path"
}

# find_tool NAME: on PATH, or where CUDA's installers put it.
find_tool() {
    local path
    command -v "$1" && return
    for path in /usr/local/cuda/bin/"$1" /usr/local/cuda-*/bin/"$1" \
        /usr/local/cuda*/compute-sanitizer/"$1" /opt/nvidia/*/"$1" /opt/nvidia/*/*/"$1"; do
        if [[ -x $path && ! -d $path ]]; then
            echo "$path"
            return
        fi
    done
    return 1
}

part_conformance() {
    mapfile -t names < <(cuda_tests | grep -E '\.conformance$')
    run_tests "${names[@]}"
}

part_correctness() {
    mapfile -t names < <(cuda_tests | grep -vE '\.conformance$|^runtime\.engine\.')
    run_tests "${names[@]}"
}

# The engine's tests compare whole runs; what follows them are runs of the program itself.
part_ids() {
    mapfile -t names < <(cuda_tests | grep -E '^runtime\.engine\.')
    run_tests "${names[@]}"
    [[ -n $emulated ]] && return
    run published_text "$test_limit_s" bash -c "$(declare -f published_text); published_text"
    local prompt=0 text
    for text in 'Once upon a time' 'One day, a bird' 'The'; do
        prompt=$((prompt + 1))
        run "same_ids_as_cpu_$prompt" "$test_limit_s" env "text=$text" \
            bash -c "$(declare -f same_ids_as_cpu); same_ids_as_cpu"
    done
    run demo_model "$test_limit_s" "$quire" generate --backend cuda --echo --prompt 'Once upon a time' \
        --temperature 0.5 --top-p 0.85 --seed 12 --max-tokens 100
}

# The greedy text that the authors of llama2.c published for stories260k, byte for byte.
published_text() {
    local model=$testdata/models/stories260k expected text
    [[ -d $model/hf ]] || {
        echo "skipped: $model/hf is not there"
        return
    }
    expected=$(cat "$model/expected_200steps_t0.txt")
    text=$("$quire" generate --backend cuda --model "$model/hf" --prompt '' --temperature 0 \
        --max-tokens 200 --ignore-eos) || return
    [[ $text == "$expected" ]] || {
        printf 'expected:\n%s\nfound:\n%s\n' "$expected" "$text"
        return 1
    }
}

# A model of F32 weights is computed in F32 on both: greedy ids agree.
same_ids_as_cpu() {
    local model=$testdata/models/stories260k/hf backend
    local -A ids
    [[ -d $model ]] || {
        echo "skipped: $model is not there"
        return
    }
    for backend in cpu cuda; do
        ids[$backend]=$("$quire" generate --backend "$backend" --model "$model" --prompt "$text" --json \
            --temperature 0 --max-tokens 200 --ignore-eos | grep -o '"ids":\[[0-9,]*\]') || return
    done
    [[ ${ids[cpu]} == "${ids[cuda]}" ]] || {
        printf 'cpu  %s\ncuda %s\n' "${ids[cpu]}" "${ids[cuda]}"
        return 1
    }
}

# bench WHAT: one group of figures; its table is shown again at the end.
bench() {
    local json=$out/bench-$1.json
    run "bench-$1" "${part_limit_s[bench]}" "$quire" bench cuda --what "$1" --device "$device" \
        --model "synthetic:$source_dir/bench/models/llama-3.1-8b.json" --json "$json"
    take_figures "$1" "$json"
    tables+=("$out/logs/$part/bench-$1.log")
}

part_bench() {
    local what
    for what in attention matmul step swap; do
        bench "$what"
    done
}

part_peers() {
    local json=$out/peers-figures.json
    command -v python3 >/dev/null || {
        add_entry peers skipped 0 "there is no python3 here"
        return
    }
    PYTHONUNBUFFERED=1 run peers "${part_limit_s[peers]}" python3 "$root/bench/gpu/peers.py" \
        --quire "$out" --model "$source_dir/bench/models/llama-3.1-8b.json" \
        --seconds "$(($(remaining "${part_limit_s[peers]}") - 10))" --json "$json"
    take_figures peers "$json"
    tables+=("$out/logs/peers/peers.log")
}

part_sanitizer() {
    local sanitizer tool what
    sanitizer=$(find_tool compute-sanitizer) || {
        add_entry compute-sanitizer skipped 0 "compute-sanitizer is not here (it comes with CUDA)"
        return
    }
    for tool in memcheck racecheck synccheck initcheck; do
        for what in attention matmul swap; do
            run "$tool-$what" "$sanitizer_limit_s" "$sanitizer" --tool "$tool" --error-exitcode 9 \
                "$quire" bench cuda --smoke --what "$what" --device "$device"
        done
    done
    for tool in memcheck racecheck; do
        run "$tool-generate" "$sanitizer_limit_s" "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$quire" generate --backend cuda --prompt 'Once upon a time' --max-tokens 8 --seed 1
    done
}

# ---- the whole ----

write_all() {
    local part
    {
        printf '{"quire": %s, "date": %s, "emulated": %s, "parts": [\n' \
            "$(json_string "$("$quire" --version 2>&1)")" "$(json_string "$(date -u +%FT%TZ)")" \
            "$([[ -n $emulated ]] && echo true || echo false)"
        local separator=''
        for part in "${parts[@]}"; do
            printf '%s' "$separator"
            cat "$out/$part.json"
            separator=,
        done
        printf ']}\n'
    } >"$out/all.json"
}

print_summary() {
    local table
    for table in "${tables[@]}"; do
        [[ -s $table ]] && printf '\n' && cat "$table"
    done
    printf '\n%-12s %-10s %6s   %s\n' part result time programs
    printf '%s\n' "${summary[@]}"
    printf '\nall of it: %s/all.json, logs in %s/logs; %d s\n' "$out" "$out" "$SECONDS"
    ((${#failed[@]} == 0)) || printf 'not passed: %s\n' "${failed[*]}"
}

# Without a device: says so, and what that leaves undone.
need_device() {
    local reason part
    reason=$("$quire" bench cuda --what device --device "$device" 2>&1) && return
    printf 'gpu: no device to run on: %s\n' "$(tail -n 1 <<<"$reason")"
    printf 'These parts did not run:\n'
    for part in "${parts[@]}"; do
        printf '  %-12s %s\n' "$part" "${part_summary[$part]}"
    done
    printf "'./dev gpu --emulated' runs these on the CPU: %s\n" "${needs_no_device[*]}"
    exit 1
}

main() {
    local only='' total=''
    out=gpu-results emulated='' device=0 tests_regex=. patience=1
    while (($# > 0)); do
        case $1 in
        --out) out=${2:?--out needs a folder} && shift ;;
        --only) only=${2:?--only needs the names of parts} && shift ;;
        --tests) tests_regex=${2:?--tests needs a regular expression} && shift ;;
        --time) total=${2:?--time needs seconds} && shift ;;
        --device) device=${2:?--device needs a number} && shift ;;
        --emulated) emulated=1 ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && die "no option '$1'" ;;
        esac
        shift
    done
    if [[ -n $only ]]; then
        read -r -a parts <<<"${only//,/ }"
    elif [[ -n $emulated ]]; then
        parts=("${needs_no_device[@]}")
    else
        parts=("${all_parts[@]}")
    fi
    local part
    for part in "${parts[@]}"; do
        [[ -n ${part_limit_s[$part]:-} ]] || die "no part '$part', only: ${all_parts[*]}"
        [[ -z $emulated || " ${needs_no_device[*]} " == *" $part "* ]] ||
            die "the emulator runs only: ${needs_no_device[*]}"
    done
    [[ -x $quire ]] || die "there is no $quire; ./dev build makes it"
    [[ -n $emulated ]] || need_device
    [[ -z $emulated ]] || patience=6 # the emulator takes its time
    total=${total:-$((patience > 1 ? 3000 : 580))}

    mkdir -p "$out/logs" || die "cannot write to $out"
    out=$(cd "$out" && pwd)
    deadline=$((SECONDS + total))
    summary=() failed=() tables=()
    export QUIRE_CUDA_PLATFORM=real QUIRE_TESTDATA=$testdata QUIRE_SOURCE_DIR=$source_dir
    export QUIRE_BUILD_DIR=$programs QUIRE_DEVICE=$device quire testdata
    [[ -z $emulated ]] || export QUIRE_CUDA_PLATFORM=emulated
    for part in "${parts[@]}"; do
        run_part "$part"
    done
    write_all
    print_summary
    ((${#failed[@]} == 0))
}

main "$@"
