/* test_cpu_device.c - the CPU's table of ops: opening, the fused ops, and those that move rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/driver.h"

#include "runtime/ops/ops.h"

static struct qr_device *open_device(const char *isa, int32_t n_threads)
{
    struct qr_device_config config = {.n_threads = n_threads, .isa = isa};
    struct qr_device *dev = NULL;
    struct qr_error err = {""};

    if (qr_device_open("cpu", &config, &dev, &err) != QR_OK)
        fail_msg("%s", err.message);
    return dev;
}

static void open_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    struct qr_device_config config = {.n_threads = 1, .isa = "abacus"};
    struct qr_device *dev;
    struct qr_error err = {""};

    assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_ERR_INVALID);
    assert_null(dev);
    assert_non_null(strstr(err.message, "\"abacus\""));
    config.isa = NULL;
    assert_int_equal(qr_device_open("abacus", &config, &dev, &err), QR_ERR_INVALID);
    assert_null(dev);
    assert_non_null(strstr(err.message, "\"abacus\" is none of"));
    const struct qr_cu_platform *platform;
    if (qr_cu_platform_open(&platform, &err) != QR_OK) { /* where there is no driver */
        assert_int_equal(qr_device_open("cuda", &config, &dev, &err), QR_ERR_NOT_FOUND);
        assert_null(dev);
        assert_non_null(strstr(err.message, "no CUDA driver on this machine"));
    }
    if (!qr_isa_supported(QR_ISA_AVX512)) {
        config.isa = "avx512";
        assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "avx512"));
    }
    config.isa = NULL;
    assert_int_equal(qr_device_open("auto", &config, &dev, &err), QR_OK);
    qr_device_close(dev);
    qr_device_close(NULL);
}

static void memory_comes_zeroed(void **state)
{
    (void)state;
    struct qr_device *dev = open_device("auto", 1);
    unsigned char *bytes = dev->ops->alloc(dev, 100000, QR_MEMORY_WORKSPACE);

    assert_non_null(bytes);
    assert_int_equal(dev->ops->kv_memory_available(dev), 0); /* it does not say */
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(bytes[i], 0);
    dev->ops->free(dev, bytes);
    qr_device_close(dev);
}

static void prepare(struct qr_device *dev, const struct qr_device_needs *needs)
{
    struct qr_error err = {""};

    if (dev->ops->prepare(dev, needs, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(dev->residual_size, sizeof(float));
    assert_int_equal(dev->activation_size, sizeof(float));
    assert_int_equal(dev->kv_size, sizeof(float));
}

enum { N_ROPE_ROWS = 5, N_HEADS = 3, N_KV_HEADS = 2, HEAD_DIM = 10, HALF = HEAD_DIM / 2 };

static const int32_t rope_positions[N_ROPE_ROWS] = {0, 1, 77, 4999, 1234};

static void check_rotation(const float *x, const float *before, int32_t position, double theta)
{
    for (int i = 0; i < HALF; i++) {
        double angle = position * pow(theta, -2.0 * i / HEAD_DIM);
        double a = (double)before[i];
        double b = (double)before[i + HALF];
        assert_true(fabs((double)x[i] - (a * cos(angle) - b * sin(angle))) < 4e-7);
        assert_true(fabs((double)x[i + HALF] - (b * cos(angle) + a * sin(angle))) < 4e-7);
    }
    if (position == 0)
        assert_memory_equal(x, before, HEAD_DIM * sizeof(float)); /* turns nothing */
}

/* Each row is a sequence of its own, whose last page alone is looked at: page r + 1. */
static void rope_turns_pairs_by_their_angle_and_writes_kv(void **state)
{
    (void)state;
    enum { PAGE_SIZE = 8, N_LAYERS = 2, LAYER = 1, MAX_POSITION = 5000 };
    enum { MAX_BLOCKS = MAX_POSITION / PAGE_SIZE };
    const struct qr_kv_geometry kv = {.n_layers = N_LAYERS,
                                      .n_kv_heads = N_KV_HEADS,
                                      .head_dim = HEAD_DIM,
                                      .page_size = PAGE_SIZE};
    const struct qr_device_needs needs = {
        .head_dim = HEAD_DIM,
        .rope = {.rotary_dim = HEAD_DIM, .theta = 10000.0f, .attention_factor = 1.0f},
        .max_position = MAX_POSITION,
        .hidden_size = 1,
        .max_rows = N_ROPE_ROWS};
    static float pool[N_ROPE_ROWS + 1][N_LAYERS][N_KV_HEADS][2][PAGE_SIZE][HEAD_DIM];
    static int32_t block_table[N_ROPE_ROWS][MAX_BLOCKS];
    int32_t query_start[N_ROPE_ROWS + 1] = {0};
    int32_t context_length[N_ROPE_ROWS];
    float q[N_ROPE_ROWS][N_HEADS][HEAD_DIM];
    float k[N_ROPE_ROWS][N_KV_HEADS][HEAD_DIM];
    float v[N_ROPE_ROWS][N_KV_HEADS][HEAD_DIM];
    float q_before[N_ROPE_ROWS][N_HEADS][HEAD_DIM];
    float k_before[N_ROPE_ROWS][N_KV_HEADS][HEAD_DIM];

    for (int r = 0; r < N_ROPE_ROWS; r++) {
        query_start[r + 1] = r + 1;
        context_length[r] = rope_positions[r] + 1;
        block_table[r][rope_positions[r] / PAGE_SIZE] = r + 1;
    }
    for (int i = 0; i < N_ROPE_ROWS * N_HEADS * HEAD_DIM; i++)
        (&q[0][0][0])[i] = sinf((float)(7 * i + 1));
    for (int i = 0; i < N_ROPE_ROWS * N_KV_HEADS * HEAD_DIM; i++) {
        (&k[0][0][0])[i] = sinf((float)(5 * i + 2));
        (&v[0][0][0])[i] = sinf((float)(3 * i + 4));
    }
    memcpy(q_before, q, sizeof(q));
    memcpy(k_before, k, sizeof(k));
    struct qr_device *dev = open_device("auto", 2);
    const struct qr_batch batch = {.n_rows = N_ROPE_ROWS,
                                   .positions = rope_positions,
                                   .attention = {.n_seqs = N_ROPE_ROWS,
                                                 .query_start = query_start,
                                                 .context_length = context_length,
                                                 .block_table = block_table[0],
                                                 .block_table_stride = MAX_BLOCKS}};
    prepare(dev, &needs);
    assert_true(dev->ops->begin_step(dev, &batch));
    dev->ops->rope_and_write_kv(dev, &kv, LAYER, N_HEADS, q, k, v, pool);
    assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);

    for (int r = 0; r < N_ROPE_ROWS; r++) {
        int slot = rope_positions[r] % PAGE_SIZE;
        for (int h = 0; h < N_HEADS; h++)
            check_rotation(q[r][h], q_before[r][h], rope_positions[r], 10000.0);
        for (int h = 0; h < N_KV_HEADS; h++) {
            check_rotation(pool[r + 1][LAYER][h][0][slot], k_before[r][h], rope_positions[r],
                           10000.0);
            assert_memory_equal(pool[r + 1][LAYER][h][1][slot], v[r][h], sizeof(v[r][h]));
        }
    }
    qr_device_close(dev);
}

static void rows_are_embedded_and_gathered(void **state)
{
    (void)state;
    static const uint16_t table[4][3] = {{0x3F80, 0x4000, 0x4040}, /* BF16: 1, 2, 3 */
                                         {0x4080, 0x40A0, 0x40C0}, /* 4, 5, 6 */
                                         {0x40E0, 0x4100, 0x4110}, /* 7, 8, 9 */
                                         {0xBF80, 0xC000, 0xC040}};
    static const int32_t ids[3] = {3, 0, 2};
    static const int32_t logit_rows[2] = {0, 2};
    const struct qr_tensor tensor = {
        .dtype = QR_DTYPE_BF16, .n_dims = 2, .dims = {4, 3}, .data = table};
    const struct qr_batch batch = {
        .n_rows = 3, .token_ids = ids, .n_logit_rows = 2, .logit_rows = logit_rows};
    struct qr_device *dev = open_device("auto", 2);
    float x[3][3];
    float gathered[2][3];

    assert_true(dev->ops->begin_step(dev, &batch));
    dev->ops->embed(dev, &tensor, 1.0f, x);
    dev->ops->gather_logit_rows(dev, x, 3, gathered);
    dev->ops->read_logits(dev, gathered[0], 3);
    assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);
    const float wanted[2][3] = {{-1.0f, -2.0f, -3.0f}, {7.0f, 8.0f, 9.0f}};
    for (int32_t i = 0; i < 2; i++)
        assert_memory_equal(dev->ops->logit_row(dev, i).logits, wanted[i], sizeof(wanted[i]));
    qr_device_close(dev);
}

static void pages_are_copied_read_and_written_whole(void **state)
{
    (void)state;
    enum { PAGE_BYTES = 24, N_PAGES = 4 };
    struct qr_device *dev = open_device("auto", 1);
    char pool[N_PAGES][PAGE_BYTES];
    char pages[2][PAGE_BYTES];
    void *const to[2] = {pages[0], pages[1]};
    const void *const from[2] = {pages[0], pages[1]};

    for (int i = 0; i < N_PAGES; i++)
        memset(pool[i], 'a' + i, PAGE_BYTES);
    dev->ops->copy_page(dev, pool, PAGE_BYTES, 1, 3);
    dev->ops->copy_page(dev, pool, PAGE_BYTES, 3, 0); /* in order: what came from page 1 */
    assert_true(dev->ops->read_pages(dev, pool, PAGE_BYTES, 2, (const int32_t[]){2, 0}, to));
    assert_memory_equal(pages[0], "cccccccccccccccccccccccc", PAGE_BYTES);
    assert_memory_equal(pages[1], "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    memset(pages[0], 'x', PAGE_BYTES);
    memset(pages[1], 'y', PAGE_BYTES);
    assert_true(dev->ops->write_pages(dev, pool, PAGE_BYTES, 2, (const int32_t[]){2, 1}, from));
    assert_memory_equal(pool[0], "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    assert_memory_equal(pool[1], "yyyyyyyyyyyyyyyyyyyyyyyy", PAGE_BYTES);
    assert_memory_equal(pool[2], "xxxxxxxxxxxxxxxxxxxxxxxx", PAGE_BYTES);
    assert_memory_equal(pool[3], "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    qr_device_close(dev);
}

static void matmul_does_not_depend_on_the_threads(void **state)
{
    (void)state;
    enum { N_IN = 50, N_OUT = 131, N_ROWS = 9 };
    static float weight[N_OUT * N_IN];
    static float x[N_ROWS * N_IN];
    static float wanted[N_ROWS * N_OUT];
    static float found[N_ROWS * N_OUT];
    const struct qr_device_needs needs = {.hidden_size = N_OUT, .max_rows = N_ROWS};
    const struct qr_batch batch = {.n_rows = N_ROWS};

    for (int i = 0; i < N_OUT * N_IN; i++)
        weight[i] = sinf((float)i);
    for (int i = 0; i < N_ROWS * N_IN; i++)
        x[i] = cosf((float)i);
    for (int32_t n_threads = 1; n_threads <= 5; n_threads++) {
        struct qr_device *dev = open_device("auto", n_threads);
        struct qr_linear map = {
            .weight = {.dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {N_OUT, N_IN}, .data = weight}};
        prepare(dev, &needs);
        assert_int_equal(dev->ops->load_weight(dev, &map.weight, NULL), QR_OK);
        memset(found, 0xFF, sizeof(found));
        assert_true(dev->ops->begin_step(dev, &batch));
        dev->ops->matmul(dev, 1, (const struct qr_linear *const[]){&map}, x, N_ROWS,
                         (void *const[]){found});
        assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);
        if (n_threads == 1)
            memcpy(wanted, found, sizeof(wanted));
        assert_memory_equal(found, wanted, sizeof(wanted));
        qr_device_close(dev);
    }
    assert_true(wanted[0] != 0.0f);
}

static void products_together_added_and_as_logits_have_the_bits_of_one_alone(void **state)
{
    (void)state;
    enum { N_IN = 37, N_ROWS = 6, WIDEST = 60 };
    static const int32_t n_outs[QR_MATMUL_MAX] = {60, 7, 33};
    static float weights[QR_MATMUL_MAX][WIDEST * N_IN];
    static float x[N_ROWS * N_IN];
    static float alone[QR_MATMUL_MAX][N_ROWS * WIDEST];
    static float together[QR_MATMUL_MAX][N_ROWS * WIDEST];
    static float residual[N_ROWS * WIDEST];
    struct qr_linear maps[QR_MATMUL_MAX] = {0};
    const struct qr_linear *const list[] = {&maps[0], &maps[1], &maps[2]};
    const struct qr_batch batch = {.n_rows = N_ROWS};
    const struct qr_device_needs needs = {
        .head_dim = 2, .max_position = 1, .hidden_size = WIDEST, .max_rows = N_ROWS};
    struct qr_device *dev = open_device("auto", 2);

    for (int i = 0; i < QR_MATMUL_MAX; i++) {
        maps[i].weight = (struct qr_tensor){
            .dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {n_outs[i], N_IN}, .data = weights[i]};
        for (int k = 0; k < WIDEST * N_IN; k++)
            weights[i][k] = sinf((float)(k + 1000 * i));
    }
    for (int i = 0; i < N_ROWS * N_IN; i++)
        x[i] = cosf((float)i);
    prepare(dev, &needs);
    for (int i = 0; i < QR_MATMUL_MAX; i++)
        assert_int_equal(dev->ops->load_weight(dev, &maps[i].weight, NULL), QR_OK);
    assert_true(dev->ops->begin_step(dev, &batch));
    for (int i = 0; i < QR_MATMUL_MAX; i++)
        dev->ops->matmul(dev, 1, &list[i], x, N_ROWS, (void *const[]){alone[i]});
    dev->ops->matmul(dev, 3, list, x, N_ROWS,
                     (void *const[]){together[0], together[1], together[2]});
    assert_memory_equal(together, alone, sizeof(alone));
    assert_true(alone[0][0] != 0.0f && alone[0][0] != alone[1][0]);
    dev->ops->logits(dev, &maps[0].weight, 0.0f, x, N_ROWS, together[1]);
    assert_memory_equal(together[1], alone[0], sizeof(alone[0]));

    for (int i = 0; i < N_ROWS * WIDEST; i++)
        residual[i] = sinf((float)(11 * i));
    dev->ops->matmul_add(dev, &maps[0], x, N_ROWS, residual);
    for (int i = 0; i < N_ROWS * WIDEST; i++)
        assert_true(residual[i] == sinf((float)(11 * i)) + alone[0][i]);

    maps[0].bias = (struct qr_tensor){
        .dtype = QR_DTYPE_F32, .n_dims = 1, .dims = {n_outs[0]}, .data = weights[1]};
    dev->ops->matmul(dev, 1, &list[0], x, N_ROWS, (void *const[]){together[0]});
    for (int i = 0; i < N_ROWS * n_outs[0]; i++)
        assert_true(together[0][i] == alone[0][i] + weights[1][i % n_outs[0]]);
    assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);
    qr_device_close(dev);
}

static void a_row_of_nan_leaves_the_other_rows_alone(void **state)
{
    (void)state;
    enum { HIDDEN = 3, INNER = 2, N_EXPERTS = 4 };
    const struct qr_device_needs needs = {.head_dim = 2,
                                          .max_position = 1,
                                          .hidden_size = HIDDEN,
                                          .n_experts = N_EXPERTS,
                                          .n_experts_used = 2,
                                          .expert_size = INNER,
                                          .max_rows = 2};
    float weight[HIDDEN * (N_EXPERTS + INNER)];
    struct qr_tensor up[N_EXPERTS], down[N_EXPERTS];
    struct qr_experts experts = {.n_experts = N_EXPERTS,
                                 .n_used = 2,
                                 .renormalizes = true,
                                 .gate = up,
                                 .up = up,
                                 .down = down};
    const float x[2][HIDDEN] = {{1.0f, -2.0f, 3.0f}, {NAN, NAN, NAN}};
    float alone[1][HIDDEN] = {{0}};
    float together[2][HIDDEN] = {{0}};
    struct qr_device *dev = open_device("auto", 1);

    for (int i = 0; i < HIDDEN * (N_EXPERTS + INNER); i++)
        weight[i] = sinf((float)i);
    experts.router = (struct qr_tensor){
        .dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {N_EXPERTS, HIDDEN}, .data = weight};
    for (int e = 0; e < N_EXPERTS; e++) {
        up[e] = down[e] = experts.router;
        up[e].data = down[e].data = weight + e;
        up[e].dims[0] = down[e].dims[1] = INNER;
        down[e].dims[0] = HIDDEN;
    }
    prepare(dev, &needs);
    assert_int_equal(dev->ops->load_weight(dev, &experts.router, NULL), QR_OK);
    for (int e = 0; e < N_EXPERTS; e++) {
        assert_int_equal(dev->ops->load_weight(dev, &up[e], NULL), QR_OK);
        assert_int_equal(dev->ops->load_weight(dev, &down[e], NULL), QR_OK);
    }
    assert_int_equal(dev->ops->load_experts(dev, &experts, NULL), QR_OK);
    dev->ops->experts_add(dev, &experts, x, 1, alone);
    dev->ops->experts_add(dev, &experts, x, 2, together);
    assert_true(alone[0][0] != 0.0f);
    assert_memory_equal(together[0], alone[0], sizeof(alone[0]));
    assert_true(isnan(together[1][0]));
    qr_device_close(dev);
}

static void tables_stay_where_they_are_and_vectors_are_copied(void **state)
{
    (void)state;
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    struct qr_tensor vector = {.dtype = QR_DTYPE_F32, .n_dims = 1, .dims = {6}, .data = data};
    struct qr_tensor table = {
        .dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {2, 3}, .data = data, .use = QR_USE_TABLE};
    struct qr_tensor matrix = {.dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {2, 3}, .data = data};
    const struct qr_device_needs needs = {.hidden_size = 3, .max_rows = 1};
    struct qr_device *dev = open_device("auto", 1);

    prepare(dev, &needs);
    assert_false(dev->fills_synthetic);
    assert_int_equal(dev->ops->load_weight(dev, &vector, NULL), QR_OK);
    assert_int_equal(dev->ops->load_weight(dev, &table, NULL), QR_OK);
    assert_int_equal(dev->ops->load_weight(dev, &matrix, NULL), QR_OK);
    assert_true(table.data == data && vector.data != data && matrix.data != data);
    assert_memory_equal(vector.data, data, sizeof(data));
    assert_false(vector.is_packed || table.is_packed);
    assert_true(matrix.is_packed);
    assert_int_equal(matrix.dtype, QR_DTYPE_F32);
    assert_int_equal(matrix.dims[0], 2);
    assert_int_equal(matrix.dims[1], 3);
    qr_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refuses_what_it_does_not_know),
        cmocka_unit_test(memory_comes_zeroed),
        cmocka_unit_test(rope_turns_pairs_by_their_angle_and_writes_kv),
        cmocka_unit_test(rows_are_embedded_and_gathered),
        cmocka_unit_test(pages_are_copied_read_and_written_whole),
        cmocka_unit_test(matmul_does_not_depend_on_the_threads),
        cmocka_unit_test(products_together_added_and_as_logits_have_the_bits_of_one_alone),
        cmocka_unit_test(a_row_of_nan_leaves_the_other_rows_alone),
        cmocka_unit_test(tables_stay_where_they_are_and_vectors_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
