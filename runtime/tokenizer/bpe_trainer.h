/*
 * bpe_trainer.h - trains a byte-level BPE vocabulary (Sennrich et al., 2016, on the
 * bytes of GPT-2's pre-tokens) and writes it as a tokenizer.json.
 *
 * Deterministic: the most frequent pair is merged first; of equal ones the pair
 * with the smaller left id, then the smaller right id, as in HF's trainer. Each line,
 * with its newline, is a text of its own, as in HF's train(files).
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_BPE_TRAINER_H
#define QUIRE_RUNTIME_TOKENIZER_BPE_TRAINER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Called now and then from the calling thread, for a progress bar. */
typedef void (*qr_progress_fn)(void *arg, const char *phase, int64_t done, int64_t total);

struct qr_bpe_trainer_config {
    int32_t vocab_size;                /* special tokens and the 256 bytes included */
    int64_t min_frequency;             /* pairs seen less often are not merged; default 2 */
    const char *const *special_tokens; /* [n_special], get the first ids */
    int32_t n_special;
    qr_progress_fn progress; /* may be NULL */
    void *progress_arg;
};

QR_BEGIN_DECLS

/* Reads files[n_files] and writes `output_dir`/tokenizer.json; makes the directory. */
QR_MUST_CHECK enum qr_status qr_bpe_train(const struct qr_bpe_trainer_config *config,
                                          const char *const *files, int32_t n_files,
                                          const char *output_dir, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BPE_TRAINER_H */
