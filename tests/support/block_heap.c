/*
 * block_heap.c - see block_heap.h.
 *
 * The linker sends calls of qr_calloc to __wrap_qr_calloc and calls of __real_qr_calloc
 * to the function itself (option --wrap). Blocks of the region are never used again once
 * freed: what is explored allocates at its creation only.
 */
#include "tests/support/block_heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/alloc.h"

enum { ALIGNMENT = 64 };

static int64_t n_allocations;
static int64_t n_live;
static int64_t n_until_failure;

static unsigned char *region; /* NULL: none */
static size_t region_capacity;
static size_t region_used;
static int64_t n_live_in_region;

/* The names that the linker gives to a wrapped function and to what it wraps. */
void *__real_qr_malloc(enum qr_arena arena, size_t size);
void *__real_qr_calloc(enum qr_arena arena, size_t count, size_t size);
void *__real_qr_calloc_huge(enum qr_arena arena, size_t count, size_t size);
void *__real_qr_realloc(enum qr_arena arena, void *ptr, size_t size);
void *__real_qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size);
void __real_qr_free(void *ptr);
void *__wrap_qr_malloc(enum qr_arena arena, size_t size);
void *__wrap_qr_calloc(enum qr_arena arena, size_t count, size_t size);
void *__wrap_qr_calloc_huge(enum qr_arena arena, size_t count, size_t size);
void *__wrap_qr_realloc(enum qr_arena arena, void *ptr, size_t size);
void *__wrap_qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size);
void __wrap_qr_free(void *ptr);

int64_t block_heap_n_allocations(void)
{
    return n_allocations;
}

int64_t block_heap_n_live(void)
{
    return n_live;
}

void block_heap_fail_at(int64_t n)
{
    n_until_failure = n;
}

static bool fails_now(void)
{
    n_allocations++;
    return n_until_failure > 0 && --n_until_failure == 0;
}

static bool in_region(const void *ptr)
{
    const unsigned char *byte = ptr;
    return region != NULL && byte >= region && byte < region + region_capacity;
}

static void *take_from_region(size_t size)
{
    size_t rounded = (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT; /* also for a size of 0 */

    assert_true(rounded > size && rounded <= region_capacity - region_used);
    void *block = region + region_used;
    region_used += rounded;
    n_live_in_region++;
    return block;
}

static void *counted(void *block)
{
    n_live += block != NULL;
    return block;
}

void *__wrap_qr_malloc(enum qr_arena arena, size_t size)
{
    if (fails_now())
        return NULL;
    return counted(region != NULL ? take_from_region(size) : __real_qr_malloc(arena, size));
}

void *__wrap_qr_calloc(enum qr_arena arena, size_t count, size_t size)
{
    if (fails_now())
        return NULL;
    if (region == NULL)
        return counted(__real_qr_calloc(arena, count, size));
    return counted(take_from_region(count * size)); /* the region begins as zeros */
}

void *__wrap_qr_calloc_huge(enum qr_arena arena, size_t count, size_t size)
{
    if (fails_now())
        return NULL;
    if (region == NULL)
        return counted(__real_qr_calloc_huge(arena, count, size));
    return counted(take_from_region(count * size));
}

void *__wrap_qr_realloc(enum qr_arena arena, void *ptr, size_t size)
{
    assert_null(region); /* the size of the old block is not known */
    if (fails_now())
        return NULL;
    void *block = __real_qr_realloc(arena, ptr, size);
    n_live += ptr == NULL && block != NULL;
    return block;
}

void *__wrap_qr_aligned_alloc(enum qr_arena arena, size_t alignment, size_t size)
{
    if (fails_now())
        return NULL;
    if (region == NULL)
        return counted(__real_qr_aligned_alloc(arena, alignment, size));
    assert_true(alignment <= ALIGNMENT);
    return counted(take_from_region(size));
}

void __wrap_qr_free(void *ptr)
{
    n_live -= ptr != NULL;
    if (in_region(ptr))
        n_live_in_region--;
    else
        __real_qr_free(ptr);
}

void block_heap_open_region(size_t capacity)
{
    assert_null(region);
    region = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region != MAP_FAILED);
    region_capacity = capacity;
    region_used = 0;
}

void block_heap_close_region(void)
{
    assert_int_equal(n_live_in_region, 0);
    assert_int_equal(munmap(region, region_capacity), 0);
    region = NULL;
}

size_t block_heap_region_bytes(void)
{
    return region_used;
}

void block_heap_save(void *bytes)
{
    memcpy(bytes, region, region_used);
}

void block_heap_restore(const void *bytes)
{
    memcpy(region, bytes, region_used);
}
