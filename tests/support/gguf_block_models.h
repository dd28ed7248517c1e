/* gguf_block_models.h - two GGUF files with the same weights, once in blocks. */
#ifndef QUIRE_TESTS_SUPPORT_GGUF_BLOCK_MODELS_H
#define QUIRE_TESTS_SUPPORT_GGUF_BLOCK_MODELS_H

#include "tests/support/gguf_builder.h"

enum { GGUF_BLOCK_MODEL_VOCAB = 48 };

/*
 * Writes blocks.gguf, a LLaMA of one layer whose matrices are random blocks of `dtype`, and
 * plain.gguf, the same with the values of the blocks rounded to `plain`, F32 or BF16.
 */
void gguf_write_block_models(const struct qr_temp_dir *dir, enum qr_dtype dtype,
                             enum qr_dtype plain);

#endif /* QUIRE_TESTS_SUPPORT_GGUF_BLOCK_MODELS_H */
