/* array.c - see array.h for the contract. */
#include "base/array.h"

enum { FIRST_CAPACITY = 8 };

void *qr_array_grow(enum qr_arena arena, void *items, int32_t count, int32_t *capacity,
                    size_t item_size)
{
    size_t n_bytes;

    if (count < *capacity)
        return items;
    if (*capacity > INT32_MAX / 2)
        return NULL;
    int32_t larger = *capacity < FIRST_CAPACITY ? FIRST_CAPACITY : *capacity * 2;
    if (__builtin_mul_overflow((size_t)larger, item_size, &n_bytes))
        return NULL;
    void *grown = qr_realloc(arena, items, n_bytes);
    if (grown != NULL)
        *capacity = larger;
    return grown;
}
