/*
 * charsmap.h - SentencePiece's precompiled normalisation map: which strings of characters are
 * replaced by which (Kudo and Richardson, 2018, section 3.3).
 *
 * The format is a length (32 bits, little-endian), that many bytes of a double-array trie
 * (Aoe, 1989, in the layout of the library Darts-clone), and the replacements, each ended by a
 * NUL, to which the trie's values are offsets.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_CHARSMAP_H
#define QUIRE_RUNTIME_TOKENIZER_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Zero-initialise, which maps nothing; release with qr_charsmap_free. Immutable once read. */
struct qr_charsmap {
    uint32_t *units; /* [n_units] */
    size_t n_units;
    char *texts; /* [n_texts], ends in a NUL */
    size_t n_texts;
};

/* What a text begins with, and what that becomes. */
struct qr_charsmap_rule {
    size_t n_bytes;   /* of the text */
    const char *text; /* NUL-terminated */
};

QR_BEGIN_DECLS

/* QR_ERR_INVALID when the bytes are no such map. */
QR_MUST_CHECK enum qr_status qr_charsmap_read(struct qr_charsmap *map, const void *data,
                                              size_t n_bytes);
/*
 * The longest, else the shortest, rule for what text[n_bytes] begins with; false when there
 * is none.
 */
bool qr_charsmap_find(const struct qr_charsmap *map, const char *text, size_t n_bytes,
                      bool takes_longest, struct qr_charsmap_rule *rule);
void qr_charsmap_free(struct qr_charsmap *map);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_CHARSMAP_H */
