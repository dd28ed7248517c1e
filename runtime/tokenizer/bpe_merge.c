/* bpe_merge.c - see bpe_merge.h for the contract. */
#include "runtime/tokenizer/bpe_merge.h"

#include "base/array.h"

struct join {
    qr_bpe_join_fn find;
    const void *model;
    const char *text;
};

enum qr_status qr_bpe_add_symbol(struct qr_bpe_scratch *scratch, uint32_t length, int32_t id,
                                 bool is_frozen)
{
    int32_t i = scratch->n_symbols;

    void *grown = qr_array_grow(QR_ARENA_REQUEST, scratch->symbols, i, &scratch->symbols_capacity,
                                sizeof(*scratch->symbols));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    scratch->symbols = grown;
    struct qr_bpe_symbol *last = i > 0 ? &scratch->symbols[i - 1] : NULL;
    if (last != NULL)
        last->next = i;
    scratch->symbols[i] = (struct qr_bpe_symbol){
        .begin = last != NULL ? last->begin + last->length : 0,
        .length = length,
        .id = id,
        .prev = i - 1,
        .next = -1,
        .is_frozen = is_frozen,
    };
    scratch->n_symbols++;
    return QR_OK;
}

static bool comes_first(const struct qr_bpe_candidate *a, const struct qr_bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static enum qr_status push(struct qr_bpe_scratch *scratch, struct qr_bpe_candidate candidate)
{
    void *grown = qr_array_grow(QR_ARENA_REQUEST, scratch->heap, scratch->n_heap,
                                &scratch->heap_capacity, sizeof(*scratch->heap));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    scratch->heap = grown;
    int32_t i = scratch->n_heap++;
    while (i > 0 && comes_first(&candidate, &scratch->heap[(i - 1) / 2])) {
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    scratch->heap[i] = candidate;
    return QR_OK;
}

static struct qr_bpe_candidate pop(struct qr_bpe_scratch *scratch)
{
    struct qr_bpe_candidate *heap = scratch->heap;
    struct qr_bpe_candidate top = heap[0];
    struct qr_bpe_candidate last = heap[--scratch->n_heap];
    int32_t i = 0;

    for (int32_t child = 1; child < scratch->n_heap; child = 2 * i + 1) {
        if (child + 1 < scratch->n_heap && comes_first(&heap[child + 1], &heap[child]))
            child++;
        if (!comes_first(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Notes that symbol `i` and its right neighbour can be joined, if they can. */
static enum qr_status consider(struct qr_bpe_scratch *scratch, const struct join *join, int32_t i)
{
    if (i < 0 || scratch->symbols[i].next < 0)
        return QR_OK;
    const struct qr_bpe_symbol *left = &scratch->symbols[i];
    const struct qr_bpe_symbol *right = &scratch->symbols[left->next];
    int32_t rank;
    if (left->is_frozen || right->is_frozen)
        return QR_OK;
    int32_t id = join->find(join->model, join->text, left, right, &rank);
    if (id < 0)
        return QR_OK;
    return push(scratch, (struct qr_bpe_candidate){
                             .rank = rank,
                             .left = i,
                             .left_length = left->length,
                             .right_length = right->length,
                             .id = id,
                         });
}

/*
 * Whether the pair is still there. As in the reference implementations a pair that has
 * been cut anew counts as long as it becomes the same token.
 */
static bool is_current(const struct qr_bpe_scratch *scratch, const struct join *join,
                       const struct qr_bpe_candidate *candidate)
{
    const struct qr_bpe_symbol *left = &scratch->symbols[candidate->left];
    int32_t rank;

    if (left->length == 0 || left->next < 0)
        return false;
    const struct qr_bpe_symbol *right = &scratch->symbols[left->next];
    if (left->length == candidate->left_length && right->length == candidate->right_length)
        return true;
    return left->length + right->length == candidate->left_length + candidate->right_length &&
           join->find(join->model, join->text, left, right, &rank) == candidate->id;
}

enum qr_status qr_bpe_merge(struct qr_bpe_scratch *scratch, qr_bpe_join_fn join_fn,
                            const void *model, const char *text)
{
    const struct join join = {.find = join_fn, .model = model, .text = text};

    scratch->n_heap = 0;
    for (int32_t i = 0; i < scratch->n_symbols; i++)
        QR_TRY(consider(scratch, &join, i));
    while (scratch->n_heap > 0) {
        struct qr_bpe_candidate candidate = pop(scratch);
        if (!is_current(scratch, &join, &candidate))
            continue;
        struct qr_bpe_symbol *left = &scratch->symbols[candidate.left];
        struct qr_bpe_symbol *right = &scratch->symbols[left->next];
        left->length += right->length;
        left->id = candidate.id;
        left->next = right->next;
        if (right->next >= 0)
            scratch->symbols[right->next].prev = candidate.left;
        right->length = 0;
        QR_TRY(consider(scratch, &join, left->prev));
        QR_TRY(consider(scratch, &join, candidate.left));
    }
    return QR_OK;
}

void qr_bpe_scratch_free(struct qr_bpe_scratch *scratch)
{
    qr_free(scratch->symbols);
    qr_free(scratch->heap);
    *scratch = (struct qr_bpe_scratch){0};
}
