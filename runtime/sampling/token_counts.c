/* token_counts.c - see token_counts.h for the contract. */
#include "runtime/sampling/token_counts.h"

#include <string.h>

#include "base/assert.h"

struct qr_token_counts {
    struct qr_token_count *items; /* [capacity], the first n in use */
    int32_t *slots;               /* [n_slots] by hash, then the next free: 1 + index; 0: free */
    int32_t n;
    int32_t capacity;
    uint32_t n_slots; /* a power of two, at least twice the capacity */
    int32_t n_prompt; /* counted of it */
    int32_t n_output;
};

enum qr_status qr_token_counts_create(enum qr_arena arena, int32_t capacity,
                                      struct qr_token_counts **out)
{
    *out = NULL;
    struct qr_token_counts *counts = qr_calloc(arena, 1, sizeof(*counts));
    if (counts == NULL)
        return QR_ERR_NOMEM;
    counts->capacity = capacity;
    counts->n_slots = 2;
    while (counts->n_slots < 2 * (uint32_t)capacity)
        counts->n_slots *= 2;
    counts->items = qr_malloc(arena, (size_t)capacity * sizeof(*counts->items));
    counts->slots = qr_calloc(arena, counts->n_slots, sizeof(*counts->slots));
    if (counts->items == NULL || counts->slots == NULL) {
        qr_token_counts_destroy(counts);
        return QR_ERR_NOMEM;
    }
    *out = counts;
    return QR_OK;
}

void qr_token_counts_destroy(struct qr_token_counts *counts)
{
    if (counts == NULL)
        return;
    qr_free(counts->items);
    qr_free(counts->slots);
    qr_free(counts);
}

void qr_token_counts_copy(struct qr_token_counts *counts, const struct qr_token_counts *from)
{
    QR_ASSERT(counts->capacity == from->capacity);
    memcpy(counts->items, from->items, (size_t)from->n * sizeof(*counts->items));
    memcpy(counts->slots, from->slots, counts->n_slots * sizeof(*counts->slots));
    counts->n = from->n;
    counts->n_prompt = from->n_prompt;
    counts->n_output = from->n_output;
}

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): neighbouring ids are spread. */
static uint32_t hash(uint32_t token_id)
{
    uint32_t product = token_id * UINT32_C(0x9E3779B1);
    return product ^ product >> 15;
}

static struct qr_token_count *count_of(struct qr_token_counts *counts, int32_t token_id)
{
    uint32_t slot = hash((uint32_t)token_id) & (counts->n_slots - 1);

    for (; counts->slots[slot] != 0; slot = (slot + 1) & (counts->n_slots - 1)) {
        struct qr_token_count *item = &counts->items[counts->slots[slot] - 1];
        if (item->token_id == token_id)
            return item;
    }
    QR_ASSERT(counts->n < counts->capacity);
    counts->items[counts->n] = (struct qr_token_count){.token_id = token_id};
    counts->slots[slot] = ++counts->n;
    return &counts->items[counts->n - 1];
}

void qr_token_counts_update(struct qr_token_counts *counts, const int32_t *prompt, int32_t n_prompt,
                            const int32_t *output, int32_t n_output)
{
    for (; counts->n_prompt < n_prompt; counts->n_prompt++)
        count_of(counts, prompt[counts->n_prompt]);
    for (; counts->n_output < n_output; counts->n_output++)
        count_of(counts, output[counts->n_output])->n_output++;
}

int32_t qr_token_counts_get(const struct qr_token_counts *counts,
                            const struct qr_token_count **items)
{
    *items = counts->items;
    return counts->n;
}
