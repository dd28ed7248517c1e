/* cuda_attention_case.c - see cuda_attention_case.h. */
#include "tests/support/cuda_attention_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attention/cuda/plan.h"
#include "base/dtype.h"
#include "tests/support/attention_case.h"
#include "tests/support/cuda_platform.h"

enum { NOWHERE = 1 << 28, SPARE_PAGES = 3 };
static const float k_scale = 0.5f, v_scale = 0.25f; /* of E4M3 */

/* What a case holds on the host while it runs. */
struct layout {
    struct qr_kv_geometry kv;
    struct qr_attention_batch batch;
    int32_t query_start[CUDA_CASE_SEQS + 1];
    int32_t context_length[CUDA_CASE_SEQS];
    int32_t *block_table; /* [n_seqs][stride] */
    int32_t n_pages;
    size_t n_out; /* elements of q and out */
};

/* ---- formats ---- */

static float e4m3_value(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float magnitude =
        exponent == 0 ? ldexpf((float)mantissa, -9) : ldexpf((float)(8 + mantissa), exponent - 10);
    if ((bits & 0x7f) == 0x7f)
        magnitude = NAN;
    return bits & 0x80 ? -magnitude : magnitude;
}

/* By search in the ascending positive numbers: of the two neighbours the nearer, of equals the even
 * one. */
static uint8_t e4m3_bits(float x)
{
    static float values[0x7f];
    uint8_t low = 0, high = 0x7e;
    float magnitude = fabsf(x);
    for (uint8_t bits = 0; values[0x7e] == 0.0f && bits < 0x7f; bits++)
        values[bits] = e4m3_value(bits);
    while (high - low > 1) {
        uint8_t middle = (uint8_t)((low + high) / 2);
        if (values[middle] <= magnitude)
            low = middle;
        else
            high = middle;
    }
    float below = magnitude - values[low], above = values[high] - magnitude;
    uint8_t best = above < below || (above == below && high % 2 == 0) ? high : low;
    return (uint8_t)(best | (signbit(x) ? 0x80 : 0));
}

static uint16_t bf16_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void cuda_case_encode(enum qr_dtype type, const float *from, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++) {
        switch (type) {
        case QR_DTYPE_F32:
            ((float *)to)[i] = from[i];
            break;
        case QR_DTYPE_F16:
            ((uint16_t *)to)[i] = qr_f32_to_f16(from[i]);
            break;
        case QR_DTYPE_BF16:
            ((uint16_t *)to)[i] = bf16_bits(from[i]);
            break;
        case QR_DTYPE_E4M3:
            ((uint8_t *)to)[i] = e4m3_bits(from[i]);
            break;
        default:
            fail_msg("no KV is %s", qr_dtype_name(type));
        }
    }
}

void cuda_case_decode(enum qr_dtype type, const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        switch (type) {
        case QR_DTYPE_F32:
            to[i] = ((const float *)from)[i];
            break;
        case QR_DTYPE_F16:
            to[i] = qr_f16_to_f32(((const uint16_t *)from)[i]);
            break;
        case QR_DTYPE_BF16:
            to[i] = qr_bf16_to_f32(((const uint16_t *)from)[i]);
            break;
        case QR_DTYPE_E4M3:
            to[i] = e4m3_value(((const uint8_t *)from)[i]);
            break;
        default:
            fail_msg("no KV is %s", qr_dtype_name(type));
        }
    }
}

/* ---- values and places ---- */

float cuda_case_value(uint32_t seed, uint32_t a, uint32_t b, uint32_t c)
{
    return attention_value(seed, a, b, c);
}

static float rounded(enum qr_dtype type, float x)
{
    unsigned char bits[4];
    cuda_case_encode(type, &x, 1, bits);
    cuda_case_decode(type, bits, 1, &x);
    return x;
}

/* What the pool holds of a token: rounded, before the scale. */
static float kv_value(const struct cuda_case *test, const struct cuda_case_seq *seq,
                      int32_t position, int32_t i, bool is_value)
{
    uint32_t id = position < seq->prefix_length ? seq->prefix_id : seq->id;
    float x = cuda_case_value(id, is_value ? 2 : 1, (uint32_t)position, (uint32_t)i);
    float scale = is_value ? v_scale : k_scale;
    if (test->kv_type == QR_DTYPE_E4M3)
        return rounded(test->kv_type, (is_value ? x : 2 * x) / scale);
    return rounded(test->kv_type, is_value ? x : 2 * x);
}

static float q_value(const struct cuda_case *test, const struct cuda_case_seq *seq,
                     int32_t position, int32_t i)
{
    return rounded(test->activation,
                   4 * cuda_case_value(seq->id, 3, (uint32_t)position, (uint32_t)i));
}

size_t cuda_case_place(const struct qr_kv_geometry *kv, enum qr_dtype type, int32_t layer,
                       int32_t page, int32_t kv_head, int32_t slot, int32_t d, bool is_value)
{
    int32_t size = (int32_t)qr_dtype_size(type), row = kv->head_dim * size;
    int32_t n_chunks = row / 16, at = d * size;
    int32_t x = n_chunks % 8 == 0   ? slot % 8
                : n_chunks % 4 == 0 ? slot / 2 % 4
                : n_chunks % 2 == 0 ? slot / 4 % 2
                                    : 0;
    size_t rows = ((((size_t)page * (size_t)kv->n_layers + (size_t)layer) * 2 + is_value) *
                       (size_t)kv->n_kv_heads +
                   (size_t)kv_head) *
                      (size_t)kv->page_size +
                  (size_t)slot;
    return rows * (size_t)row + (size_t)((at / 16 ^ x) * 16 + at % 16);
}

int32_t cuda_case_rows(const struct cuda_case *test)
{
    int32_t n_rows = 0;
    for (int32_t s = 0; s < test->n_seqs; s++)
        n_rows += test->seqs[s].n_rows;
    return n_rows;
}

static int32_t pages_of(const struct cuda_case *test, int32_t s)
{
    return (test->seqs[s].context_length + test->page_size - 1) / test->page_size;
}

/* The sequence before s with the same prefix, whose pages it shares; -1: none. */
static int32_t prefix_owner(const struct cuda_case *test, int32_t s)
{
    for (int32_t i = 0; i < s; i++)
        if (test->seqs[s].prefix_length > 0 && test->seqs[i].prefix_length > 0 &&
            test->seqs[i].prefix_id == test->seqs[s].prefix_id)
            return i;
    return -1;
}

/* Pages in a shuffled order, with free ones between. */
static void place_pages(const struct cuda_case *test, struct layout *at)
{
    int32_t stride = 0, n = SPARE_PAGES, next = 0;
    for (int32_t s = 0; s < test->n_seqs; s++) {
        stride = pages_of(test, s) > stride ? pages_of(test, s) : stride;
        n += pages_of(test, s);
    }
    stride += 2;
    int32_t *order = malloc((size_t)n * sizeof(*order));
    at->block_table = malloc((size_t)(test->n_seqs * stride) * sizeof(int32_t));
    assert_true(order != NULL && at->block_table != NULL);
    for (int32_t i = 0; i < n; i++) {
        float x = cuda_case_value(test->placement, 9, (uint32_t)i, 0) * 0.5f + 0.5f;
        int32_t j = (int32_t)(x * (float)(i + 1)) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int32_t s = 0; s < test->n_seqs; s++) {
        int32_t owner = prefix_owner(test, s);
        int32_t shared = owner < 0 ? 0
                                   : (test->seqs[s].prefix_length < test->seqs[owner].prefix_length
                                          ? test->seqs[s].prefix_length
                                          : test->seqs[owner].prefix_length) /
                                         test->page_size;
        for (int32_t i = 0; i < stride; i++) {
            int32_t *page = &at->block_table[s * stride + i];
            if (i < shared)
                *page = at->block_table[owner * stride + i];
            else
                *page = i < pages_of(test, s) ? order[next++] : NOWHERE;
        }
    }
    free(order);
    at->n_pages = n;
    at->batch.block_table = at->block_table;
    at->batch.block_table_stride = stride;
}

static void make_layout(const struct cuda_case *test, struct layout *at)
{
    *at = (struct layout){.kv = {.n_layers = CUDA_CASE_LAYERS,
                                 .n_kv_heads = test->n_kv_heads,
                                 .head_dim = test->head_dim,
                                 .page_size = test->page_size},
                          .batch = {.n_seqs = test->n_seqs}};
    for (int32_t s = 0; s < test->n_seqs; s++) {
        at->query_start[s + 1] = at->query_start[s] + test->seqs[s].n_rows;
        at->context_length[s] = test->seqs[s].context_length;
    }
    at->batch.query_start = at->query_start;
    at->batch.context_length = at->context_length;
    at->n_out = (size_t)cuda_case_rows(test) * (size_t)test->n_heads * (size_t)test->head_dim;
    place_pages(test, at);
}

/* The pool as the device should hold it; NaN where nothing was written. */
static unsigned char *make_pool(const struct cuda_case *test, const struct layout *at,
                                size_t n_bytes)
{
    unsigned char *pool = malloc(n_bytes);
    assert_non_null(pool);
    memset(pool, 0xff, n_bytes);
    for (int32_t s = 0; s < test->n_seqs; s++) {
        const int32_t *table = at->block_table + s * at->batch.block_table_stride;
        for (int32_t position = 0; position < test->seqs[s].context_length; position++)
            for (int32_t i = 0; i < 2 * test->n_kv_heads * test->head_dim; i++) {
                bool is_value = i >= test->n_kv_heads * test->head_dim;
                int32_t element = i % (test->n_kv_heads * test->head_dim);
                float x = kv_value(test, &test->seqs[s], position, element, is_value);
                size_t to =
                    cuda_case_place(&at->kv, test->kv_type, CUDA_CASE_LAYER,
                                    table[position / test->page_size], element / test->head_dim,
                                    position % test->page_size, element % test->head_dim, is_value);
                cuda_case_encode(test->kv_type, &x, 1, pool + to);
            }
    }
    return pool;
}

static float *make_queries(const struct cuda_case *test, const struct layout *at)
{
    float *q = malloc(at->n_out * sizeof(*q));
    int32_t row_floats = test->n_heads * test->head_dim;
    assert_non_null(q);
    for (int32_t s = 0; s < test->n_seqs; s++) {
        const struct cuda_case_seq *seq = &test->seqs[s];
        for (int32_t r = 0; r < seq->n_rows; r++)
            for (int32_t i = 0; i < row_floats; i++)
                q[(size_t)(at->query_start[s] + r) * (size_t)row_floats + (size_t)i] =
                    q_value(test, seq, seq->context_length - seq->n_rows + r, i);
    }
    return q;
}

/* ---- the device ---- */

static qr_cu_address upload(struct qr_cuda *cuda, const void *from, size_t n_bytes)
{
    qr_cu_address to = qr_cuda_alloc(cuda, n_bytes);
    assert_true(to != 0);
    if (from != NULL)
        qr_cuda_copy_to_device(cuda, "a test's input", to, from, n_bytes);
    qr_cuda_synchronize(cuda);
    return to;
}

static void read_plan(struct qr_cuda_attention *attn, bool sliding, struct cuda_case_run *run)
{
    const unsigned char *plan = attn->host + (size_t)(attn->turn ^ 1) * attn->plan_bytes;
    const struct qr_attention_plan *head = (const void *)plan;
    const struct qr_merge_item *merges = (const void *)(plan + head->decode[sliding].merges);
    run->launches = attn->launches;
    run->n_merges = head->decode[sliding].n_merges;
    for (int32_t i = 0; i < run->n_merges; i++)
        run->n_states += merges[i].n_states;
}

/* Captures the launches of a step in which every sequence has one key; then plans `batch` and
 * replays them. */
static void replay(struct qr_cuda_attention *attn, const struct qr_attention_batch *batch,
                   const struct qr_cuda_attend_params *params)
{
    const struct qr_cu_driver *driver = attn->cuda->driver;
    qr_cu_stream stream = attn->cuda->stream;
    qr_cu_graph graph;
    qr_cu_graph_exec exec;
    int32_t ones[CUDA_CASE_SEQS], starts[CUDA_CASE_SEQS + 1] = {0};
    struct qr_attention_batch small = *batch;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        ones[s] = 1;
        starts[s + 1] = s + 1;
    }
    small.context_length = ones;
    small.query_start = starts;
    qr_cuda_attention_plan(attn, &small);
    assert_int_equal(driver->stream_begin_capture(stream, QR_CU_CAPTURE_THREAD_LOCAL), QR_CU_OK);
    qr_cuda_attend(attn, params);
    assert_int_equal(driver->stream_end_capture(stream, &graph), QR_CU_OK);
    assert_int_equal(driver->graph_instantiate(&exec, graph, 0), QR_CU_OK);
    qr_cuda_attention_plan(attn, batch);
    assert_int_equal(driver->graph_launch(exec, stream), QR_CU_OK);
    qr_cuda_synchronize(attn->cuda);
    assert_int_equal(driver->graph_exec_destroy(exec), QR_CU_OK);
    assert_int_equal(driver->graph_destroy(graph), QR_CU_OK);
}

/* Pages that no row's window reaches are not there: the sequence has given them back. */
static void hide_passed_pages(const struct cuda_case *test, const struct layout *at)
{
    for (int32_t s = 0; s < test->n_seqs && test->hides_passed; s++) {
        const struct cuda_case_seq *seq = &test->seqs[s];
        int32_t first_seen = seq->context_length - seq->n_rows + 1 - test->window;
        for (int32_t i = 0; i < first_seen / test->page_size; i++)
            at->block_table[s * at->batch.block_table_stride + i] = -1;
    }
}

static void attend(const struct cuda_case *test, const struct layout *at, struct qr_cuda *cuda,
                   struct cuda_case_run *run)
{
    struct qr_error err = {0};
    struct qr_cuda_attention attn;
    const struct qr_cuda_attention_config config = {
        .kv = at->kv,
        .n_heads = test->n_heads,
        .activation = test->activation,
        .kv_type = test->kv_type,
        .k_scale = k_scale,
        .v_scale = v_scale,
        .window = test->window,
        .max_rows = cuda_case_rows(test),
        .max_seqs = test->n_seqs,
        .max_blocks = at->batch.block_table_stride,
        .deterministic = !test->wide,
        .wide_rows = 1,
        .no_ranges = !test->ranges,
        .cascade_saves = 1,
    };
    assert_int_equal(qr_cuda_attention_open(cuda, &config, &attn, &err), QR_OK);
    if (test->n_parts > 0)
        attn.max_parts = test->n_parts * test->n_seqs * attn.n_chains;
    qr_cu_address workspace = qr_cuda_alloc(cuda, attn.device_bytes);
    void *pinned = qr_cuda_host_alloc(cuda, attn.host_bytes);
    assert_true(workspace != 0 && pinned != NULL);
    qr_cuda_attention_set_memory(&attn, workspace, pinned);

    size_t pool_bytes = (size_t)at->n_pages * qr_cuda_kv_page_bytes(&at->kv, test->kv_type);
    size_t out_bytes = at->n_out * qr_dtype_size(test->activation);
    unsigned char *pool = make_pool(test, at, pool_bytes), *bits = malloc(out_bytes);
    float *q = make_queries(test, at);
    assert_non_null(bits);
    hide_passed_pages(test, at);
    cuda_case_encode(test->activation, q, at->n_out, bits);
    qr_cu_address device_q = upload(cuda, bits, out_bytes);
    memset(bits, 0xff, out_bytes); /* NaN: a row that nobody writes is none that was right before */
    const struct qr_cuda_attend_params params = {
        .layer = CUDA_CASE_LAYER,
        .scale = 1.0f / sqrtf((float)test->head_dim),
        .sliding = test->window != 0,
        .soft_cap = test->soft_cap,
        .q = device_q,
        .kv_pool = upload(cuda, pool, pool_bytes),
        .out = upload(cuda, bits, out_bytes),
    };
    if (test->replayed) {
        replay(&attn, &at->batch, &params);
    } else {
        qr_cuda_attention_plan(&attn, &at->batch);
        qr_cuda_attend(&attn, &params);
    }
    read_plan(&attn, params.sliding, run);
    qr_cuda_copy_to_host(cuda, "out", bits, params.out, out_bytes);
    qr_cuda_synchronize(cuda);
    if (qr_cuda_take_failure(cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    cuda_case_decode(test->activation, bits, at->n_out, run->out);

    qr_cuda_free(cuda, params.q);
    qr_cuda_free(cuda, params.kv_pool);
    qr_cuda_free(cuda, params.out);
    qr_cuda_free(cuda, workspace);
    qr_cuda_host_free(cuda, pinned);
    free(pool);
    free(bits);
    free(q);
}

struct cuda_case_run cuda_case_run(const struct cuda_case *test,
                                   const struct qr_emulator_settings *settings)
{
    struct layout at;
    struct qr_cuda cuda;
    struct cuda_case_run run = {0};

    qr_emulator_set(settings);
    qr_test_cuda_open(&cuda);
    make_layout(test, &at);
    run.out = malloc(at.n_out * sizeof(float));
    assert_non_null(run.out);
    attend(test, &at, &cuda, &run);
    free(at.block_table);
    qr_cuda_close(&cuda);
    return run;
}

/* ---- what is expected ---- */

static void write_reference_pool(const struct cuda_case *test, const struct layout *at, float *pool)
{
    bool scaled = test->kv_type == QR_DTYPE_E4M3;
    for (int32_t s = 0; s < test->n_seqs; s++) {
        const struct cuda_case_seq *seq = &test->seqs[s];
        size_t row_floats = (size_t)(test->n_kv_heads * test->head_dim);
        float *k = malloc(row_floats * sizeof(*k)), *v = malloc(row_floats * sizeof(*v));
        assert_true(k != NULL && v != NULL);
        for (int32_t position = 0; position < seq->context_length; position++) {
            for (int32_t i = 0; i < (int32_t)row_floats; i++) {
                k[i] = kv_value(test, seq, position, i, false) * (scaled ? k_scale : 1.0f);
                v[i] = kv_value(test, seq, position, i, true) * (scaled ? v_scale : 1.0f);
            }
            const struct qr_attention_batch one = {
                .n_seqs = 1,
                .query_start = (const int32_t[]){0, 1},
                .context_length = (const int32_t[]){position + 1},
                .block_table = at->block_table + s * at->batch.block_table_stride,
                .block_table_stride = at->batch.block_table_stride,
            };
            const struct qr_kv_rows rows = {at->kv, CUDA_CASE_LAYER, QR_DTYPE_F32, &one, k, v,
                                            pool};
            qr_kv_write_cpu(QR_ISA_SCALAR, &rows, 0, one.query_start[1]);
        }
        free(k);
        free(v);
    }
}

float *cuda_case_expected(const struct cuda_case *test)
{
    struct layout at;
    make_layout(test, &at);
    float *pool = calloc((size_t)at.n_pages * qr_kv_page_elements(&at.kv), sizeof(float));
    float *q = make_queries(test, &at), *out = malloc(at.n_out * sizeof(float));
    assert_true(pool != NULL && out != NULL);
    write_reference_pool(test, &at, pool);
    const struct qr_attention_params params = {
        .kv = at.kv,
        .layer = CUDA_CASE_LAYER,
        .n_heads = test->n_heads,
        .scale = 1.0f / sqrtf((float)test->head_dim),
        .window = test->window,
        .soft_cap = test->soft_cap,
        .q = q,
        .kv_pool = pool,
        .out = out,
        .batch = &at.batch,
    };
    qr_attention_reference(&params);
    free(pool);
    free(q);
    free(at.block_table);
    return out;
}

float cuda_case_bound(const struct cuda_case *test)
{
    static const float half_ulp[] = {
        [QR_DTYPE_F32] = 0.0f, [QR_DTYPE_F16] = 0x1p-11f, [QR_DTYPE_BF16] = 0x1p-9f};
    float noise = 0x1p-17f; /* of sums and exponentials in F32 */
    enum qr_dtype weights = test->kv_type == QR_DTYPE_E4M3 ? QR_DTYPE_F16 : test->kv_type;
    return half_ulp[weights] + half_ulp[test->activation] + noise;
}
