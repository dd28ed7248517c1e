#!/usr/bin/env bash
# check_bundle.sh BUNDLE.tar.gz - proves that a bundle needs nothing but a bare Linux: unpacks it in
# a minimal Debian 12 tree, without network and without a GPU, and runs it there.
set -euo pipefail

repository=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=tools/debian_tree.sh
source "$repository/tools/debian_tree.sh"

die() {
    printf 'check_bundle: %s\n' "$*" >&2
    exit 1
}

# check NAME STATUS REGEX COMMAND: what the command says and returns in the tree
check() {
    local name=$1 status=$2 regex=$3 rc=0 output
    output=$(unshare --net chroot "$tree" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/bin:/bin /bin/bash -c "cd /moved/* && $4" 2>&1 </dev/null) || rc=$?
    if ((rc != status)) || ! grep -qE -- "$regex" <<<"$output"; then
        printf '%s\n' "$output" >&2
        die "$name: exit status $rc, wanted $status and '$regex'"
    fi
    printf 'check_bundle: %-10s ok   %s\n' "$name" "$(grep -E -m1 -- "$regex" <<<"$output")"
}

archive=$(realpath "${1:?usage: tools/check_bundle.sh BUNDLE.tar.gz}")
tree=$(mktemp -d "${TMPDIR:-/tmp}/quire-bundle.XXXXXX")
trap 'umount "$tree/proc" 2>/dev/null; rm -rf --one-file-system "$tree" "$tree.log"' EXIT
chmod 755 "$tree"
debian_tree "$tree" || die "no Debian tree"
mount -t proc proc "$tree/proc"
mkdir "$tree/moved"
tar --extract --gzip --file "$archive" -C "$tree/moved"

check version 0 '^quire [0-9]' 'bin/quire --version'
check generate 0 '^Once upon a time.' \
    'bin/quire generate --echo --prompt "Once upon a time" --temperature 0 --max-tokens 40'
check no-gpu 1 'no device to run on: .*(driver|libcuda)' './dev gpu --out /tmp/results'
check emulated 0 '^conformance +ok' './dev gpu --emulated --only conformance --out /tmp/results'
# Tests that read models beside them: of architectures, of layers that slide.
check models 0 '^ids +ok' \
    './dev gpu --emulated --only correctness,ids --tests "cuda_(window|architectures)" --out /tmp/results'
check libraries 0 '^none is missing' \
    'ldd bin/* | grep "not found" || echo "none is missing"'
