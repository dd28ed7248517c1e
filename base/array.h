/* array.h - room for one more item in an array that grows. */
#ifndef QUIRE_BASE_ARRAY_H
#define QUIRE_BASE_ARRAY_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

QR_BEGIN_DECLS

/*
 * Returns the block that holds items[count] and at least one more of item_size bytes
 * each: `items` itself while count < *capacity, else a larger one (about doubled), in
 * which case *capacity is updated and `items` is no longer valid. NULL when memory is
 * exhausted or 2^31 items are reached; `items` is untouched then. `items` may be NULL
 * with a capacity of 0. Amortised constant time.
 */
QR_MUST_CHECK void *qr_array_grow(enum qr_arena arena, void *items, int32_t count,
                                  int32_t *capacity, size_t item_size);

QR_END_DECLS

#endif /* QUIRE_BASE_ARRAY_H */
