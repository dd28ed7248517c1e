#!/usr/bin/env bash
# gpu_script.sh - tools/gpu.sh on a bundle of stand-ins: what it says and writes when programs pass,
# fail, hang or are missing, and where there is no device.
set -euo pipefail

unset QUIRE_TESTDATA # the stand-ins have a folder of their own
repository=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/quire-gpu.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
    printf 'gpu_script: %s\n' "$*" >&2
    cat output >&2
    exit 1
}

# program PATH BODY: a stand-in
program() {
    printf '#!/usr/bin/env bash\n%s\n' "$2" >"$1"
    chmod +x "$1"
}

# expect STATUS ARGUMENT...: runs the script
expect() {
    local wanted=$1 rc=0
    shift
    bundle/tools/gpu.sh --out results "$@" >output 2>&1 || rc=$?
    ((rc == wanted)) || fail "exit status $rc, not $wanted: gpu.sh $*"
}

says() {
    grep -qE -- "$1" output || fail "it does not say '$1'"
}

# holds EXPRESSION: true of all.json, as the Python dictionary `all`
holds() {
    python3 -c "
import json
all = json.load(open('results/all.json'))
parts = {part['part']: part for part in all['parts']}
programs = {p['name']: p for part in all['parts'] for p in part['programs']}
assert $1, json.dumps(all, indent=1)" || fail "all.json: not $1"
}

mkdir -p bundle/bin bundle/tests bundle/tools bundle/share/quire bundle/testdata
cp "$repository/tools/gpu.sh" bundle/tools/
# shellcheck disable=SC2016 # for the stand-in to expand
program bundle/bin/quire '
case $* in
--version) echo "quire 0.1.0" ;;
*"--what device"*) [[ -z ${NO_DEVICE:-} ]] || { echo "quire bench cuda: no driver" >&2; exit 1; } ;;
"bench cuda --smoke"*) echo smoke ;;
"bench cuda"*) echo "a table"; echo "{\"fraction\": 0.5}" >"${@: -1}" ;;
*--json*) echo "{\"ids\":[1,2,3]}" ;;
*) echo text ;;
esac'
program bundle/bin/gpu_tests "exec '$folder/bundle/tests/'\$1"
program bundle/tests/base.cuda.conformance 'echo "[       OK ] a"'
# shellcheck disable=SC2016
program bundle/tests/attention.cuda.decode 'echo "$QUIRE_CUDA_PLATFORM"; printf "a \"quote\", a \\\\ and \001\xff\n"'
program bundle/tests/runtime.engine.cuda_ids 'echo "skipped: no model"'
printf '%s\n' base.cuda.conformance attention.cuda.decode runtime.engine.cuda_ids >bundle/cuda_tests

# All pass; the platform is the emulator.
expect 0 --emulated
says '^ids +skipped'
holds "[p['part'] for p in all['parts']] == ['conformance', 'correctness', 'ids']"
holds "programs['attention.cuda.decode']['output'].startswith('emulated\na \"quote\", a \\\\ and ')"
holds "all['emulated'] and programs['runtime.engine.cuda_ids']['result'] == 'skipped'"

# A device: the real platform, figures from their files, ids of both backends alike.
expect 0 --only correctness,ids,bench
holds "programs['attention.cuda.decode']['output'].startswith('real')"
holds "parts['bench']['figures']['attention']['fraction'] == 0.5"
holds "programs['same_ids_as_cpu_1']['result'] == 'skipped'" # no model in this bundle
says '^a table'

# One that fails and one that hangs: the others run, and the status tells.
program bundle/tests/attention.cuda.decode 'echo "expected 1, found 2"; exit 1'
program bundle/tests/attention.cuda.hangs 'sleep 30'
printf '%s\n' missing.program attention.cuda.hangs >>bundle/cuda_tests
expect 1 --emulated --time 2
says 'expected 1, found 2'
says '^not passed: correctness'
holds "programs['base.cuda.conformance']['result'] == 'ok'"
holds "programs['attention.cuda.decode']['result'] == 'failed'"
holds "programs['attention.cuda.hangs']['result'] == 'timed out'"
holds "programs['missing.program']['result'] == 'failed'"
holds "programs['runtime.engine.cuda_ids']['result'] == 'not run'" # no time is left

# No device.
NO_DEVICE=1 expect 1
says 'no device to run on: quire bench cuda: no driver'
says '^  sanitizer '
expect 2 --only nonsense
expect 2 --emulated --only bench
echo "gpu_script: ok"
