#!/bin/sh
# run.sh PYTHON TEST.py: one file of end-to-end tests, or a line that says why not.
set -eu
python=$1
file=$2

skip() {
    echo "skipped: $1"
    exit 0
}

[ -x "$python" ] || skip "no $python (./dev test makes it; or: cmake -DQUIRE_PYTHON=...)"
[ -d "$QUIRE_TESTDATA/models/stories260k/hf" ] || skip "no $QUIRE_TESTDATA/models/stories260k/hf"
[ -x "$QUIRE_BUILD_DIR/quire" ] || skip "no $QUIRE_BUILD_DIR/quire"
exec "$python" -m pytest -q -p no:cacheprovider "$(dirname "$0")/$file"
