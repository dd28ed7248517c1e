/*
 * block_trail.h - the operations that led to where a test is, so that a failure among
 * millions of them says how it came about.
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_TRAIL_H
#define QUIRE_TESTS_SUPPORT_BLOCK_TRAIL_H

#include <stdint.h>

#include "base/status.h"

QR_BEGIN_DECLS

/* Empties the trail. From now on it is printed when an assertion of the program ends the test. */
void block_trail_start(void);
/* `what` is a string constant; a and b are its operands. */
void block_trail_add(const char *what, int32_t a, int32_t b);
int64_t block_trail_length(void);
/* Forgets all but the first `length` operations, of which the last few thousand are kept. */
void block_trail_cut(int64_t length);
/* Prints the message and the trail, then fails the test of cmocka. */
__attribute__((noreturn)) void block_trail_fail(const char *fmt, ...) QR_PRINTF(1, 2);

QR_END_DECLS

#define BLOCK_TRAIL_CHECK(cond)                                               \
    do {                                                                      \
        if (!(cond))                                                          \
            block_trail_fail("%s:%d: not so: %s", __FILE__, __LINE__, #cond); \
    } while (0)

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_TRAIL_H */
