/*
 * pair_queue.h - the pairs of neighbouring symbols in a corpus: how often each occurs,
 * and which to merge next.
 *
 * A count changes with every merge, so the heap is lazy: an entry keeps the count that
 * the pair had when it was pushed, and is put back where that is out of date. An entry
 * also keeps the words in which its pair came up, so that a merge visits only those.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_PAIR_QUEUE_H
#define QUIRE_RUNTIME_TOKENIZER_PAIR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Zero-initialised; `items` is released with qr_free. */
struct qr_word_list {
    int32_t *items; /* [count], ascending, no duplicates */
    int32_t count;
    int32_t capacity;
};

struct qr_pair {
    int32_t left;
    int32_t right;
    int64_t count;
    struct qr_word_list fresh; /* words to put into the queue at the next flush */
};

struct qr_pair_entry {
    int64_t count;
    int32_t left;
    int32_t right;
    int32_t pair; /* index into pairs */
    struct qr_word_list words;
};

/* Zero-initialise but for the order; release with qr_pair_queue_free. */
struct qr_pair_queue {
    /* Which of two pairs that are equally frequent comes first; NULL: by their ids. */
    bool (*precedes)(const void *arg, const struct qr_pair_entry *a, const struct qr_pair_entry *b);
    const void *order_arg;

    struct qr_pair *pairs; /* [n_pairs] */
    int32_t n_pairs;
    int32_t pairs_capacity;
    int32_t *slots; /* [n_slots]: index of a pair + 1, 0: empty */
    size_t n_slots;

    int32_t *touched; /* [n_touched]: pairs with fresh words */
    int32_t n_touched;
    int32_t touched_capacity;

    struct qr_pair_entry *heap; /* [n_heap] */
    int32_t n_heap;
    int32_t heap_capacity;
};

QR_BEGIN_DECLS

/*
 * Adds `delta` to the pair's count; a positive one also notes `word` for the next
 * flush. Words come in ascending order between two flushes.
 */
QR_MUST_CHECK enum qr_status qr_pair_queue_change(struct qr_pair_queue *queue, int32_t left,
                                                  int32_t right, int64_t delta, int32_t word);
/* Pushes the pairs that came up since the last flush. */
QR_MUST_CHECK enum qr_status qr_pair_queue_flush(struct qr_pair_queue *queue);
/*
 * Takes the most frequent pair; of equal ones that which precedes, by default that with the
 * smaller left id, then the smaller right id. False when none is left. The caller owns
 * entry->words.
 */
bool qr_pair_queue_pop(struct qr_pair_queue *queue, struct qr_pair_entry *entry);
void qr_pair_queue_free(struct qr_pair_queue *queue);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_PAIR_QUEUE_H */
