/* bpe_writer.h - writes a byte-level BPE vocabulary as Hugging Face tokenizer.json. */
#ifndef QUIRE_RUNTIME_TOKENIZER_BPE_WRITER_H
#define QUIRE_RUNTIME_TOKENIZER_BPE_WRITER_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"

enum { QR_BPE_N_BYTES = 256 };

struct qr_bpe_merge {
    int32_t left; /* token ids */
    int32_t right;
};

QR_BEGIN_DECLS

/*
 * Writes `output_dir`/tokenizer.json, whole or not at all; makes the directory.
 * `vocab` holds the tokens in the byte alphabet, by id; the first n_special are
 * special. Of merges[n_merges] that name the same pair the last counts, as in HF's.
 */
QR_MUST_CHECK enum qr_status qr_bpe_write(const char *output_dir,
                                          const struct qr_string_table *vocab, int32_t n_special,
                                          const struct qr_bpe_merge *merges, int32_t n_merges,
                                          struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BPE_WRITER_H */
