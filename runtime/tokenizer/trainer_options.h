/* trainer_options.h - what the trainers check and do alike with their options. */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRAINER_OPTIONS_H
#define QUIRE_RUNTIME_TOKENIZER_TRAINER_OPTIONS_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trainer.h"

QR_BEGIN_DECLS

/*
 * Checks vocab_size against n_fixed tokens (named by `what`) and the special ones, these by
 * themselves, and the number of threads.
 */
QR_MUST_CHECK enum qr_status qr_trainer_check(const struct qr_trainer_config *config,
                                              int32_t n_fixed, const char *what,
                                              struct qr_error *err);
/* The same for SentencePiece's models, and the options that only they have. */
QR_MUST_CHECK enum qr_status qr_trainer_check_pieces(const struct qr_trainer_config *config,
                                                     struct qr_error *err);
/* *n_left: pieces to be learnt, the text's n_chars characters included. */
QR_MUST_CHECK enum qr_status qr_trainer_check_chars(const struct qr_trainer_config *config,
                                                    int32_t n_chars, int32_t *n_left,
                                                    struct qr_error *err);
/* Adds the special tokens to the vocabulary, in their order. */
QR_MUST_CHECK enum qr_status qr_trainer_add_special(struct qr_string_table *vocab,
                                                    const struct qr_trainer_config *config);
/* Writes DIRECTORY/NAME, whole or not at all; makes the directory unless it is there. */
QR_MUST_CHECK enum qr_status qr_trainer_write_file(const char *directory, const char *name,
                                                   const char *bytes, size_t n_bytes,
                                                   struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRAINER_OPTIONS_H */
