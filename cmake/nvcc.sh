#!/usr/bin/env bash
# nvcc.sh NVCC SOURCE FATBIN: compiles one file of kernels. What ptxas says of each kernel is kept
# in FATBIN.ptxas (tools/check_kernels.py), the files it read in FATBIN.d. As everywhere in the project,
# a multiply-add is fused where the source says so (qr_fma) and nowhere else. sm_80 also runs on
# 8.6 and 8.9; what comes after 9.0 compiles the PTX, which therefore is 9.0's, with bulk copies.
set -uo pipefail

nvcc=$1 source=$2 fatbin=$3
root=$(dirname "$(dirname "$(readlink -f "$0")")")
compress=() # with line numbers, kernels take five times as much room otherwise; from 12.8 on
[[ $("$nvcc" --help) == *--compress-mode* ]] && compress=(--compress-mode=size)
"$nvcc" -fatbin -std=c++17 -O3 -I"$root" -MD -MF "$fatbin.d" -MT "$fatbin" \
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
    -gencode arch=compute_90,code=compute_90 \
    -fmad=false -Xptxas -v -Werror all-warnings -lineinfo "${compress[@]}" -o "$fatbin" "$source" >"$fatbin.ptxas" 2>&1 || {
    cat "$fatbin.ptxas" >&2
    rm -f "$fatbin"
    exit 1
}
