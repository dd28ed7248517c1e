#!/usr/bin/env bash
# disciplines.sh QUIRE FOLDER [PLOTS] - the simulations whose figures docs/memory-pressure.md
# explains: writes FOLDER/simulate-NAME.json, and plots as PLOTS/simulate-NAME-*.svg.
set -euo pipefail

cd "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")"
quire=${1:?usage: disciplines.sh QUIRE FOLDER [PLOTS]}
folder=${2:?disciplines.sh: where do the results go?}
plots=${3:-}
traces=$(realpath --relative-to=. "${QUIRE_TESTDATA:-../shared/testdata}")/traces
sharegpt=$traces/sharegpt/sharegpt_8k_filtered_stats_llama2_tokenizer.csv
azure=$traces/azure-2023/AzureLLMInferenceTrace_conv.csv
mooncake=$traces/mooncake/conversation_trace.jsonl
QUIRE_COMMIT=${QUIRE_COMMIT:-$(git describe --always --dirty 2>/dev/null || echo unknown)}
export QUIRE_COMMIT

for file in "$sharegpt" "$azure" "$mooncake"; do
    if [[ ! -r $file ]]; then
        echo "disciplines.sh: $file is not there; set QUIRE_TESTDATA" >&2
        exit 1
    fi
done

# simulate NAME TITLE OPTION...
simulate() {
    local name=$1 title=$2
    shift 2
    [[ -n $plots ]] && set -- "$@" --plots "$plots/simulate-$name"
    "$quire" bench simulate --title "$title" --json "$folder/simulate-$name.json" "$@"
    echo
}

mkdir -p "$folder" ${plots:+"$plots"}
simulate long-answers "Long answers: Azure with lengths exchanged, 22 requests a second" \
    --trace "$azure" --trace-format azure --exchange-lengths --rate 22 --requests 2000
# Rows take more of the time on it: 115 operations a byte, where the default device has 155.
simulate long-answers-a100 "Long answers on an A100, 8-bit KV, 256 sequences" \
    --trace "$azure" --trace-format azure --exchange-lengths --rate 22 --requests 2000 \
    --device-bandwidth 1631 --device-compute 187 --swap-bandwidth 20 --kv-bytes 64KiB \
    --max-running 256
simulate sharegpt "ShareGPT lengths, 20 requests a second" \
    --trace "$sharegpt" --rate 20 --requests 2000
simulate azure "Azure conversations, 4 times as fast" \
    --trace "$azure" --trace-format azure --speed 4
simulate mooncake "Mooncake conversations" \
    --trace "$mooncake" --trace-format mooncake --requests 4000
