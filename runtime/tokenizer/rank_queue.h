/*
 * rank_queue.h - which of very many pairs to join next: keys of a rank and a position,
 * the smallest first.
 *
 * Joining mostly makes pairs of higher ranks than the one that was joined. So keys wait
 * unsorted in buckets of neighbouring ranks; a bucket is sorted (by radix) when its turn
 * comes, and what arrives later than that goes to a heap, which stays small. Memory is
 * walked through in order, where one heap for a megabyte of text misses the cache at every
 * step. Few keys are all kept in the heap.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_RANK_QUEUE_H
#define QUIRE_RUNTIME_TOKENIZER_RANK_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Zero-initialised; `items` is released with qr_free. */
struct qr_rank_keys {
    uint64_t *items; /* [count] */
    int32_t count;
    int32_t capacity;
};

/* One for each rank below 256; from there on each power of two has 128. */
enum { QR_RANK_BUCKETS = 128 * 25 };

/* Zero-initialise; release with qr_rank_queue_free. */
struct qr_rank_queue {
    struct qr_rank_keys heap;
    struct qr_rank_keys sorted;   /* of the bucket whose turn it is */
    int32_t n_taken;              /* of sorted */
    int32_t active;               /* that bucket; QR_RANK_BUCKETS: all keys are in the heap */
    struct qr_rank_keys spare;    /* for sorting */
    struct qr_rank_keys *buckets; /* [QR_RANK_BUCKETS], NULL until there are many keys */
};

QR_BEGIN_DECLS

/* Empties the queue, for about n_keys keys to begin with. */
QR_MUST_CHECK enum qr_status qr_rank_queue_begin(struct qr_rank_queue *queue, int32_t n_keys);
/* rank >= 0, position >= 0. */
QR_MUST_CHECK enum qr_status qr_rank_queue_push(struct qr_rank_queue *queue, int32_t rank,
                                                int32_t position);
/* Takes the smallest rank, of equal ones the smallest position; *rank is -1 when none is left. */
QR_MUST_CHECK enum qr_status qr_rank_queue_pop(struct qr_rank_queue *queue, int32_t *rank,
                                               int32_t *position);
void qr_rank_queue_free(struct qr_rank_queue *queue);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_RANK_QUEUE_H */
