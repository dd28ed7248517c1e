/* gguf_block_models.c - see gguf_block_models.h. */
#include "tests/support/gguf_block_models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dequantize.h"

enum { HIDDEN = 256, HEADS = 4, CONTEXT = 64 };

struct block_model {
    struct gguf_builder blocks; /* its matrices in a block format */
    struct gguf_builder plain;  /* the same numbers, as: */
    enum qr_dtype plain_dtype;
    uint32_t seed;
};

/* A scale for a block, or 0 where the bytes at `at` are none. */
static float block_scale(enum qr_dtype dtype, size_t at)
{
    bool has_minimum = dtype == QR_DTYPE_Q4_1 || dtype == QR_DTYPE_Q5_1 || dtype == QR_DTYPE_Q4_K ||
                       dtype == QR_DTYPE_Q5_K;
    float scale = dtype == QR_DTYPE_Q8_0 || dtype == QR_DTYPE_Q6_K ? 0.0005f : 0.004f;

    if (qr_dtype_block_size(dtype) == 256)
        scale /= 16.0f;
    if (dtype == QR_DTYPE_Q6_K)
        return at == 208 ? scale : 0.0f;
    return at == 0 ? scale : at == 2 && has_minimum ? -8.0f * scale : 0.0f;
}

static void add_plain(struct block_model *model, const char *name, const int64_t *dims,
                      float *values, int64_t n)
{
    uint16_t *halves = (uint16_t *)values; /* each is written where its F32 was, or before */

    for (int64_t i = 0; i < n && model->plain_dtype == QR_DTYPE_BF16; i++) {
        uint16_t half = qr_f32_to_bf16(values[i]);
        memcpy(halves + i, &half, sizeof(half));
    }
    gguf_add_tensor(&model->plain, name, gguf_type_of(model->plain_dtype), 2, dims, values,
                    (size_t)n * qr_dtype_size(model->plain_dtype));
}

/* [rows][HIDDEN] random blocks */
static void add_matrix(struct block_model *model, const char *name, enum qr_dtype dtype,
                       int64_t rows)
{
    const int64_t dims[] = {rows, HIDDEN};
    size_t n_bytes = qr_dtype_row_bytes(dtype, rows * HIDDEN);
    uint8_t *blocks = malloc(n_bytes);
    float *values = malloc((size_t)rows * HIDDEN * sizeof(*values));

    assert_true(blocks != NULL && values != NULL);
    for (size_t i = 0; i < n_bytes; i++) {
        float scale = block_scale(dtype, i % qr_dtype_block_bytes(dtype));
        model->seed = model->seed * 1664525u + 1013904223u;
        blocks[i] = (uint8_t)(model->seed >> 24);
        if (scale != 0.0f) {
            uint16_t half = qr_f32_to_f16(scale);
            memcpy(blocks + i++, &half, sizeof(half));
        }
    }
    qr_dequantize(dtype, blocks, rows * HIDDEN, values);
    gguf_add_tensor(&model->blocks, name, gguf_type_of(dtype), 2, dims, blocks, n_bytes);
    add_plain(model, name, dims, values, rows * HIDDEN);
    free(blocks);
    free(values);
}

static void add_norm(struct gguf_builder *gguf, const char *name)
{
    const int64_t dims[] = {HIDDEN};
    float ones[HIDDEN];

    for (int i = 0; i < HIDDEN; i++)
        ones[i] = 1.0f;
    gguf_add_tensor(gguf, name, gguf_type_of(QR_DTYPE_F32), 1, dims, ones, sizeof(ones));
}

static void add_frame(struct gguf_builder *gguf)
{
    gguf_add_string(gguf, "general.architecture", "llama");
    gguf_add_u32(gguf, "llama.context_length", CONTEXT);
    gguf_add_u32(gguf, "llama.embedding_length", HIDDEN);
    gguf_add_u32(gguf, "llama.block_count", 1);
    gguf_add_u32(gguf, "llama.feed_forward_length", HIDDEN);
    gguf_add_u32(gguf, "llama.attention.head_count", HEADS);
    add_norm(gguf, "output_norm.weight");
    add_norm(gguf, "blk.0.attn_norm.weight");
    add_norm(gguf, "blk.0.ffn_norm.weight");
}

void gguf_write_block_models(const struct qr_temp_dir *dir, enum qr_dtype dtype,
                             enum qr_dtype plain)
{
    static const char *const matrices[] = {
        "blk.0.attn_q.weight",      "blk.0.attn_k.weight",   "blk.0.attn_v.weight",
        "blk.0.attn_output.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight",
    };
    struct block_model model = {.plain_dtype = plain, .seed = 5};

    add_frame(&model.blocks);
    add_frame(&model.plain);
    add_matrix(&model, "token_embd.weight", dtype, GGUF_BLOCK_MODEL_VOCAB); /* the head as well */
    for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]); i++)
        add_matrix(&model, matrices[i], dtype, HIDDEN);
    gguf_write(&model.blocks, dir, "blocks.gguf");
    gguf_write(&model.plain, dir, "plain.gguf");
    gguf_free(&model.blocks);
    gguf_free(&model.plain);
}
