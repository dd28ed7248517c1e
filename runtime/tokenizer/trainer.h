/*
 * trainer.h - learns vocabularies from text files.
 *
 * Byte-level BPE (Sennrich et al., 2016, on the bytes of GPT-2's pre-tokens) is written as
 * a tokenizer.json. SentencePiece's BPE and unigram model (Kudo and Richardson, 2018; Kudo,
 * 2018) are written as a tokenizer.model, without a normalisation of their own: text is
 * taken as it is, but for white space, as SentencePiece's "identity" does.
 *
 * Deterministic, whatever the number of threads: each line is a text of its own, counts are
 * whole numbers and equals have an order.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRAINER_H
#define QUIRE_RUNTIME_TOKENIZER_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Called now and then from the calling thread, for a progress bar. */
typedef void (*qr_progress_fn)(void *arg, const char *phase, int64_t done, int64_t total);

struct qr_trainer_config {
    int32_t vocab_size;                /* all tokens: special ones, bytes and characters, too */
    int64_t min_frequency;             /* of a pair that byte-level BPE merges; usually 2 */
    const char *const *special_tokens; /* [n_special], get the first ids */
    int32_t n_special;
    int32_t n_threads; /* 1 to 1024 */

    /* SentencePiece's models only. */
    float character_coverage; /* share of the text's characters, in (0, 1]; usually 0.9995 */
    bool byte_fallback;       /* characters without a piece are encoded as bytes */
    int32_t max_piece_length; /* characters, the space included; usually 16 */

    qr_progress_fn progress; /* may be NULL */
    void *progress_arg;
};

QR_BEGIN_DECLS

/*
 * Each reads files[n_files], makes the directory `output_dir` if need be and writes its file
 * there, whole or not at all. Errors name the file or the option.
 *
 * tokenizer.json. The most frequent pair is merged first; of equal ones that with the
 * smaller left id, then the smaller right id, as in HF's trainer.
 */
QR_MUST_CHECK enum qr_status qr_train_byte_level_bpe(const struct qr_trainer_config *config,
                                                     const char *const *files, int32_t n_files,
                                                     const char *output_dir, struct qr_error *err);
/*
 * tokenizer.model. The most frequent pair is merged first; of equal ones that which makes
 * the shorter piece, then the one first in the order of bytes.
 */
QR_MUST_CHECK enum qr_status qr_train_sentencepiece_bpe(const struct qr_trainer_config *config,
                                                        const char *const *files, int32_t n_files,
                                                        const char *output_dir,
                                                        struct qr_error *err);
/*
 * tokenizer.model. May hold fewer pieces than vocab_size when the text is small.
 */
QR_MUST_CHECK enum qr_status qr_train_unigram(const struct qr_trainer_config *config,
                                              const char *const *files, int32_t n_files,
                                              const char *output_dir, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRAINER_H */
