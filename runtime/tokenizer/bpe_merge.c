/* bpe_merge.c - see bpe_merge.h for the contract. */
#include "runtime/tokenizer/bpe_merge.h"

#include "base/alloc.h"

enum {
    SHORT = 48,          /* symbols: up to here a look at all of them is faster than a queue */
    NO_RANK = INT32_MAX, /* the pair cannot be joined */
    MIN_CAPACITY = 256,
};

struct join {
    qr_bpe_join_fn find;
    const void *model;
    const char *text;
};

enum qr_status qr_bpe_begin(struct qr_bpe_scratch *scratch, size_t n_bytes)
{
    scratch->n_symbols = 0;
    if (n_bytes <= (size_t)scratch->capacity)
        return QR_OK;
    if (n_bytes > INT32_MAX / 2)
        return QR_ERR_NOMEM;
    size_t doubled = scratch->capacity > 0 ? (size_t)scratch->capacity * 2 : MIN_CAPACITY;
    size_t capacity = n_bytes > doubled ? n_bytes : doubled;
    qr_bpe_scratch_free(scratch);
    scratch->symbols = qr_malloc(QR_ARENA_REQUEST, capacity * sizeof(*scratch->symbols));
    scratch->ranks = qr_malloc(QR_ARENA_REQUEST, capacity * sizeof(*scratch->ranks));
    if (scratch->symbols == NULL || scratch->ranks == NULL)
        return QR_ERR_NOMEM;
    scratch->capacity = (int32_t)capacity;
    return QR_OK;
}

/* Notes whether symbol `i` and its right neighbour can be joined. */
static inline void consider(struct qr_bpe_scratch *scratch, const struct join *join, int32_t i)
{
    struct qr_bpe_symbol *left = &scratch->symbols[i];
    int32_t rank;

    scratch->ranks[i] = NO_RANK;
    if (left->next < 0 || left->is_frozen || scratch->symbols[left->next].is_frozen)
        return;
    left->joined = join->find(join->model, join->text, left, &scratch->symbols[left->next], &rank);
    if (left->joined >= 0)
        scratch->ranks[i] = rank;
}

/* Joins symbol `i` with its right neighbour, and looks at the two pairs that this makes. */
static inline void join_with_next(struct qr_bpe_scratch *scratch, const struct join *join,
                                  int32_t i)
{
    struct qr_bpe_symbol *left = &scratch->symbols[i];
    struct qr_bpe_symbol *right = &scratch->symbols[left->next];

    scratch->ranks[left->next] = NO_RANK;
    left->length += right->length;
    left->id = left->joined;
    left->next = right->next;
    if (right->next >= 0)
        scratch->symbols[right->next].prev = i;
    consider(scratch, join, i);
    if (left->prev >= 0)
        consider(scratch, join, left->prev);
}

static void merge_short(struct qr_bpe_scratch *scratch, const struct join *join)
{
    const int32_t *ranks = scratch->ranks;

    for (;;) {
        int32_t least = NO_RANK;
        for (int32_t i = 0; i < scratch->n_symbols; i++)
            least = ranks[i] < least ? ranks[i] : least;
        if (least == NO_RANK)
            return;
        int32_t first = 0;
        while (ranks[first] != least)
            first++;
        join_with_next(scratch, join, first);
    }
}

/*
 * The queue holds each pair that can or once could be joined: one is out of date when the
 * symbol has another rank by now.
 */
static enum qr_status push(struct qr_bpe_scratch *scratch, int32_t i)
{
    if (i < 0 || scratch->ranks[i] == NO_RANK)
        return QR_OK;
    return qr_rank_queue_push(&scratch->queue, scratch->ranks[i], i);
}

static enum qr_status merge_long(struct qr_bpe_scratch *scratch, const struct join *join)
{
    QR_TRY(qr_rank_queue_begin(&scratch->queue, scratch->n_symbols));
    for (int32_t i = 0; i < scratch->n_symbols; i++)
        QR_TRY(push(scratch, i));
    for (;;) {
        int32_t rank;
        int32_t i;
        QR_TRY(qr_rank_queue_pop(&scratch->queue, &rank, &i));
        if (rank < 0)
            return QR_OK;
        if (scratch->ranks[i] != rank)
            continue;
        join_with_next(scratch, join, i);
        QR_TRY(push(scratch, i));
        QR_TRY(push(scratch, scratch->symbols[i].prev));
    }
}

enum qr_status qr_bpe_merge(struct qr_bpe_scratch *scratch, qr_bpe_join_fn find, const void *model,
                            const char *text)
{
    const struct join join = {.find = find, .model = model, .text = text};

    for (int32_t i = 0; i < scratch->n_symbols; i++)
        consider(scratch, &join, i);
    if (scratch->n_symbols > SHORT)
        return merge_long(scratch, &join);
    merge_short(scratch, &join);
    return QR_OK;
}

void qr_bpe_scratch_free(struct qr_bpe_scratch *scratch)
{
    qr_free(scratch->symbols);
    qr_free(scratch->ranks);
    qr_rank_queue_free(&scratch->queue);
    *scratch = (struct qr_bpe_scratch){0};
}
