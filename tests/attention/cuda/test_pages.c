/* What is written into pages, and pages as a whole: with == on every byte of the pool. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_attention_case.h"
#include "tests/support/cuda_platform.h"

enum { PAGES = 12, N_HEADS = 3, N_KV_HEADS = 1, ROWS = 45, POSITIONS = 64 };

struct rig {
    struct qr_cuda cuda;
    struct qr_cuda_attention attn;
    qr_cu_address workspace, kv_pool;
    void *pinned;
    size_t page_bytes;
    unsigned char *pool; /* what the device's should hold */
};

static void open_rig(struct rig *rig, int32_t head_dim, int32_t rotary_dim, int32_t page_size,
                     enum qr_dtype activation, enum qr_dtype kv_type)
{
    struct qr_error err = {0};
    const struct qr_cuda_attention_config config = {
        .kv = {2, N_KV_HEADS, head_dim, page_size},
        .n_heads = N_HEADS,
        .rotary_dim = rotary_dim,
        .activation = activation,
        .kv_type = kv_type,
        .k_scale = 0.5f,
        .v_scale = 2.0f,
        .max_rows = ROWS,
        .max_seqs = 3,
        .max_blocks = POSITIONS / 8,
    };
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    settings.n_sms = 2;
    qr_emulator_set(&settings);
    *rig = (struct rig){0};
    qr_test_cuda_open(&rig->cuda);
    assert_int_equal(qr_cuda_attention_open(&rig->cuda, &config, &rig->attn, &err), QR_OK);
    rig->workspace = qr_cuda_alloc(&rig->cuda, rig->attn.device_bytes);
    rig->pinned = qr_cuda_host_alloc(&rig->cuda, rig->attn.host_bytes);
    rig->page_bytes = qr_cuda_kv_page_bytes(&config.kv, kv_type);
    rig->kv_pool = qr_cuda_alloc(&rig->cuda, PAGES * rig->page_bytes);
    rig->pool = malloc(PAGES * rig->page_bytes);
    assert_true(rig->workspace != 0 && rig->pinned != NULL && rig->kv_pool != 0 &&
                rig->pool != NULL);
    qr_cuda_attention_set_memory(&rig->attn, rig->workspace, rig->pinned);
    for (size_t i = 0; i < PAGES * rig->page_bytes; i++)
        rig->pool[i] = (unsigned char)(i * 2654435761u >> 13);
    qr_cuda_copy_to_device(&rig->cuda, "pool", rig->kv_pool, rig->pool, PAGES * rig->page_bytes);
    qr_cuda_synchronize(&rig->cuda);
}

static void check_pool(struct rig *rig)
{
    struct qr_error err = {0};
    unsigned char *pool = malloc(PAGES * rig->page_bytes);
    assert_non_null(pool);
    qr_cuda_copy_to_host(&rig->cuda, "pool", pool, rig->kv_pool, PAGES * rig->page_bytes);
    qr_cuda_synchronize(&rig->cuda);
    if (qr_cuda_take_failure(&rig->cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_memory_equal(pool, rig->pool, PAGES * rig->page_bytes);
    free(pool);
}

static void close_rig(struct rig *rig)
{
    qr_cuda_free(&rig->cuda, rig->workspace);
    qr_cuda_free(&rig->cuda, rig->kv_pool);
    qr_cuda_host_free(&rig->cuda, rig->pinned);
    free(rig->pool);
    qr_cuda_close(&rig->cuda);
}

/* ---- RoPE and the write of K and V ---- */

/* Rows of three sequences: a prompt, a chunk behind 20 tokens, a decode; pages in no order. */
static const int32_t query_start[] = {0, 17, 44, 45};
static const int32_t context_length[] = {17, 47, 33};

struct rows {
    float *x; /* [ROWS][n_heads][head_dim], as the activation type has it */
    qr_cu_address on_device;
    size_t n, bytes;
};

static struct rows make_rows(struct rig *rig, int32_t n_heads, uint32_t seed)
{
    const struct qr_cuda_attention_config *config = &rig->attn.config;
    struct rows rows = {.n = (size_t)(ROWS * n_heads * config->kv.head_dim)};
    rows.bytes = rows.n * qr_dtype_size(config->activation);
    rows.x = malloc(rows.n * sizeof(float));
    rows.on_device = qr_cuda_alloc(&rig->cuda, rows.bytes);
    void *bits = malloc(rows.bytes);
    assert_true(rows.x != NULL && bits != NULL && rows.on_device != 0);
    for (size_t i = 0; i < rows.n; i++)
        rows.x[i] = cuda_case_value(seed, 0, 0, (uint32_t)i);
    cuda_case_encode(config->activation, rows.x, rows.n, bits);
    cuda_case_decode(config->activation, bits, rows.n, rows.x);
    qr_cuda_copy_to_device(&rig->cuda, "rows", rows.on_device, bits, rows.bytes);
    qr_cuda_synchronize(&rig->cuda);
    free(bits);
    return rows;
}

static void drop_rows(struct rig *rig, struct rows *rows)
{
    free(rows->x);
    qr_cuda_free(&rig->cuda, rows->on_device);
}

static void rotate(float *head, const float *turns, int32_t rotary_dim)
{
    int32_t half = rotary_dim / 2;
    for (int32_t i = 0; i < half; i++) {
        float a = head[i], b = head[i + half], c = turns[2 * i], s = turns[2 * i + 1];
        head[i] = fmaf(a, c, -(b * s));
        head[i + half] = fmaf(b, c, a * s);
    }
}

static void write_expected(struct rig *rig, const struct qr_attention_batch *batch,
                           const float *rope, struct rows *q, struct rows *k, struct rows *v)
{
    const struct qr_cuda_attention_config *config = &rig->attn.config;
    int32_t head_dim = config->kv.head_dim, page_size = config->kv.page_size;
    int32_t rotary_dim = config->rotary_dim;
    bool scaled = config->kv_type == QR_DTYPE_E4M3;

    for (int32_t s = 0; s < batch->n_seqs; s++)
        for (int32_t row = query_start[s]; row < query_start[s + 1]; row++) {
            int32_t position = context_length[s] - (query_start[s + 1] - row);
            int32_t page = batch->block_table[s * batch->block_table_stride + position / page_size];
            const float *turns = rope + position * rotary_dim;
            for (int32_t h = 0; h < N_HEADS; h++)
                rotate(q->x + (row * N_HEADS + h) * head_dim, turns, rotary_dim);
            rotate(k->x + row * head_dim, turns, rotary_dim);
            for (int32_t d = 0; d < 2 * head_dim; d++) {
                bool is_value = d >= head_dim;
                float x = (is_value ? v->x : k->x)[row * head_dim + d % head_dim];
                x = scaled ? x * (is_value ? 0.5f : 2.0f) : x;
                cuda_case_encode(config->kv_type, &x, 1,
                                 rig->pool + cuda_case_place(&config->kv, config->kv_type, 1, page,
                                                             0, position % page_size, d % head_dim,
                                                             is_value));
            }
        }
}

/* rotary_dim 0: whole heads turn. */
static void check_write(int32_t head_dim, int32_t rotary_dim, int32_t page_size,
                        enum qr_dtype activation, enum qr_dtype kv_type)
{
    struct rig rig;
    int32_t stride = POSITIONS / 8, table[3][POSITIONS / 8];
    const struct qr_attention_batch batch = {3, query_start, context_length, table[0], stride};
    static float rope[POSITIONS * 256];

    open_rig(&rig, head_dim, rotary_dim, page_size, activation, kv_type);
    for (int32_t i = 0; i < 3 * stride; i++) /* sequence by sequence, 12 pages of 8 are enough */
        table[i / stride][i % stride] = 1 << 28;
    for (int32_t s = 0, next = 0; s < 3; s++)
        for (int32_t i = (context_length[s] - query_start[s + 1] + query_start[s]) / page_size;
             i * page_size < context_length[s]; i++)
            table[s][i] = next++ * 5 % PAGES;
    for (int32_t i = 0; i < POSITIONS * head_dim / 2; i++) {
        rope[2 * i] = cosf((float)i);
        rope[2 * i + 1] = sinf((float)i);
    }
    size_t rope_bytes = (size_t)(POSITIONS * head_dim) * sizeof(float);
    qr_cu_address turns = qr_cuda_alloc(&rig.cuda, rope_bytes);
    qr_cuda_copy_to_device(&rig.cuda, "turns", turns, rope, rope_bytes);
    struct rows q = make_rows(&rig, N_HEADS, 1), k = make_rows(&rig, N_KV_HEADS, 2),
                v = make_rows(&rig, N_KV_HEADS, 3);
    qr_cuda_attention_plan(&rig.attn, &batch);
    qr_cuda_rope_and_write_kv(&rig.attn, 1, q.on_device, k.on_device, v.on_device, turns,
                              rig.kv_pool);
    write_expected(&rig, &batch, rope, &q, &k, &v);
    check_pool(&rig);
    void *bits = malloc(q.bytes), *expected = malloc(q.bytes);
    assert_true(bits != NULL && expected != NULL);
    cuda_case_encode(activation, q.x, q.n, expected);
    qr_cuda_copy_to_host(&rig.cuda, "q", bits, q.on_device, q.bytes);
    qr_cuda_synchronize(&rig.cuda);
    assert_memory_equal(bits, expected, q.bytes);

    free(bits);
    free(expected);
    drop_rows(&rig, &q);
    drop_rows(&rig, &k);
    drop_rows(&rig, &v);
    qr_cuda_free(&rig.cuda, turns);
    close_rig(&rig);
}

static void rows_are_rotated_and_written(void **state)
{
    (void)state;
    for (int32_t page_size = 8; page_size <= 32; page_size *= 2) {
        check_write(8, 0, page_size, QR_DTYPE_F32, QR_DTYPE_F32);
        check_write(64, 0, page_size, QR_DTYPE_BF16, QR_DTYPE_BF16);
        check_write(80, 0, page_size, QR_DTYPE_F16, QR_DTYPE_F16);
        check_write(24, 0, page_size, QR_DTYPE_BF16, QR_DTYPE_BF16);
        check_write(128, 0, page_size, QR_DTYPE_F16, QR_DTYPE_E4M3);
        check_write(96, 0, page_size, QR_DTYPE_BF16, QR_DTYPE_E4M3);
        check_write(256, 0, page_size, QR_DTYPE_BF16, QR_DTYPE_BF16);
    }
}

static void heads_turn_in_part(void **state)
{
    (void)state;
    check_write(8, 4, 16, QR_DTYPE_F32, QR_DTYPE_F32);
    check_write(16, 6, 8, QR_DTYPE_F32, QR_DTYPE_F32);
    check_write(80, 32, 16, QR_DTYPE_F16, QR_DTYPE_F16);
    check_write(128, 96, 16, QR_DTYPE_BF16, QR_DTYPE_BF16);
    check_write(64, 26, 16, QR_DTYPE_BF16, QR_DTYPE_BF16);
    check_write(32, 8, 16, QR_DTYPE_BF16, QR_DTYPE_E4M3);
    check_write(48, 12, 8, QR_DTYPE_F16, QR_DTYPE_E4M3);
}

/* ---- whole pages ---- */

static void check_copies(struct rig *rig, const struct qr_page_copy *copies, int32_t n,
                         int64_t launches)
{
    int64_t before = qr_emulator_count_launches("qr_copy_pages");
    qr_cuda_copy_pages(&rig->attn, rig->kv_pool, copies, n);
    for (int32_t i = 0; i < n; i++)
        memmove(rig->pool + (size_t)copies[i].to * rig->page_bytes,
                rig->pool + (size_t)copies[i].from * rig->page_bytes, rig->page_bytes);
    check_pool(rig);
    if (launches >= 0 && !qr_test_cuda_is_real())
        assert_int_equal(qr_emulator_count_launches("qr_copy_pages") - before, launches);
}

static void copies_happen_in_order(void **state)
{
    (void)state;
    struct rig rig;
    open_rig(&rig, 64, 0, 16, QR_DTYPE_BF16, QR_DTYPE_BF16);
    const struct qr_page_copy apart[] = {{0, 1}, {2, 3}, {0, 4}};
    const struct qr_page_copy chain[] = {{0, 1}, {1, 2}, {2, 3}};
    const struct qr_page_copy twice[] = {{0, 1}, {2, 1}, {1, 5}};
    const struct qr_page_copy circle[] = {{0, 1}, {2, 0}, {1, 2}};
    const struct qr_page_copy itself[] = {{3, 3}};
    check_copies(&rig, apart, 3, 1);
    check_copies(&rig, chain, 3, 1);
    check_copies(&rig, twice, 3, 1);
    check_copies(&rig, circle, 3, 3);
    check_copies(&rig, itself, 1, 0);
    uint32_t random = 1;
    for (int round = 0; round < 40; round++) {
        struct qr_page_copy copies[20];
        for (int i = 0; i < 20; i++) {
            random = random * 1664525u + 1013904223u;
            copies[i] = (struct qr_page_copy){(int32_t)(random >> 24) % PAGES,
                                              (int32_t)(random >> 16 & 255) % PAGES};
        }
        check_copies(&rig, copies, 20, -1);
    }
    close_rig(&rig);
}

static void more_copies_than_a_launch_takes(void **state)
{
    (void)state;
    struct rig rig;
    struct qr_page_copy copies[300];
    open_rig(&rig, 64, 0, 16, QR_DTYPE_BF16, QR_DTYPE_BF16);
    for (int32_t i = 0; i < 300; i++)
        copies[i] = (struct qr_page_copy){i % 3, 3 + i % 9};
    check_copies(&rig, copies, 300, 1); /* the same nine pages again and again */
    close_rig(&rig);
}

static void pages_travel_to_the_host_and_back(void **state)
{
    (void)state;
    struct rig rig;
    static const int32_t pages[] = {7, 0, 11, 3}, targets[] = {1, 2, 4, 5};
    void *host[4];
    open_rig(&rig, 96, 0, 8, QR_DTYPE_BF16, QR_DTYPE_E4M3);
    unsigned char *pinned = qr_cuda_host_alloc(&rig.cuda, 4 * rig.page_bytes);
    assert_non_null(pinned);
    for (size_t i = 0; i < 4; i++)
        host[i] = pinned + (3 - i) * rig.page_bytes;
    struct qr_page_transfer transfer = {rig.cuda.stream, true, rig.kv_pool, 4, pages, host};
    assert_int_equal(qr_cuda_transfer_pages(&rig.attn, &transfer), QR_CU_OK);
    qr_cuda_synchronize(&rig.cuda);
    for (size_t i = 0; i < 4; i++)
        assert_memory_equal(host[i], rig.pool + (size_t)pages[i] * rig.page_bytes, rig.page_bytes);
    transfer.to_host = false;
    transfer.pages = targets;
    assert_int_equal(qr_cuda_transfer_pages(&rig.attn, &transfer), QR_CU_OK);
    for (size_t i = 0; i < 4; i++)
        memcpy(rig.pool + (size_t)targets[i] * rig.page_bytes, host[i], rig.page_bytes);
    check_pool(&rig);
    qr_cuda_host_free(&rig.cuda, pinned);
    close_rig(&rig);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct qr_cuda cuda;
    struct qr_cuda_attention attn;
    struct qr_error err = {0};
    struct qr_cuda_attention_config config = {.kv = {1, 1, 20, 16},
                                              .n_heads = 1,
                                              .activation = QR_DTYPE_F16,
                                              .kv_type = QR_DTYPE_F16,
                                              .max_rows = 1,
                                              .max_seqs = 1,
                                              .max_blocks = 1};
    qr_test_cuda_open(&cuda);
    assert_int_equal(qr_cuda_attention_open(&cuda, &config, &attn, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "head_dim 20"));
    config.kv.head_dim = 64;
    config.kv_type = QR_DTYPE_BF16;
    assert_int_equal(qr_cuda_attention_open(&cuda, &config, &attn, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "bf16 under activations of type f16"));
    qr_cuda_close(&cuda);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_rotated_and_written),
        cmocka_unit_test(heads_turn_in_part),
        cmocka_unit_test(copies_happen_in_order),
        cmocka_unit_test(more_copies_than_a_launch_takes),
        cmocka_unit_test(pages_travel_to_the_host_and_back),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
