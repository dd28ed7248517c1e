#!/usr/bin/env bash
# fuzz.sh BUILD_DIR SECONDS - runs each fuzz target for SECONDS and keeps what crashes it; as many
# at a time as there are processors.
#
# Seeds come from tests/fuzz/corpus/NAME/. What a run finds stays in BUILD_DIR/corpus/NAME, so
# that the next run starts from there; crashing inputs are in BUILD_DIR/crashes/.
set -euo pipefail

readonly build_dir=$1 seconds=$2

# fuzz_one BUILD_DIR SECONDS SOURCE
fuzz_one() {
    local build_dir=$1 seconds=$2 name memory_limit_mb=2048
    name=$(basename "${3#tests/fuzz/fuzz_}" .c)
    local log=$build_dir/$name.log corpus=("$build_dir/corpus/$name")
    mkdir -p "${corpus[0]}"
    [[ -d tests/fuzz/corpus/$name ]] && corpus+=("tests/fuzz/corpus/$name")
    if "$build_dir/fuzz.$name" -max_total_time="$seconds" -rss_limit_mb="$memory_limit_mb" \
        -timeout=20 -artifact_prefix="$build_dir/crashes/$name-" "${corpus[@]}" >"$log" 2>&1; then
        printf 'fuzz %-24s %s\n' "$name" "$(grep '^Done' "$log" || echo ok)"
    else
        tail -n 60 "$log"
        printf 'fuzz %-24s FAILED; the input is in %s/crashes/\n' "$name" "$build_dir"
        return 1
    fi
}

shopt -s nullglob
sources=(tests/fuzz/fuzz_*.c)
((${#sources[@]})) || { echo "fuzz: no tests/fuzz/fuzz_*.c" >&2; exit 1; }
mkdir -p "$build_dir/crashes"
export -f fuzz_one
# shellcheck disable=SC2016 # the inner shell expands
printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -I SOURCE \
    bash -c 'fuzz_one "$@"' fuzz_one "$build_dir" "$seconds" SOURCE
