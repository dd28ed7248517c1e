#!/usr/bin/env bash
# cuda_tests.sh - the names of the tests that can use a device, in ctest's form: tests/base/cuda/test_x.c is
# base.cuda.x. They are those that open the device of tests/support/cuda_platform.h, themselves or
# by another header there.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../tests"
grep -rl --include='test_*.c' '"tests/support/cuda_' . |
    sed 's#^\./##; s#/test_#/#; s#\.c$##; s#/#.#g' | sort || true
