/*
 * swapper.h - moves KV pages between the device and the lower tiers, beside the computing.
 *
 * One thread of its own copies pages to and from host memory and drives the disk. The
 * engine hands it the transfers of a plan and asks later which ended; it never waits for
 * one. Which page goes where is the block manager's business: a slot holds what was last
 * moved out to it.
 *
 * Every page that leaves the device gets a checksum (XXH3, 64 bits, of its bytes), which
 * stays in memory. A page that comes back is checked before the device's page is written:
 * damaged bytes never reach the device, their transfer fails.
 *
 * The disk tier is one file without a name, gone with the process however that ends. It
 * has its full size from the start, so that a disk that fills up later takes nothing away.
 * A slot takes page_bytes rounded up to 4096 in it. I/O is by io_uring and past the page
 * cache; where the system permits the one or the other not, by pread and pwrite, or
 * through the page cache, and the log says so.
 *
 * Threads: submit and poll belong to one thread, the engine's. get_stats is thread-safe.
 * Nothing allocates after create.
 */
#ifndef QUIRE_RUNTIME_SWAP_SWAPPER_H
#define QUIRE_RUNTIME_SWAP_SWAPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"

struct qr_swapper;

/* So many failed writes in a row, and the disk counts as broken. */
enum { QR_SWAP_FAILURES_TO_BREAK = 3 };

/*
 * How the bytes of n device pages are reached, each [page_bytes] in host memory of its own. Called
 * from the swapper's thread, one call at a time, while the device may compute on other pages. The
 * pages are of transfers under way, or page 0 during create. The bytes are copied when the call
 * returns; false: the device failed, and the transfers with it.
 */
struct qr_page_access {
    void *arg;
    bool (*read)(void *arg, int32_t n, const qr_page_id *pages, void *const *to);
    bool (*write)(void *arg, int32_t n, const qr_page_id *pages, const void *const *from);
    /* Memory of the tiers that those two are then given, from the start of a system's page on: it
     * may be reached directly until `unpin`, which create or destroy calls. Both NULL: all memory
     * is alike. False: it goes on as other memory. */
    bool (*pin)(void *arg, void *memory, size_t n_bytes);
    void (*unpin)(void *arg, void *memory);
};

struct qr_swapper_config {
    size_t page_bytes;                 /* of one page, all layers: in [1, 2^30] */
    int32_t tier_slots[QR_TIER_COUNT]; /* pages that each tier holds; at least one is not 0 */
    const char *dir;                   /* folder of the disk tier; unused without disk slots */
    int32_t max_transfers;             /* under way at one time, at least 1 */
    struct qr_page_access device;
    /* Called from the swapper's thread when results wait for poll; may be NULL. It must
     * not call the swapper. */
    void (*notify)(void *arg);
    void *notify_arg;
};

struct qr_transfer_result {
    int32_t id; /* of the qr_transfer */
    bool ok;    /* false: the page was not moved; its source is unchanged, its target is undefined
                   in a tier, unchanged on the device */
};

/* One tier and direction. Counts since create. */
struct qr_swap_flow {
    int64_t n_pages;    /* moved */
    int64_t n_bytes;    /* of those pages */
    int64_t n_failed;   /* not moved, for whatever reason */
    int64_t n_mismatch; /* of those, how many had a wrong checksum */
    double page_ns;     /* of the tier's time that a page takes: moving average. Measured by
                           create already, so never 0 for a tier with slots */
};

struct qr_swapper_stats {
    struct qr_swap_flow out[QR_TIER_COUNT]; /* from the device to the tier */
    struct qr_swap_flow in[QR_TIER_COUNT];
    bool disk_failed; /* QR_SWAP_FAILURES_TO_BREAK writes in a row failed at some time: move
                         nothing more to it (qr_scheduler_close_tier) */
    bool disk_direct; /* the disk tier bypasses the page cache */
    bool disk_uring;  /* the disk tier is driven by io_uring */
};

QR_BEGIN_DECLS

/*
 * On QR_OK the caller owns *out; the device must outlive it. Moves a few pages to and fro
 * to measure each tier, for which it reads and writes device page 0 (with its own bytes):
 * nobody else may use the device meanwhile. notify is not called before create returns.
 *
 * On error *out is NULL and err says what to do. QR_ERR_INVALID: a field of the
 * configuration is out of its range, or `dir` is no folder. QR_ERR_NOT_FOUND: `dir` does
 * not exist. QR_ERR_IO: it is not writable, its disk has no room for the slots, or failed.
 * QR_ERR_NOMEM: not enough host memory.
 */
QR_MUST_CHECK enum qr_status qr_swapper_create(const struct qr_swapper_config *config,
                                               struct qr_swapper **out, struct qr_error *err);
/* Waits for what the disk is doing; transfers not yet begun are dropped. Accepts NULL. */
void qr_swapper_destroy(struct qr_swapper *swapper);

/*
 * Begins transfers; [count] of `transfers` are copied. Never waits for a transfer. Their
 * ids are not under way, nor are their slots; a page comes in from a slot that the last
 * transfer out filled. They may end in any order.
 */
void qr_swapper_submit(struct qr_swapper *swapper, const struct qr_transfer *transfers,
                       int32_t count);
/* Writes transfers that ended and were not yet reported to results [max]; returns how many. */
int32_t qr_swapper_poll(struct qr_swapper *swapper, struct qr_transfer_result *results,
                        int32_t max);

void qr_swapper_get_stats(struct qr_swapper *swapper, struct qr_swapper_stats *stats);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SWAP_SWAPPER_H */
