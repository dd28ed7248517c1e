/* rank_queue.c - see rank_queue.h for the contract. */
#include "runtime/tokenizer/rank_queue.h"

#include <string.h>

#include "base/array.h"

enum {
    FEW_KEYS = 4096,
    CHILDREN = 4, /* of a node of the heap */
    BUCKET_BITS = 7,
    DIGIT_BITS = 8,
    N_DIGITS = 1 << DIGIT_BITS,
};

static enum qr_status append(struct qr_rank_keys *keys, uint64_t key)
{
    if (keys->count == keys->capacity) {
        void *grown = qr_array_grow(QR_ARENA_REQUEST, keys->items, keys->count, &keys->capacity,
                                    sizeof(*keys->items));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        keys->items = grown;
    }
    keys->items[keys->count++] = key;
    return QR_OK;
}

static enum qr_status push_heap(struct qr_rank_keys *heap, uint64_t key)
{
    int32_t at = heap->count;

    QR_TRY(append(heap, key));
    while (at > 0 && key < heap->items[(at - 1) / CHILDREN]) {
        heap->items[at] = heap->items[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    heap->items[at] = key;
    return QR_OK;
}

static uint64_t pop_heap(struct qr_rank_keys *heap)
{
    uint64_t *items = heap->items;
    uint64_t top = items[0];
    uint64_t last = items[--heap->count];
    int32_t at = 0;

    for (int32_t child = 1; child < heap->count; child = CHILDREN * at + 1) {
        int32_t end = child + CHILDREN < heap->count ? child + CHILDREN : heap->count;
        int32_t least = child;
        for (int32_t i = child + 1; i < end; i++)
            least = items[i] < items[least] ? i : least;
        if (items[least] >= last)
            break;
        items[at] = items[least];
        at = least;
    }
    items[at] = last;
    return top;
}

/* One digit of a radix sort: from keys to spare, which then change places. */
static void sort_by_digit(struct qr_rank_keys *keys, struct qr_rank_keys *spare, int shift)
{
    int32_t begins[N_DIGITS + 1] = {0};

    for (int32_t i = 0; i < keys->count; i++)
        begins[(keys->items[i] >> shift) % N_DIGITS + 1]++;
    for (int i = 0; i < N_DIGITS; i++)
        begins[i + 1] += begins[i];
    for (int32_t i = 0; i < keys->count; i++)
        spare->items[begins[(keys->items[i] >> shift) % N_DIGITS]++] = keys->items[i];
    struct qr_rank_keys sorted = *spare;
    sorted.count = keys->count;
    *spare = *keys;
    *keys = sorted;
}

static enum qr_status sort(struct qr_rank_keys *keys, struct qr_rank_keys *spare)
{
    uint64_t varying = 0;
    bool is_sorted = true;

    for (int32_t i = 1; i < keys->count; i++) {
        varying |= keys->items[i] ^ keys->items[0];
        is_sorted = is_sorted && keys->items[i - 1] <= keys->items[i];
    }
    if (is_sorted)
        return QR_OK;
    if (spare->capacity < keys->count) {
        void *grown = qr_realloc(QR_ARENA_REQUEST, spare->items,
                                 (size_t)keys->capacity * sizeof(*spare->items));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        spare->items = grown;
        spare->capacity = keys->capacity;
    }
    for (int shift = 0; shift < 64; shift += DIGIT_BITS) {
        if ((varying >> shift) % N_DIGITS != 0)
            sort_by_digit(keys, spare, shift);
    }
    return QR_OK;
}

enum qr_status qr_rank_queue_begin(struct qr_rank_queue *queue, int32_t n_keys)
{
    queue->heap.count = queue->sorted.count = queue->n_taken = 0;
    queue->active = QR_RANK_BUCKETS;
    if (n_keys <= FEW_KEYS)
        return QR_OK;
    queue->active = -1;
    if (queue->buckets == NULL)
        queue->buckets = qr_calloc(QR_ARENA_REQUEST, QR_RANK_BUCKETS, sizeof(*queue->buckets));
    return queue->buckets == NULL ? QR_ERR_NOMEM : QR_OK;
}

/* Low ranks are the most frequent pairs: their buckets are the narrowest. */
static int32_t bucket_of(int32_t rank)
{
    if (rank < 2 << BUCKET_BITS)
        return rank;
    int32_t shift = 31 - BUCKET_BITS - __builtin_clz((unsigned)rank);
    return (shift << BUCKET_BITS) + (rank >> shift);
}

enum qr_status qr_rank_queue_push(struct qr_rank_queue *queue, int32_t rank, int32_t position)
{
    uint64_t key = (uint64_t)(uint32_t)rank << 32 | (uint32_t)position;
    int32_t bucket = bucket_of(rank);

    return bucket <= queue->active ? push_heap(&queue->heap, key)
                                   : append(&queue->buckets[bucket], key);
}

/* Sorts the next bucket that holds something. */
static enum qr_status open_bucket(struct qr_rank_queue *queue)
{
    queue->sorted.count = queue->n_taken = 0;
    while (queue->active + 1 < QR_RANK_BUCKETS && queue->sorted.count == 0) {
        struct qr_rank_keys *bucket = &queue->buckets[++queue->active];
        struct qr_rank_keys emptied = queue->sorted;
        queue->sorted = *bucket;
        *bucket = emptied;
    }
    return sort(&queue->sorted, &queue->spare);
}

enum qr_status qr_rank_queue_pop(struct qr_rank_queue *queue, int32_t *rank, int32_t *position)
{
    uint64_t key;

    if (queue->heap.count == 0 && queue->n_taken == queue->sorted.count &&
        queue->active < QR_RANK_BUCKETS)
        QR_TRY(open_bucket(queue));
    bool has_sorted = queue->n_taken < queue->sorted.count;
    if (queue->heap.count == 0 && !has_sorted) {
        *rank = -1;
        return QR_OK;
    }
    if (has_sorted &&
        (queue->heap.count == 0 || queue->sorted.items[queue->n_taken] < queue->heap.items[0]))
        key = queue->sorted.items[queue->n_taken++];
    else
        key = pop_heap(&queue->heap);
    *rank = (int32_t)(key >> 32);
    *position = (int32_t)(uint32_t)key;
    return QR_OK;
}

void qr_rank_queue_free(struct qr_rank_queue *queue)
{
    for (int32_t i = 0; i < QR_RANK_BUCKETS && queue->buckets != NULL; i++)
        qr_free(queue->buckets[i].items);
    qr_free(queue->buckets);
    qr_free(queue->heap.items);
    qr_free(queue->sorted.items);
    qr_free(queue->spare.items);
    *queue = (struct qr_rank_queue){0};
}
