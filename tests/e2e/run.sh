#!/bin/sh
# run.sh PYTHON TEST.py: one file of end-to-end tests, or a line that says what it lacks.
set -eu
python=$1
file=$2

skip() {
    echo "skipped: $1"
    exit 0
}

[ -x "$python" ] || skip "no $python (./dev test makes it; or: cmake -DQUIRE_PYTHON=...)"
[ -d "$QUIRE_TESTDATA/models/stories260k/hf" ] || skip "no $QUIRE_TESTDATA/models/stories260k/hf"
[ -x "$QUIRE_BUILD_DIR/quire" ] || {
    echo "no $QUIRE_BUILD_DIR/quire: the build has failed or was not run" >&2
    exit 1
}
exec "$python" -m pytest -q -p no:cacheprovider "$(dirname "$0")/$file"
