/*
 * string_table.h - byte strings numbered in the order in which they came: the words
 * of a corpus, the tokens of a vocabulary.
 *
 * Open addressing over XXH3 hashes; the bytes lie in one block. Zero-initialise,
 * release with qr_string_table_free. Lookups are thread-safe while nobody adds.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_STRING_TABLE_H
#define QUIRE_RUNTIME_TOKENIZER_STRING_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

struct qr_string_entry {
    size_t offset;   /* into bytes */
    uint32_t length; /* bytes */
    uint32_t hash;
};

struct qr_string_table {
    struct qr_buffer bytes;
    struct qr_string_entry *entries; /* [count] */
    int32_t count;
    int32_t capacity;
    int32_t *slots; /* [n_slots]: index + 1, 0: empty */
    size_t n_slots; /* a power of two, or 0 */
};

QR_BEGIN_DECLS

/* The string's index, -1 when it is not there. */
int32_t qr_string_table_find(const struct qr_string_table *table, const char *text, size_t n_bytes);
/* Adds the string unless it is there; *index is its index either way. */
QR_MUST_CHECK enum qr_status qr_string_table_add(struct qr_string_table *table, const char *text,
                                                 size_t n_bytes, int32_t *index);
void qr_string_table_free(struct qr_string_table *table);

static inline const char *qr_string_table_text(const struct qr_string_table *table, int32_t index)
{
    return table->bytes.data + table->entries[index].offset;
}

static inline size_t qr_string_table_length(const struct qr_string_table *table, int32_t index)
{
    return table->entries[index].length;
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_STRING_TABLE_H */
