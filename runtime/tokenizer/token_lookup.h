/*
 * token_lookup.h - which piece of text is a token by itself.
 *
 * Most words of a text are: what takes a piece to its token in one memory access, without
 * merging, decides how fast BPE encodes. A token's text need not be encoded as the token,
 * though (merges may lead elsewhere), so each entry remembers, once it has been tried,
 * whether it is.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKEN_LOOKUP_H
#define QUIRE_RUNTIME_TOKENIZER_TOKEN_LOOKUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"

enum { QR_BYTE_PAIRS = 256 * 256 };

enum qr_token_outcome {
    QR_TOKEN_UNTRIED,
    QR_TOKEN_WHOLE, /* its text is encoded as this one token */
    QR_TOKEN_PARTS, /* as others */
};

/*
 * Any thread may note the outcome at any time: all find the same one, and it depends on
 * nothing but the vocabulary.
 */
struct qr_token_entry {
    int32_t id;
    uint8_t length;          /* bytes; 0: the slot is empty or the token is long */
    _Atomic uint8_t outcome; /* enum qr_token_outcome */
};

struct qr_token_slot {
    uint64_t head; /* the text's first and last bytes, which overlap in short texts */
    uint64_t tail;
    struct qr_token_entry entry;
};

/* Zero-initialise; release with qr_token_lookup_free. Lookups are thread-safe. */
struct qr_token_lookup {
    struct qr_token_slot *slots; /* [n_slots], open addressing: texts of at most 16 bytes */
    size_t n_slots;              /* a power of two, or 0 */
    int slot_shift;              /* of a hash's high bits to a slot */
    struct qr_string_table long_texts;
    struct qr_token_entry *long_entries; /* [long_texts.count] */
    int32_t long_capacity;
    size_t max_length;    /* bytes */
    uint64_t *neighbours; /* [QR_BYTE_PAIRS / 64] bits: a token holds the two bytes side by side */
};

QR_BEGIN_DECLS

/* Makes room for `count` tokens; before the first is added. */
QR_MUST_CHECK enum qr_status qr_token_lookup_reserve(struct qr_token_lookup *lookup, size_t count);
/* n_bytes > 0; no text is added twice. */
QR_MUST_CHECK enum qr_status qr_token_lookup_add(struct qr_token_lookup *lookup, const char *text,
                                                 size_t n_bytes, int32_t id);
/* NULL when the text (n_bytes > 0) is no token. */
struct qr_token_entry *qr_token_lookup_find(const struct qr_token_lookup *lookup, const char *text,
                                            size_t n_bytes);
void qr_token_lookup_free(struct qr_token_lookup *lookup);

/* A pair of neighbouring bytes as an index below QR_BYTE_PAIRS. */
static inline size_t qr_byte_pair(char left, char right)
{
    return (size_t)(uint8_t)left << 8 | (uint8_t)right;
}

/* Whether a token holds the two bytes side by side; where none does a text can be cut. */
static inline bool qr_token_lookup_joins(const struct qr_token_lookup *lookup, char left,
                                         char right)
{
    size_t pair = qr_byte_pair(left, right);
    return (lookup->neighbours[pair / 64] >> pair % 64 & 1) != 0;
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKEN_LOOKUP_H */
