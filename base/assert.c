/* assert.c - see assert.h for the contract. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void qr_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "quire: invariant broken at %s:%d: %s\n", file, line, cond);
    abort();
}
