#!/usr/bin/env bash
# lint.sh - the checks that need no build of their own: formatting, layers, headers, scripts.
# Runs all of them, says which failed. build/release must exist (generated headers).
set -uo pipefail

failed=()

check() {
    local name=$1
    shift
    if "$@"; then
        printf 'lint %-12s ok\n' "$name"
    else
        failed+=("$name")
        printf 'lint %-12s FAILED\n' "$name"
    fi
}

# tracked PATTERN...: files that git knows or would add, NUL-separated.
tracked() {
    git ls-files -z --cached --others --exclude-standard -- "$@"
}

formatting() {
    tracked '*.c' '*.h' '*.cu' '*.cuh' | xargs -0 clang-format-14 --dry-run -Werror
}

# A header compiles without another before it, and twice; with the instruction set of its name.
# Exempt are templates (NAME.inc.h) and fragments that say which headers they are "Included by".
header_alone() {
    local header=$1 compiler=gcc isa=()
    shift
    head -n 12 "$header" | grep -q 'Included by' && return
    case $header in
    *.inc.h) return 0 ;;
    *_neon.h) compiler=aarch64-linux-gnu-gcc isa=(-march=armv8.2-a+dotprod) ;;
    *_avx2.h) isa=(-mavx2 -mfma -mf16c) ;;
    *_bf16_avx512.h | *_amx.h)
        isa=(-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mavx512vnni -mavx512bf16
            -mamx-tile -mamx-int8 -mamx-bf16)
        ;;
    *_avx512.h) isa=(-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c) ;;
    esac
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        "$compiler" -x c -fsyntax-only -O1 -fmax-errors=5 "${isa[@]}" "$@" -
}

headers_alone() {
    local -a library_flags
    read -r -a library_flags < <(pkg-config --cflags grpc libprotobuf-c jansson libpcre2-8 cmocka)
    export -f header_alone
    # shellcheck disable=SC2016 # the inner shell expands
    tracked '*.h' | xargs -0 -P "$(nproc)" -I HEADER bash -c 'header_alone "$@"' header_alone HEADER \
        -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wconversion -Werror \
        -I. -Ibuild/release -Ibuild/release/proto "${library_flags[@]}"
}

shell_scripts() {
    tracked '*.sh' dev .ci/run | xargs -0 shellcheck
}

python_scripts() {
    tracked '*.py' | PYTHONDONTWRITEBYTECODE=1 xargs -0 python3 -c '
import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)'
}

check formatting formatting
check layers python3 tools/check_layers.py
check headers headers_alone
check sources python3 tools/check_sources.py
check kernels python3 tools/check_kernels.py
check shell shell_scripts
check python python_scripts
if ((${#failed[@]})); then
    printf 'lint: failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
