#!/usr/bin/env bash
# cpu_peers_script.sh - bench/cpu_peers.sh on stand-ins for Quire and llama.cpp: it runs them in turn
# with the same sizes, and its report has medians, ratios and fractions of what they say.
set -euo pipefail

root=${QUIRE_SOURCE_DIR:?}
folder=$(mktemp -d "${TMPDIR:-/tmp}/quire-peers.XXXXXX")
trap 'rm -rf "$folder"' EXIT
export STAND_IN_CALLS=$folder/calls

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
{"device": "cpu/none", "threads": 3, "parameters": 10, "open_s": 0.5,
 "processor": "stand-in", "cores": 3, "limits_before": $limits, "limits_after": $limits,
 "memory": {"weight_bytes": 20, "over_weights_and_kv_bytes": 5},
 "cases": [{"name": "prefill 512", "tokens": 512, "seconds": [1, 2], "fraction_of_limit": 0.5,
            "limited_by": "f32"},
           {"name": "decode, batch 2, context 64", "tokens": 64, "seconds": [1, 1],
            "fraction_of_limit": 0.9, "limited_by": "read"},
           {"name": "decode, batch 8, context 4096", "skipped": "no"}]}
JSON
STAND_IN
stand_in llama-bench <<'STAND_IN'
echo '[{"build_commit": "abc", "build_number": 7, "n_prompt": 512, "samples_ts": [192, 192]}]'
STAND_IN
stand_in llama-batched-bench <<'STAND_IN'
echo 'some words'
echo '{"pp": 64, "pl": 2, "speed_tg": 32.0}'
STAND_IN

peers() {
    "$root/bench/cpu_peers.sh" "$folder/quire" --shapes tiny --types bf16 --rounds 2 --runs 2 \
        --threads 3 --long 0 --clients '' --work "$folder/models" --json "$folder/peers.json" \
        >"$folder/out" 2>"$folder/err"
}

mkdir "$folder/models"
touch "$folder/models/tiny-bf16.gguf"
peers && fail "it runs without LLAMA_BIN"
grep -q 'LLAMA_BIN is not set' "$folder/err" || fail "it does not ask for LLAMA_BIN"

export LLAMA_BIN=$folder
peers || fail "it ends with an error"
order=$(cut -d ' ' -f 1 "$folder/calls" | uniq | tr '\n' ' ')
[[ $order == "quire llama-bench llama-batched-bench quire llama-bench llama-batched-bench " ]] ||
    fail "it runs $order"
grep -q '^llama-bench .*-p 512 -n 0 -t 3 .*-fa 1 -r 2 ' "$folder/calls" || fail "llama-bench"
grep -q '^llama-batched-bench .*-npp 64 -ntg 32 -npl 1,2,4,8,16,32,64 -t 3 ' "$folder/calls" ||
    fail "llama-batched-bench"

# Medians of 512 and 256 are 384 tokens/s, twice the peer's; its fraction is half of ours.
python3 - "$folder/peers.json" <<'CHECK' || fail "the JSON is wrong"
import json, sys
model = json.load(open(sys.argv[1]))["models"][0]
prefill, decode = model["cases"]
assert (prefill["tokens_per_s"], prefill["llama_tokens_per_s"], prefill["ratio"]) == (384, 192, 2)
assert (prefill["fraction_of_limit"], prefill["llama_fraction_of_limit"]) == (0.5, 0.25)
assert decode["ratio"] == 2 and len(decode["runs"]) == 4 and len(decode["llama_runs"]) == 4
assert len(model["limits"]) == 4 and model["servers"] == []
CHECK
grep -q 'prefill 512 .* 384.0 .* 192.0 .* 2.00' "$folder/out" || fail "the table is wrong"

stand_in llama-bench <<'STAND_IN'
echo 'no such option' >&2
exit 1
STAND_IN
peers && fail "it goes on after an error"
grep -q 'no such option' "$folder/err" || fail "it does not say what went wrong"
