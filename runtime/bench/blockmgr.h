/* blockmgr.h - what page operations of the block manager cost, by the size of the pool. */
#ifndef QUIRE_RUNTIME_BENCH_BLOCKMGR_H
#define QUIRE_RUNTIME_BENCH_BLOCKMGR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum qr_page_operation {
    QR_PAGE_APPEND_PREFILL, /* written 32 pages a call, from free pages */
    QR_PAGE_APPEND_DECODE,  /* written 1 page a call, from free pages */
    QR_PAGE_APPEND_EVICT,   /* 32 pages a call, each of which takes a cached block's place */
    QR_PAGE_FORK,           /* shared with another sequence */
    QR_PAGE_FREE,           /* given up: half of them to the other owner, half to the cache */
    QR_PAGE_LOOKUP,         /* found in the cache, confirmed and taken */
    QR_PAGE_OPERATIONS,
};

QR_BEGIN_DECLS

const char *qr_page_operation_name(enum qr_page_operation operation);
/*
 * Nanoseconds of CPU time of the thread, for each page: once in a pool of n_pages.
 *
 * With warm caches one operation follows the other, so that a small pool is never in memory but in
 * the caches. cold: in steps of at most 512 pages and 64 sequences, each after something else went
 * through the caches, as a server plans after a step that read all weights.
 */
QR_MUST_CHECK enum qr_status qr_measure_page_operations(int32_t n_pages, bool cold,
                                                        double ns[QR_PAGE_OPERATIONS]);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_BLOCKMGR_H */
