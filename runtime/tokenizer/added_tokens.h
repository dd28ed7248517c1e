/*
 * added_tokens.h - tokens that are cut out of a text before the model sees it: special
 * ones, and others that a tokenizer adds to its model's vocabulary.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_ADDED_TOKENS_H
#define QUIRE_RUNTIME_TOKENIZER_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/trie.h"

struct qr_added_token {
    int32_t id;
    bool is_special;
    bool is_normalized;  /* looked for after normalisation, else before */
    bool is_single_word; /* only where it stands by itself */
    bool takes_left;     /* white space before it belongs to it ("lstrip") */
    bool takes_right;    /* and after it ("rstrip") */
};

/* Zero-initialise; release with qr_added_tokens_free. */
struct qr_added_tokens {
    struct qr_added_token *items; /* [count] */
    int32_t count;
    int32_t capacity;
    struct qr_trie tries[2]; /* [is_normalized]; values are indices of items */
};

/* One found in a text: text[begin .. end), white space included. */
struct qr_added_match {
    int32_t id;
    size_t begin;
    size_t end;
};

QR_BEGIN_DECLS

/* `text` is the token's content, not empty; normalised where the token is. */
QR_MUST_CHECK enum qr_status qr_added_tokens_add(struct qr_added_tokens *added,
                                                 const struct qr_added_token *token,
                                                 const char *text, size_t n_bytes);
/*
 * The first, and there the longest, at or after `from`; special ones only with_special. False
 * when there is none.
 */
bool qr_added_tokens_next(const struct qr_added_tokens *added, bool is_normalized,
                          bool with_special, const char *text, size_t n_bytes, size_t from,
                          struct qr_added_match *match);
/* The id of the special token with this text, -1: none. */
int32_t qr_added_tokens_find_special(const struct qr_added_tokens *added, const char *text,
                                     size_t n_bytes);
void qr_added_tokens_free(struct qr_added_tokens *added);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_ADDED_TOKENS_H */
