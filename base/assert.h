/*
 * assert.h - the always-on assertion for broken invariants.
 *
 * Bad input never reaches it: input errors are statuses. A failed QR_ASSERT means
 * that the program's own state is wrong, and going on could hand out wrong tokens.
 */
#ifndef QUIRE_BASE_ASSERT_H
#define QUIRE_BASE_ASSERT_H

#include "base/status.h"

#define QR_ASSERT(cond)                                  \
    do {                                                 \
        if (__builtin_expect(!(cond), 0))                \
            qr_assert_failed(#cond, __FILE__, __LINE__); \
    } while (0)

QR_BEGIN_DECLS
__attribute__((noreturn, cold)) void qr_assert_failed(const char *cond, const char *file, int line);
QR_END_DECLS

#endif /* QUIRE_BASE_ASSERT_H */
