/*
 * training_seeds.h - the pieces that the training of a unigram model begins with: the
 * characters, and the substrings that cover most of the text, found in a suffix array.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRAINING_SEEDS_H
#define QUIRE_RUNTIME_TOKENIZER_TRAINING_SEEDS_H

#include <stdint.h>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/tokenizer/sentencepiece_words.h"
#include "runtime/tokenizer/training_pieces.h"

QR_BEGIN_DECLS

/*
 * Fills pieces->items with the characters of `chars` that occur, in their order, and up to
 * max_seeds longer pieces of at most max_length characters and one script, by falling count
 * times length. Scores are the logarithms of those, as shares.
 */
QR_MUST_CHECK enum qr_status qr_training_seeds(const struct qr_unigram_text *text,
                                               const struct qr_training_char *chars,
                                               int32_t n_chars, int32_t max_length,
                                               int32_t max_seeds, struct qr_thread_pool *pool,
                                               struct qr_training_pieces *pieces);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRAINING_SEEDS_H */
