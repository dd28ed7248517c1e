#!/usr/bin/env bash
# fuzz.sh BUILD_DIR SECONDS - runs each fuzz target for SECONDS and keeps what crashes it.
#
# Seeds come from tests/fuzz/corpus/NAME/. What a run finds stays in BUILD_DIR/corpus/NAME, so
# that the next run starts from there; crashing inputs are in BUILD_DIR/crashes/.
set -euo pipefail

readonly build_dir=$1 seconds=$2
readonly memory_limit_mb=2048
failed=0

shopt -s nullglob
sources=(tests/fuzz/fuzz_*.c)
((${#sources[@]})) || { echo "fuzz: no tests/fuzz/fuzz_*.c" >&2; exit 1; }
mkdir -p "$build_dir/crashes"

for source in "${sources[@]}"; do
    name=$(basename "${source#tests/fuzz/fuzz_}" .c)
    target=$build_dir/fuzz.$name
    corpus=("$build_dir/corpus/$name")
    mkdir -p "${corpus[0]}"
    [[ -d tests/fuzz/corpus/$name ]] && corpus+=("tests/fuzz/corpus/$name")
    log=$build_dir/$name.log
    if "$target" -max_total_time="$seconds" -rss_limit_mb="$memory_limit_mb" -timeout=20 \
        -artifact_prefix="$build_dir/crashes/$name-" "${corpus[@]}" >"$log" 2>&1; then
        printf 'fuzz %-24s %s\n' "$name" "$(grep '^Done' "$log" || echo ok)"
    else
        failed=1
        tail -n 60 "$log"
        printf 'fuzz %-24s FAILED; the input is in %s/crashes/\n' "$name" "$build_dir"
    fi
done
exit "$failed"
