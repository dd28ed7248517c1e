/*
 * swapper_internal.h - what the parts of the swapper share: the interface (swapper.c), its
 * thread (mover.c) and the faults (swapper_faults.c).
 */
#ifndef QUIRE_RUNTIME_SWAP_SWAPPER_INTERNAL_H
#define QUIRE_RUNTIME_SWAP_SWAPPER_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/swap/swap_file.h"
#include "runtime/swap/swap_io.h"
#include "runtime/swap/swapper.h"
#include "runtime/swap/swapper_faults.h"

/* Pages on their way to and from the disk at one time: enough to keep a disk busy. */
enum { QR_SWAP_DISK_DEPTH = 16 };

/* Transfer ids, first in first out. Has room for every id, so it is never full. */
struct qr_id_queue {
    int32_t *ids; /* [capacity] */
    int32_t capacity;
    int32_t head;
    int32_t count;
};

static inline void qr_id_queue_push(struct qr_id_queue *queue, int32_t id)
{
    queue->ids[(queue->head + queue->count++) % queue->capacity] = id;
}

static inline int32_t qr_id_queue_pop(struct qr_id_queue *queue)
{
    int32_t id = queue->ids[queue->head];
    queue->head = (queue->head + 1) % queue->capacity;
    queue->count--;
    return id;
}

/* A transfer from submit to poll. Whoever holds its id in a queue may touch it. */
struct qr_swap_job {
    struct qr_transfer transfer;
    int32_t buffer; /* on its way to or from the disk: index of the bounce buffer */
    enum qr_swap_fault_kind fault;
    int error;          /* errno of what failed; 0: the page was moved */
    bool mismatch;      /* the checksum was wrong; error is EBADMSG */
    bool device_failed; /* and not the tier; error is EIO */
    double page_ns;     /* what it took of its tier's time */
};

/* What the engine's thread knows of a slot, to catch misuse. */
struct qr_swap_slot {
    bool busy;   /* a transfer is under way */
    bool filled; /* the last transfer out went well */
};

struct qr_swap_tier {
    int32_t n_slots;
    struct qr_swap_slot *slots; /* [n_slots], the engine's thread */
    uint64_t *checksums;        /* [n_slots] of the page last moved out, the swapper's thread */
};

struct qr_swapper {
    struct qr_swapper_config config;
    char *dir; /* for messages; NULL without a disk tier */
    struct qr_swap_tier tiers[QR_TIER_COUNT];
    struct qr_swap_job *jobs; /* [max_transfers] by id */
    bool *id_busy;            /* [max_transfers], the engine's thread */
    int wake_fd;              /* an eventfd: submissions, results of the disk, stop */
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t mutex; /* for the following */
    struct qr_id_queue submitted;
    struct qr_id_queue reported; /* ended, for poll */
    bool stop;
    struct qr_swapper_stats stats;
    struct qr_swap_fault faults[QR_TIER_COUNT][2]; /* [out] */
    bool hold_results;
    int64_t wanted_delay_ns;

    /* The swapper's thread. */
    struct qr_id_queue waiting[QR_TIER_COUNT]; /* not yet begun */
    struct qr_id_queue ended;                  /* not yet reported */
    int64_t n_failures[QR_TIER_COUNT][2];      /* [out], for the log */
    int64_t delay_ns;
    char *host; /* [n_slots][host_stride] */
    size_t host_stride;
    size_t host_bytes;   /* a multiple of QR_SWAP_ALIGNMENT */
    size_t host_touched; /* of those, from the start */
    size_t host_pinned;  /* of those: in pieces of host_piece, the last one as long as is left */
    size_t host_piece;
    bool pins; /* until that fails */
    struct qr_swap_file file;
    struct qr_swap_io *io;
    size_t disk_stride;
    char *buffers; /* [n_buffers][disk_stride], aligned as the disk wants it */
    bool buffers_pinned;
    int32_t n_buffers; /* at most QR_SWAP_DISK_DEPTH; each in use belongs to one job */
    int32_t free_buffers[QR_SWAP_DISK_DEPTH];
    int32_t n_free_buffers;
    int64_t disk_since_ns;    /* from here on no page was charged with the disk's time */
    int32_t n_write_failures; /* in a row */
    bool disk_failed;
};

QR_BEGIN_DECLS

/*
 * The work of the swapper's thread, once around: takes what was submitted, moves pages,
 * reports. False when there was nothing to do: sleep then. Allocates nothing.
 */
bool qr_swapper_move(struct qr_swapper *swapper);
/* Sleeps until something was submitted or the disk has a result; may return early. */
void qr_swapper_sleep(struct qr_swapper *swapper);
void qr_swapper_wake(struct qr_swapper *swapper);
/* The thread; arg: the swapper. */
void *qr_swapper_main(void *arg);

/* Whether the transfer that begins now is to fail; *error as in struct qr_swap_fault. */
enum qr_swap_fault_kind qr_swapper_next_fault(struct qr_swapper *swapper, enum qr_tier tier,
                                              bool out, int *error);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SWAP_SWAPPER_INTERNAL_H */
