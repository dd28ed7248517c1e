/* region.c - see region.h for the contract. */
#include "base/region.h"

#include <stdbool.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/assert.h"

/* n up to a multiple of unit, a power of two; false: there is none. */
static bool round_up(size_t n, size_t unit, size_t *out)
{
    if (__builtin_add_overflow(n, unit - 1, out))
        return false;
    *out &= ~(unit - 1);
    return true;
}

/* What is reserved counts for no limit of the system's on memory: it cannot be touched. */
static uint8_t *reserve(size_t n_bytes)
{
    void *memory =
        mmap(NULL, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

enum qr_status qr_region_open(size_t n_bytes, struct qr_region *region)
{
    size_t n_reserved, n_mapped;
    uint8_t *memory;

    QR_ASSERT(n_bytes > 0);
    *region = (struct qr_region){0};
    if (!round_up(n_bytes, QR_HUGE_PAGE_BYTES, &n_reserved) ||
        __builtin_add_overflow(n_reserved, QR_HUGE_PAGE_BYTES, &n_mapped) ||
        (memory = reserve(n_mapped)) == NULL)
        return QR_ERR_NOMEM;

    /* What lies before the first huge page, and behind the last, goes back. */
    size_t before = -(uintptr_t)memory & (QR_HUGE_PAGE_BYTES - 1);
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + n_reserved, QR_HUGE_PAGE_BYTES - before);
    region->first = memory + before;
    region->n_reserved = n_reserved;
    qr_wish_huge_pages(region->first, n_reserved);
    return QR_OK;
}

/* Whole huge pages: the system gives none that it may not fill. */
static bool make_usable(struct qr_region *region, size_t n_bytes)
{
    size_t n_usable;

    if (n_bytes <= region->n_usable)
        return true;
    if (!round_up(n_bytes, QR_HUGE_PAGE_BYTES, &n_usable) ||
        mprotect(region->first + region->n_usable, n_usable - region->n_usable,
                 PROT_READ | PROT_WRITE) != 0)
        return false;
    region->n_usable = n_usable;
    return true;
}

void *qr_region_take(struct qr_region *region, size_t alignment, size_t n_bytes)
{
    size_t at, end;

    QR_ASSERT(alignment <= 4096 && (alignment & (alignment - 1)) == 0);
    if (!round_up(region->n_used, alignment, &at) || __builtin_add_overflow(at, n_bytes, &end) ||
        end > region->n_reserved || !make_usable(region, end))
        return NULL;
    region->n_used = end;
    return region->first + at;
}

void qr_region_close(struct qr_region *region)
{
    if (region->first != NULL)
        munmap(region->first, region->n_reserved);
    *region = (struct qr_region){0};
}
