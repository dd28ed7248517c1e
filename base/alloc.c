/*
 * alloc.c - see alloc.h for the contract.
 *
 * The arenas are made on first use. An explicit arena bypasses jemalloc's thread
 * cache, which costs some speed and makes the numbers exact; nothing on a hot path
 * allocates.
 */
#include "base/alloc.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { CACHE_LINE_BYTES = 64 };

const char *qr_arena_name(enum qr_arena arena)
{
    static const char *const names[QR_ARENA_COUNT] = {"engine", "request", "network"};
    return names[arena];
}

#ifdef QUIRE_JEMALLOC

#include <jemalloc/jemalloc.h>
#include <pthread.h>

static unsigned arena_index[QR_ARENA_COUNT];
static pthread_once_t arenas_once = PTHREAD_ONCE_INIT;

static void make_arenas(void)
{
    for (int i = 0; i < QR_ARENA_COUNT; i++) {
        size_t size = sizeof(arena_index[i]);
        int rc = mallctl("arenas.create", &arena_index[i], &size, NULL, 0);
        QR_ASSERT(rc == 0);
    }
}

static int arena_flags(enum qr_arena arena)
{
    pthread_once(&arenas_once, make_arenas);
    return MALLOCX_ARENA(arena_index[arena]) | MALLOCX_TCACHE_NONE;
}

static void *arena_alloc(enum qr_arena arena, size_t size, int extra_flags)
{
    return mallocx(size > 0 ? size : 1, arena_flags(arena) | extra_flags);
}

void *qr_malloc(enum qr_arena arena, size_t size)
{
    return arena_alloc(arena, size, 0);
}

void *qr_calloc(enum qr_arena arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc(arena, total, MALLOCX_ZERO);
}

void *qr_realloc(enum qr_arena arena, void *ptr, size_t size)
{
    if (ptr == NULL)
        return qr_malloc(arena, size);
    return rallocx(ptr, size > 0 ? size : 1, arena_flags(arena));
}

void *qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size)
{
    return arena_alloc(arena, size, MALLOCX_ALIGN(alignment));
}

/* Fresh memory of the system is zero already, and is not touched. */
static void *aligned_zeroed(enum qr_arena arena, size_t alignment, size_t size)
{
    return arena_alloc(arena, size, MALLOCX_ALIGN(alignment) | MALLOCX_ZERO);
}

void qr_free(void *ptr)
{
    if (ptr != NULL)
        dallocx(ptr, MALLOCX_TCACHE_NONE);
}

static uint64_t read_arena_stat(unsigned index, const char *leaf)
{
    char name[64];
    size_t value = 0;
    size_t size = sizeof(value);

    snprintf(name, sizeof(name), "stats.arenas.%u.%s", index, leaf);
    return mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

uint64_t qr_arena_bytes(enum qr_arena arena)
{
    uint64_t epoch = 1;
    size_t size = sizeof(epoch);

    pthread_once(&arenas_once, make_arenas);
    mallctl("epoch", &epoch, &size, &epoch, size);
    return read_arena_stat(arena_index[arena], "small.allocated") +
           read_arena_stat(arena_index[arena], "large.allocated");
}

#else /* a sanitizer build: plain malloc, so that it sees every block */

#include <stdlib.h>

void *qr_malloc(enum qr_arena arena, size_t size)
{
    (void)arena;
    return malloc(size > 0 ? size : 1);
}

void *qr_calloc(enum qr_arena arena, size_t count, size_t size)
{
    (void)arena;
    return calloc(count > 0 ? count : 1, size > 0 ? size : 1);
}

void *qr_realloc(enum qr_arena arena, void *ptr, size_t size)
{
    (void)arena;
    return realloc(ptr, size > 0 ? size : 1);
}

void *qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size)
{
    (void)arena;
    size_t rounded;
    if (__builtin_add_overflow(size, alignment - 1, &rounded))
        return NULL;
    return aligned_alloc(alignment, size > 0 ? rounded & ~(alignment - 1) : alignment);
}

static void *aligned_zeroed(enum qr_arena arena, size_t alignment, size_t size)
{
    void *ptr = qr_aligned_alloc(arena, alignment, size);

    if (ptr != NULL)
        memset(ptr, 0, size);
    return ptr;
}

void qr_free(void *ptr)
{
    free(ptr);
}

uint64_t qr_arena_bytes(enum qr_arena arena)
{
    (void)arena;
    return 0;
}

#endif

void qr_wish_huge_pages(void *ptr, size_t n_bytes)
{
    uintptr_t first =
        ((uintptr_t)ptr + QR_HUGE_PAGE_BYTES - 1) & ~(uintptr_t)(QR_HUGE_PAGE_BYTES - 1);
    uintptr_t end = ((uintptr_t)ptr + n_bytes) & ~(uintptr_t)(QR_HUGE_PAGE_BYTES - 1);

    if (first < end) /* a system without them says no, which is fine */
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}

void *qr_calloc_huge(enum qr_arena arena, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    size_t alignment = total >= QR_HUGE_PAGE_BYTES ? QR_HUGE_PAGE_BYTES : CACHE_LINE_BYTES;
    void *ptr = aligned_zeroed(arena, alignment, total);
    if (ptr != NULL)
        qr_wish_huge_pages(ptr, total);
    return ptr;
}

char *qr_strndup(enum qr_arena arena, const char *text, size_t n_bytes)
{
    char *copy = qr_malloc(arena, n_bytes + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

char *qr_strdup(enum qr_arena arena, const char *text)
{
    return qr_strndup(arena, text, strlen(text));
}
