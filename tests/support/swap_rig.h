/*
 * swap_rig.h - a swapper with a device of plain memory, for its tests: pages are filled
 * with bytes that a seed gives, and compared with them bit for bit.
 */
#ifndef QUIRE_TESTS_SUPPORT_SWAP_RIG_H
#define QUIRE_TESTS_SUPPORT_SWAP_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/swap/swapper.h"

enum { QR_SWAP_RIG_MAX_PINNED = 8 };

struct qr_swap_rig_pinned {
    void *memory;
    size_t n_bytes;
};

struct qr_swap_rig {
    struct qr_swapper *swapper;
    size_t page_bytes;
    int32_t n_pages;
    unsigned char *pages;     /* [n_pages][page_bytes]: the device */
    atomic_bool device_fails; /* reads and writes of device pages */

    pthread_mutex_t mutex; /* what notify says */
    pthread_cond_t notified_cond;
    int64_t n_notified;
    struct qr_swap_rig_pinned pinned[QR_SWAP_RIG_MAX_PINNED]; /* in the order in which they were */
    int32_t n_pinned;
    int32_t most_pinned;
};

/*
 * A configuration for the rig: `n_pages` device pages, slots of each tier, transfers. dir
 * may be NULL without disk slots.
 */
struct qr_swap_rig_config {
    size_t page_bytes;
    int32_t n_pages;
    int32_t host_slots;
    int32_t disk_slots;
    int32_t max_transfers;
    const char *dir;
    int32_t most_pinned; /* pieces of memory that the device pins; 0: it has no such thing */
};

/* Without a swapper on error. Every device page holds zeros. */
enum qr_status qr_swap_rig_try(struct qr_swap_rig *rig, const struct qr_swap_rig_config *config,
                               struct qr_error *err);
/* Fails the running test on error. */
void qr_swap_rig_make(struct qr_swap_rig *rig, const struct qr_swap_rig_config *config);
void qr_swap_rig_free(struct qr_swap_rig *rig);

void qr_swap_rig_fill(struct qr_swap_rig *rig, int32_t page, uint64_t seed);
/* Whether the page holds, bit for bit, what fill wrote with this seed. */
bool qr_swap_rig_holds(const struct qr_swap_rig *rig, int32_t page, uint64_t seed);

/* Waits for at least one result, a minute at most; returns how many. Fails the test after it. */
int32_t qr_swap_rig_wait(struct qr_swap_rig *rig, struct qr_transfer_result *results, int32_t max);
/* One transfer with id 0, from submit to its end. */
bool qr_swap_rig_move(struct qr_swap_rig *rig, enum qr_tier tier, bool out, int32_t page,
                      int32_t slot);
/* Open descriptors of this process. */
int qr_swap_rig_open_files(void);

#endif /* QUIRE_TESTS_SUPPORT_SWAP_RIG_H */
