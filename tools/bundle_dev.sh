#!/usr/bin/env bash
# dev - the one entry to a bundle of Quire: `./dev help`.
set -euo pipefail
root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

case ${1:-help} in
gpu) exec "$root/tools/gpu.sh" "${@:2}" ;;
help | -h | --help)
    cat <<'TEXT'
usage: ./dev gpu [OPTION...]

Runs and measures everything that needs a CUDA device, in under ten minutes; `./dev gpu --help`
lists the options, docs/gpu.md explains them. bin/quire is the program itself: try
`bin/quire generate --echo --prompt "Once upon a time"`.
TEXT
    ;;
*)
    printf "dev: no command '%s' in a bundle; try ./dev help\n" "$1" >&2
    exit 1
    ;;
esac
