/* test_kv_write.c - rows of K and V are rounded to nearest as they are written; in all formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attention/attention.h"
#include "attention/paged_kv.h"
#include "tests/support/attention_case.h"

enum { LAYERS = 2, LAYER = 1, HEADS = 3, HEAD_DIM = 5, PAGE = 8, PAGES = 4, ROWS = 13, FROM = 7 };

static const struct qr_kv_geometry kv = {LAYERS, HEADS, HEAD_DIM, PAGE};
static const int32_t block_table[] = {2, 0, 3};

static uint16_t rounded(enum qr_dtype dtype, float value)
{
    return dtype == QR_DTYPE_F16 ? qr_f32_to_f16(value) : qr_f32_to_bf16(value);
}

static void check_element(enum qr_dtype dtype, const void *pool, size_t at, float expected)
{
    if (dtype == QR_DTYPE_F32)
        assert_true(((const float *)pool)[at] == expected);
    else
        assert_int_equal(((const uint16_t *)pool)[at], rounded(dtype, expected));
}

static void check_rows(enum qr_dtype dtype, const void *pool, const float *k, const float *v)
{
    for (int32_t row = 0; row < ROWS; row++) {
        int32_t position = FROM + row;
        for (int32_t head = 0; head < HEADS; head++) {
            size_t at = qr_kv_page_offset(&kv, LAYER, head, block_table[position / PAGE]) +
                        (size_t)(position % PAGE * HEAD_DIM);
            for (int32_t d = 0; d < HEAD_DIM; d++) {
                int32_t from = (row * HEADS + head) * HEAD_DIM + d;
                check_element(dtype, pool, at + (size_t)d, k[from]);
                check_element(dtype, pool, at + (size_t)d + qr_kv_value_offset(&kv), v[from]);
            }
        }
    }
}

static void rows_stand_in_their_pages(void **state)
{
    const int32_t query_start[] = {0, ROWS};
    const int32_t context_length[] = {FROM + ROWS};
    const struct qr_attention_batch batch = {.n_seqs = 1,
                                             .query_start = query_start,
                                             .context_length = context_length,
                                             .block_table = block_table,
                                             .block_table_stride = 3};
    float k[ROWS * HEADS * HEAD_DIM];
    float v[ROWS * HEADS * HEAD_DIM];

    (void)state;
    for (uint32_t i = 0; i < ROWS * HEADS * HEAD_DIM; i++) {
        k[i] = 100.0f * attention_value(1, 2, 3, i);
        v[i] = attention_value(4, 5, 6, i);
    }
    for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
        size_t size = qr_dtype_size((enum qr_dtype)dtype);
        size_t n_bytes = PAGES * qr_kv_page_elements(&kv) * size;
        unsigned char *pool = malloc(n_bytes);
        size_t n_untouched = 0;
        struct qr_kv_rows rows = {.kv = kv,
                                  .layer = LAYER,
                                  .kv_dtype = (enum qr_dtype)dtype,
                                  .batch = &batch,
                                  .k = k,
                                  .v = v,
                                  .kv_pool = pool};
        assert_non_null(pool);
        memset(pool, 0xff, n_bytes);
        qr_kv_write_cpu(qr_isa_best(), &rows, 0, 4);
        qr_kv_write_cpu(QR_ISA_SCALAR, &rows, 4, ROWS);
        check_rows((enum qr_dtype)dtype, pool, k, v);
        for (size_t i = 0; i < n_bytes; i += size)
            n_untouched += memcmp(pool + i, "\xff\xff\xff\xff", size) == 0;
        assert_int_equal(n_untouched, n_bytes / size - 2 * ROWS * HEADS * HEAD_DIM);
        free(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_stand_in_their_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
