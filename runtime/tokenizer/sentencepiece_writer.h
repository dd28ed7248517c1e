/* sentencepiece_writer.h - writes a vocabulary as a SentencePiece .model file. */
#ifndef QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WRITER_H
#define QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trainer.h"

enum { QR_META_PIECES = 3, QR_BYTE_PIECES = 256 }; /* <unk>, <s>, </s>; <0x00> to <0xFF> */

QR_BEGIN_DECLS

/* How many pieces come before those that are learnt. */
int32_t qr_sentencepiece_n_fixed(const struct qr_trainer_config *config);
/*
 * Writes `output_dir`/tokenizer.model, whole or not at all; makes the directory. The pieces
 * are <unk>, <s>, </s>, the special tokens (as control symbols), the bytes where there is a
 * byte fallback, and then `pieces` in their order, with scores[pieces->count].
 */
QR_MUST_CHECK enum qr_status qr_sentencepiece_write(const char *output_dir,
                                                    const struct qr_trainer_config *config,
                                                    bool is_unigram,
                                                    const struct qr_string_table *pieces,
                                                    const float *scores, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WRITER_H */
