/*
 * token_table.h - what each token id stands for: the bytes it adds to a text, and
 * what kind of token it is. All that decoding needs.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKEN_TABLE_H
#define QUIRE_RUNTIME_TOKENIZER_TOKEN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

/* Ids from here on are taken for a broken file, not for a large vocabulary. */
enum { QR_MAX_VOCAB = 1 << 22 };

enum qr_token_flags {
    QR_TOKEN_KNOWN = 1,   /* the id is in use */
    QR_TOKEN_SPECIAL = 2, /* marks structure; left out of plain text */
};

struct qr_token {
    size_t offset;         /* into bytes */
    size_t first_offset;   /* of what it stands for at the beginning of a text, where a */
    uint32_t length;       /* space may be the dummy prefix; bytes */
    uint32_t first_length; /* bytes */
    uint8_t flags;         /* enum qr_token_flags */
};

/* Zero-initialise; release with qr_token_table_free. Immutable once it is filled. */
struct qr_token_table {
    struct qr_buffer bytes;
    struct qr_token *tokens; /* [count] */
    int32_t count;           /* highest id + 1 */
    int32_t capacity;
    size_t max_length;       /* bytes of the longest token */
    bool first_until_text;   /* a text begins with its first token that has text, else with its */
                             /* first token */
    int32_t unknown_id;      /* has a text where special tokens are skipped, too: */
    struct qr_token unknown; /* its length is 0 where it has none */
};

QR_BEGIN_DECLS

/* Sets or replaces a token, 0 <= id < QR_MAX_VOCAB; QR_TOKEN_KNOWN is added to the flags. */
QR_MUST_CHECK enum qr_status qr_token_table_set(struct qr_token_table *table, int32_t id,
                                                const char *text, size_t n_bytes, uint8_t flags);
/* What a token that has been set stands for at the beginning of a text, if something else. */
QR_MUST_CHECK enum qr_status qr_token_table_set_first(struct qr_token_table *table, int32_t id,
                                                      const char *text, size_t n_bytes);
/* What the unknown token stands for where special tokens are skipped. */
QR_MUST_CHECK enum qr_status qr_token_table_set_unknown(struct qr_token_table *table, int32_t id,
                                                        const char *text, size_t n_bytes);
void qr_token_table_free(struct qr_token_table *table);

static inline bool qr_token_table_has(const struct qr_token_table *table, int32_t id)
{
    return id >= 0 && id < table->count && (table->tokens[id].flags & QR_TOKEN_KNOWN) != 0;
}

/*
 * The bytes that `id` adds to a text: none for an unused id, or a special one where
 * those are skipped. *at_start is the state of the text so far: true at its beginning.
 */
const char *qr_token_table_text(const struct qr_token_table *table, int32_t id, bool skip_special,
                                bool *at_start, size_t *n_bytes);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKEN_TABLE_H */
