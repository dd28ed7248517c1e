#!/usr/bin/env bash
# pressure.sh QUIRE [OPTION...] - the disciplines beside each other on the real server, with the
# demo model and recorded traffic (QUIRE_TESTDATA): tables on stdout, and what
# docs/memory-pressure.md shows, in bench/results and build/plots. Options go to each
# `quire bench pressure`.
#
# Lengths are divided so that they fit the context of the demo model, and arrivals are faster
# than the server can follow. One thread computes, whatever the machine: the rest is left to
# the network, the copies and the client.
set -euo pipefail

quire=$1
shift
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
cd "$root"
traces=$(realpath --relative-to=. "${QUIRE_TESTDATA:-../shared/testdata}")/traces
results=bench/results
QUIRE_COMMIT=$(git describe --always --dirty 2>/dev/null || echo unknown)
export QUIRE_COMMIT

if [[ ! -d $traces ]]; then
    echo "pressure.sh: no $traces: set QUIRE_TESTDATA" >&2
    exit 1
fi

# pressure NAME OPTION...
pressure() {
    local name=$1
    shift
    "$quire" bench pressure --threads 1 --json "$results/pressure-$name.json" "$@"
}

mkdir -p build/plots
pressure sharegpt --trace "$traces/sharegpt/sharegpt-llama-3.1-8b-300-sps10.jsonl" \
    --trace-format sharegpt --divide-lengths 8 --speed 40 \
    --plots build/plots/pressure-sharegpt "$@"
azure=$traces/azure-2023/AzureLLMInferenceTrace_conv.csv
pressure azure-exchanged --trace "$azure" --trace-format azure --exchange-lengths \
    --divide-lengths 8 --requests 640 --speed 200 --overcommit 2 "$@"
# The shape of wide.json spends its time as large models do, on the layers' products with each row:
# 4 % on logits and an eighth on attention at 500 tokens, where the demo model spends 16 % and 40 %.
pressure azure-exchanged-wide --model synthetic:bench/models/wide.json --trace "$azure" \
    --trace-format azure --exchange-lengths --divide-lengths 8 --requests 320 --speed 200 \
    --overcommit 2 "$@"
# The same from clients that leave the limit to the model's context of 1,024.
pressure azure-exchanged-unlimited --model synthetic:bench/models/wide.json --trace "$azure" \
    --trace-format azure --exchange-lengths --divide-lengths 8 --requests 320 --speed 200 \
    --overcommit 2 --limit 900 "$@"
# And of 2,048, which is 16k at full length.
pressure azure-exchanged-2k --model synthetic:bench/models/wide-2k.json --trace "$azure" \
    --trace-format azure --exchange-lengths --divide-lengths 8 --requests 640 --speed 200 \
    --overcommit 2 --limit 1800 --title "Long answers on the real server" \
    --plots build/plots/pressure-azure-exchanged-2k "$@"
pressure azure --trace "$azure" --trace-format azure \
    --divide-lengths 8 --requests 300 --speed 160 "$@"
pressure mooncake --trace "$traces/mooncake/conversation_trace.jsonl" \
    --trace-format mooncake --divide-lengths 32 --requests 100 --speed 80 "$@"
