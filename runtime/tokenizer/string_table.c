/* string_table.c - see string_table.h for the contract. */
#include "runtime/tokenizer/string_table.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/array.h"

static uint32_t hash_of(const char *text, size_t n_bytes)
{
    return (uint32_t)XXH3_64bits(text, n_bytes);
}

/* The slot that holds the string, or the empty one where it belongs. */
static size_t find_slot(const struct qr_string_table *table, const char *text, size_t n_bytes,
                        uint32_t hash)
{
    size_t mask = table->n_slots - 1;
    size_t slot = hash & mask;

    for (; table->slots[slot] != 0; slot = (slot + 1) & mask) {
        const struct qr_string_entry *entry = &table->entries[table->slots[slot] - 1];
        if (entry->hash == hash && entry->length == n_bytes &&
            (n_bytes == 0 || memcmp(table->bytes.data + entry->offset, text, n_bytes) == 0))
            break;
    }
    return slot;
}

int32_t qr_string_table_find(const struct qr_string_table *table, const char *text, size_t n_bytes)
{
    if (table->n_slots == 0)
        return -1;
    return table->slots[find_slot(table, text, n_bytes, hash_of(text, n_bytes))] - 1;
}

static enum qr_status grow_slots(struct qr_string_table *table)
{
    size_t n_slots = table->n_slots == 0 ? 64 : table->n_slots * 2;
    int32_t *slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*slots));
    if (slots == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < table->count; i++) {
        size_t slot = table->entries[i].hash & (n_slots - 1);
        while (slots[slot] != 0)
            slot = (slot + 1) & (n_slots - 1);
        slots[slot] = i + 1;
    }
    qr_free(table->slots);
    table->slots = slots;
    table->n_slots = n_slots;
    return QR_OK;
}

static enum qr_status make_room(struct qr_string_table *table)
{
    void *grown = qr_array_grow(QR_ARENA_ENGINE, table->entries, table->count, &table->capacity,
                                sizeof(*table->entries));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    table->entries = grown;
    /* At most half full, so that probes stay short. */
    return (size_t)table->count * 2 >= table->n_slots ? grow_slots(table) : QR_OK;
}

enum qr_status qr_string_table_add(struct qr_string_table *table, const char *text, size_t n_bytes,
                                   int32_t *index)
{
    if (n_bytes > UINT32_MAX)
        return QR_ERR_NOMEM;
    QR_TRY(make_room(table));
    uint32_t hash = hash_of(text, n_bytes);
    size_t slot = find_slot(table, text, n_bytes, hash);
    if (table->slots[slot] == 0) {
        size_t offset = table->bytes.length;
        QR_TRY(qr_buffer_append(&table->bytes, text, n_bytes));
        table->entries[table->count] = (struct qr_string_entry){
            .offset = offset,
            .length = (uint32_t)n_bytes,
            .hash = hash,
        };
        table->slots[slot] = ++table->count;
    }
    *index = table->slots[slot] - 1;
    return QR_OK;
}

void qr_string_table_free(struct qr_string_table *table)
{
    qr_buffer_free(&table->bytes);
    qr_free(table->entries);
    qr_free(table->slots);
    *table = (struct qr_string_table){0};
}
