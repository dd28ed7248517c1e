/* pair_queue.c - see pair_queue.h for the contract. */
#include "runtime/tokenizer/pair_queue.h"

#include "base/array.h"

static size_t hash_pair(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(key ^ key >> 32);
}

static size_t find_slot(const struct qr_pair_queue *queue, int32_t left, int32_t right)
{
    size_t mask = queue->n_slots - 1;
    size_t slot = hash_pair(left, right) & mask;

    for (; queue->slots[slot] != 0; slot = (slot + 1) & mask) {
        const struct qr_pair *pair = &queue->pairs[queue->slots[slot] - 1];
        if (pair->left == left && pair->right == right)
            break;
    }
    return slot;
}

static enum qr_status grow_slots(struct qr_pair_queue *queue)
{
    size_t n_slots = queue->n_slots == 0 ? 1024 : queue->n_slots * 2;
    int32_t *slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*slots));
    if (slots == NULL)
        return QR_ERR_NOMEM;
    qr_free(queue->slots);
    queue->slots = slots;
    queue->n_slots = n_slots;
    for (int32_t i = 0; i < queue->n_pairs; i++)
        slots[find_slot(queue, queue->pairs[i].left, queue->pairs[i].right)] = i + 1;
    return QR_OK;
}

static enum qr_status find_pair(struct qr_pair_queue *queue, int32_t left, int32_t right,
                                struct qr_pair **out)
{
    if ((size_t)queue->n_pairs * 2 >= queue->n_slots)
        QR_TRY(grow_slots(queue));
    size_t slot = find_slot(queue, left, right);
    if (queue->slots[slot] == 0) {
        void *grown = qr_array_grow(QR_ARENA_ENGINE, queue->pairs, queue->n_pairs,
                                    &queue->pairs_capacity, sizeof(*queue->pairs));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        queue->pairs = grown;
        queue->pairs[queue->n_pairs] = (struct qr_pair){.left = left, .right = right};
        queue->slots[slot] = ++queue->n_pairs;
    }
    *out = &queue->pairs[queue->slots[slot] - 1];
    return QR_OK;
}

enum qr_status qr_pair_queue_change(struct qr_pair_queue *queue, int32_t left, int32_t right,
                                    int64_t delta, int32_t word)
{
    struct qr_pair *pair;

    QR_TRY(find_pair(queue, left, right, &pair));
    pair->count += delta;
    struct qr_word_list *fresh = &pair->fresh;
    if (delta <= 0 || (fresh->count > 0 && fresh->items[fresh->count - 1] == word))
        return QR_OK;
    if (fresh->count == 0) {
        void *grown = qr_array_grow(QR_ARENA_ENGINE, queue->touched, queue->n_touched,
                                    &queue->touched_capacity, sizeof(*queue->touched));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        queue->touched = grown;
        queue->touched[queue->n_touched++] = (int32_t)(pair - queue->pairs);
    }
    void *grown = qr_array_grow(QR_ARENA_ENGINE, fresh->items, fresh->count, &fresh->capacity,
                                sizeof(*fresh->items));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    fresh->items = grown;
    fresh->items[fresh->count++] = word;
    return QR_OK;
}

static bool comes_first(const struct qr_pair_queue *queue, const struct qr_pair_entry *a,
                        const struct qr_pair_entry *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    if (queue->precedes != NULL)
        return queue->precedes(queue->order_arg, a, b);
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void sift_up(struct qr_pair_queue *queue, int32_t i, struct qr_pair_entry entry)
{
    while (i > 0 && comes_first(queue, &entry, &queue->heap[(i - 1) / 2])) {
        queue->heap[i] = queue->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    queue->heap[i] = entry;
}

static void sift_down(struct qr_pair_queue *queue, int32_t i, struct qr_pair_entry entry)
{
    for (int32_t child = 2 * i + 1; child < queue->n_heap; child = 2 * i + 1) {
        if (child + 1 < queue->n_heap &&
            comes_first(queue, &queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!comes_first(queue, &queue->heap[child], &entry))
            break;
        queue->heap[i] = queue->heap[child];
        i = child;
    }
    queue->heap[i] = entry;
}

enum qr_status qr_pair_queue_flush(struct qr_pair_queue *queue)
{
    for (int32_t i = 0; i < queue->n_touched; i++) {
        struct qr_pair *pair = &queue->pairs[queue->touched[i]];
        if (pair->count > 0) {
            void *grown = qr_array_grow(QR_ARENA_ENGINE, queue->heap, queue->n_heap,
                                        &queue->heap_capacity, sizeof(*queue->heap));
            if (grown == NULL)
                return QR_ERR_NOMEM;
            queue->heap = grown;
            struct qr_pair_entry entry = {
                .count = pair->count,
                .left = pair->left,
                .right = pair->right,
                .pair = queue->touched[i],
                .words = pair->fresh,
            };
            sift_up(queue, queue->n_heap++, entry);
        } else {
            qr_free(pair->fresh.items);
        }
        pair->fresh = (struct qr_word_list){0};
    }
    queue->n_touched = 0;
    return QR_OK;
}

bool qr_pair_queue_pop(struct qr_pair_queue *queue, struct qr_pair_entry *entry)
{
    while (queue->n_heap > 0) {
        struct qr_pair_entry top = queue->heap[0];
        int64_t count = queue->pairs[top.pair].count;
        if (top.count == count) {
            queue->n_heap--;
            if (queue->n_heap > 0)
                sift_down(queue, 0, queue->heap[queue->n_heap]);
            *entry = top;
            return true;
        }
        top.count = count;
        sift_down(queue, 0, top);
    }
    return false;
}

void qr_pair_queue_free(struct qr_pair_queue *queue)
{
    for (int32_t i = 0; i < queue->n_pairs; i++)
        qr_free(queue->pairs[i].fresh.items);
    for (int32_t i = 0; i < queue->n_heap; i++)
        qr_free(queue->heap[i].words.items);
    qr_free(queue->pairs);
    qr_free(queue->slots);
    qr_free(queue->touched);
    qr_free(queue->heap);
    *queue = (struct qr_pair_queue){0};
}
