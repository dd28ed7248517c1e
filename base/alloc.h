/*
 * alloc.h - heap memory by purpose, so that the accounting of a running server
 * shows who holds what.
 *
 * Backed by one jemalloc arena per purpose (plain malloc under a sanitizer, which
 * wants to see every allocation itself). Thread-safe. Every block is released by
 * qr_free, whatever its arena.
 */
#ifndef QUIRE_BASE_ALLOC_H
#define QUIRE_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum qr_arena {
    QR_ARENA_ENGINE,  /* model, block manager, scheduler: sized at start */
    QR_ARENA_REQUEST, /* lives as long as one request */
    QR_ARENA_NETWORK, /* calls, messages, connection state */
    QR_ARENA_COUNT,
};

enum { QR_HUGE_PAGE_BYTES = 2 << 20 };

QR_BEGIN_DECLS

/* NULL when memory is exhausted. A zero size returns a unique, freeable block. */
QR_MUST_CHECK void *qr_malloc(enum qr_arena arena, size_t size);
QR_MUST_CHECK void *qr_calloc(enum qr_arena arena, size_t count, size_t size);
/*
 * As qr_calloc, for large arrays that are read at random: on huge pages where the system
 * gives them. Aligned to 64 bytes.
 */
QR_MUST_CHECK void *qr_calloc_huge(enum qr_arena arena, size_t count, size_t size);
/* Wishes for huge pages where whole ones lie in ptr[n_bytes], before it is written to. */
void qr_wish_huge_pages(void *ptr, size_t n_bytes);
/* On NULL the old block is untouched and still owned by the caller. ptr may be NULL. */
QR_MUST_CHECK void *qr_realloc(enum qr_arena arena, void *ptr, size_t size);
/* `alignment` is a power of two; the contents are undefined. */
QR_MUST_CHECK void *qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size);
QR_MUST_CHECK char *qr_strdup(enum qr_arena arena, const char *text);
QR_MUST_CHECK char *qr_strndup(enum qr_arena arena, const char *text, size_t n_bytes);
void qr_free(void *ptr); /* accepts NULL */

/* Bytes allocated and not yet freed in an arena; 0 where it is not known. */
uint64_t qr_arena_bytes(enum qr_arena arena);
const char *qr_arena_name(enum qr_arena arena);

QR_END_DECLS

#endif /* QUIRE_BASE_ALLOC_H */
