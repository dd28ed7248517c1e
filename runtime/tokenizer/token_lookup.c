/* token_lookup.c - see token_lookup.h for the contract. */
#include "runtime/tokenizer/token_lookup.h"

#include <string.h>

#include "base/array.h"
#include "base/assert.h"

enum { MAX_SHORT = 16 };

struct key {
    uint64_t head;
    uint64_t tail;
};

/* Together with the length it is the text itself; nothing beyond the text is read. */
static inline struct key key_of(const char *text, size_t n_bytes)
{
    struct key key = {0, 0};

    if (n_bytes >= 8) {
        memcpy(&key.head, text, 8);
        memcpy(&key.tail, text + n_bytes - 8, 8);
    } else if (n_bytes >= 4) {
        memcpy(&key.head, text, 4);
        memcpy(&key.tail, text + n_bytes - 4, 4);
    } else {
        key.head = (uint64_t)(uint8_t)text[0] << 16 | (uint64_t)(uint8_t)text[n_bytes / 2] << 8 |
                   (uint8_t)text[n_bytes - 1];
    }
    return key;
}

static inline size_t slot_of(const struct qr_token_lookup *lookup, struct key key, size_t n_bytes)
{
    uint64_t hash = (key.head ^ n_bytes) * UINT64_C(0x9e3779b97f4a7c15);

    hash = (hash ^ hash >> 32 ^ key.tail) * UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(hash >> lookup->slot_shift);
}

static inline struct qr_token_slot *find_slot(const struct qr_token_lookup *lookup, struct key key,
                                              size_t n_bytes)
{
    struct qr_token_slot *slots = lookup->slots;
    size_t slot = slot_of(lookup, key, n_bytes);

    while (slots[slot].entry.length != 0 &&
           (slots[slot].head != key.head || slots[slot].tail != key.tail ||
            slots[slot].entry.length != n_bytes))
        slot = (slot + 1) & (lookup->n_slots - 1);
    return &slots[slot];
}

enum qr_status qr_token_lookup_reserve(struct qr_token_lookup *lookup, size_t count)
{
    QR_ASSERT(lookup->slots == NULL);
    size_t n_slots = 16;
    int bits = 4;
    for (; n_slots < count * 2; n_slots *= 2)
        bits++;
    lookup->slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*lookup->slots));
    lookup->neighbours =
        qr_calloc(QR_ARENA_ENGINE, QR_BYTE_PAIRS / 64, sizeof(*lookup->neighbours));
    if (lookup->slots == NULL || lookup->neighbours == NULL)
        return QR_ERR_NOMEM;
    lookup->n_slots = n_slots;
    lookup->slot_shift = 64 - bits;
    return QR_OK;
}

static enum qr_status add_long(struct qr_token_lookup *lookup, const char *text, size_t n_bytes,
                               int32_t id)
{
    int32_t index;

    void *grown = qr_array_grow(QR_ARENA_ENGINE, lookup->long_entries, lookup->long_texts.count,
                                &lookup->long_capacity, sizeof(*lookup->long_entries));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    lookup->long_entries = grown;
    QR_TRY(qr_string_table_add(&lookup->long_texts, text, n_bytes, &index));
    lookup->long_entries[index].id = id;
    lookup->long_entries[index].length = 0;
    lookup->long_entries[index].outcome = QR_TOKEN_UNTRIED;
    return QR_OK;
}

enum qr_status qr_token_lookup_add(struct qr_token_lookup *lookup, const char *text, size_t n_bytes,
                                   int32_t id)
{
    QR_ASSERT(n_bytes > 0 && lookup->slots != NULL);
    if (n_bytes > lookup->max_length)
        lookup->max_length = n_bytes;
    for (size_t i = 0; i + 1 < n_bytes; i++) {
        size_t pair = qr_byte_pair(text[i], text[i + 1]);
        lookup->neighbours[pair / 64] |= UINT64_C(1) << pair % 64;
    }
    if (n_bytes > MAX_SHORT)
        return add_long(lookup, text, n_bytes, id);
    struct key key = key_of(text, n_bytes);
    struct qr_token_slot *slot = find_slot(lookup, key, n_bytes);
    slot->head = key.head;
    slot->tail = key.tail;
    slot->entry.id = id;
    slot->entry.length = (uint8_t)n_bytes;
    return QR_OK;
}

struct qr_token_entry *qr_token_lookup_find(const struct qr_token_lookup *lookup, const char *text,
                                            size_t n_bytes)
{
    if (n_bytes > lookup->max_length)
        return NULL;
    if (n_bytes > MAX_SHORT) {
        int32_t index = qr_string_table_find(&lookup->long_texts, text, n_bytes);
        return index < 0 ? NULL : &lookup->long_entries[index];
    }
    struct qr_token_slot *slot = find_slot(lookup, key_of(text, n_bytes), n_bytes);
    return slot->entry.length == 0 ? NULL : &slot->entry;
}

void qr_token_lookup_free(struct qr_token_lookup *lookup)
{
    qr_free(lookup->slots);
    qr_free(lookup->neighbours);
    qr_string_table_free(&lookup->long_texts);
    qr_free(lookup->long_entries);
    *lookup = (struct qr_token_lookup){0};
}
