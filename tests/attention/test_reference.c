#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "attention/attention.h"

enum { PAGES = 3, LAYERS = 2, KV_HEADS = 2, PAGE_SIZE = 8, HEAD_DIM = 2, HEADS = 4 };

/* The layout of attention.h, as a type. */
typedef float pool_layout[PAGES][LAYERS][KV_HEADS][2][PAGE_SIZE][HEAD_DIM];

static const struct qr_kv_geometry geometry = {LAYERS, KV_HEADS, HEAD_DIM, PAGE_SIZE};

/* Ten tokens of a sequence that owns pages 2 and 0; the first of them is already there. */
static const struct qr_attention_batch nine_rows = {
    .n_seqs = 1,
    .query_start = (const int32_t[]){0, 9},
    .context_length = (const int32_t[]){10},
    .block_table = (const int32_t[]){2, 0},
    .block_table_stride = 2,
};

static void rows_are_written_to_their_slots_alone(void **state)
{
    (void)state;
    static pool_layout pool;
    float k[9][KV_HEADS][HEAD_DIM], v[9][KV_HEADS][HEAD_DIM];

    for (int r = 0; r < 9; r++) {
        for (int h = 0; h < KV_HEADS; h++) {
            for (int d = 0; d < HEAD_DIM; d++) {
                k[r][h][d] = (float)(1000 + r * 10 + h * 2 + d);
                v[r][h][d] = (float)(2000 + r * 10 + h * 2 + d);
            }
        }
    }
    const struct qr_kv_rows rows = {geometry,    1,           QR_DTYPE_F32, &nine_rows,
                                    &k[0][0][0], &v[0][0][0], pool};
    qr_kv_write_cpu(QR_ISA_SCALAR, &rows, 0, 9);

    int n_written = 0;
    for (size_t i = 0; i < sizeof(pool) / sizeof(float); i++)
        n_written += ((const float *)pool)[i] != 0.0f;
    assert_int_equal(n_written, 2 * 9 * KV_HEADS * HEAD_DIM);
    for (int r = 0; r < 9; r++) {
        int position = r + 1, page = position < PAGE_SIZE ? 2 : 0;
        for (int h = 0; h < KV_HEADS; h++) {
            for (int d = 0; d < HEAD_DIM; d++) {
                assert_true(pool[page][1][h][0][position % PAGE_SIZE][d] == k[r][h][d]);
                assert_true(pool[page][1][h][1][position % PAGE_SIZE][d] == v[r][h][d]);
            }
        }
    }
}

/*
 * Two rows at positions 0 and 1. The first sees one key, so it is that key's V. For the
 * second q . k is 0 and ln 3 in the first kv head (weights 1/4 and 3/4), and 0 and 0 in
 * the second (weights 1/2). Query heads 0, 1 belong to kv head 0; 2, 3 to kv head 1.
 */
static void reference_gives_values_worked_out_by_hand(void **state)
{
    (void)state;
    static pool_layout pool;
    float q[2][HEADS][HEAD_DIM], out[2][HEADS][HEAD_DIM];
    const struct qr_attention_batch batch = {
        .n_seqs = 1,
        .query_start = (const int32_t[]){0, 2},
        .context_length = (const int32_t[]){2},
        .block_table = (const int32_t[]){1},
        .block_table_stride = 1,
    };
    const struct qr_attention_params params = {
        .kv = geometry,
        .layer = 0,
        .n_heads = HEADS,
        .scale = 0.5f,
        .q = &q[0][0][0],
        .kv_pool = (float *)pool,
        .out = &out[0][0][0],
        .batch = &batch,
    };

    for (size_t i = 0; i < sizeof(q) / sizeof(float); i++)
        ((float *)q)[i] = 1.0f;
    pool[1][0][0][0][1][0] = 2.0f * logf(3.0f);
    for (int h = 0; h < KV_HEADS; h++) {
        pool[1][0][h][1][0][0] = 4.0f;
        pool[1][0][h][1][0][1] = -8.0f;
        pool[1][0][h][1][1][0] = 8.0f;
    }
    qr_attention_reference(&params);
    for (int h = 0; h < HEADS; h++) {
        float weight = h < 2 ? 0.25f : 0.5f; /* of the first key */
        assert_true(out[0][h][0] == 4.0f && out[0][h][1] == -8.0f);
        assert_true(fabsf(out[1][h][0] - (8.0f - 4.0f * weight)) < 1e-6f);
        assert_true(fabsf(out[1][h][1] + 8.0f * weight) < 1e-6f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_written_to_their_slots_alone),
        cmocka_unit_test(reference_gives_values_worked_out_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
