/* attention_case.c - see attention_case.h. */
#include "tests/support/attention_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 3, LAYER = 1, SPARE_PAGES = 3, NOWHERE = 1 << 30 };

/* What one case holds in memory while it runs. */
struct layout {
    struct qr_attention_params params;
    struct qr_attention_batch batch;
    int32_t query_start[ATTENTION_CASE_SEQS + 1];
    int32_t context_length[ATTENTION_CASE_SEQS];
    int32_t *block_table; /* [n_seqs][stride] */
    int32_t n_pages;
    void *kv_pool; /* of the case's kv_dtype */
    float *q;      /* [n_rows][n_heads][head_dim] */
    float *out;    /* [n_rows][n_heads][head_dim] */
};

static uint32_t mix(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

float attention_value(uint32_t seed, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t bits = mix(seed ^ mix(a ^ mix(b ^ mix(c + 0x9e3779b9u))));
    return (float)(bits >> 8) * 0x1p-23f - 1.0f;
}

bool attention_kernel_runs_here(enum attention_kernel kernel)
{
    switch (kernel) {
    case ATTENTION_NEON:
        return qr_isa_supported(QR_ISA_NEON);
    case ATTENTION_AVX2:
        return qr_isa_supported(QR_ISA_AVX2);
    case ATTENTION_AVX512:
        return qr_isa_supported(QR_ISA_AVX512);
    case ATTENTION_AVX512BF16:
        return qr_isa_supported(QR_ISA_AVX512BF16);
    case ATTENTION_EMULATED_BF16:
        return attention_emulated_bf16 != NULL && qr_isa_supported(QR_ISA_AVX2);
    case ATTENTION_EMULATED_AVX512:
        return attention_emulated_avx512 != NULL && qr_isa_supported(QR_ISA_AVX2);
    default:
        return true;
    }
}

const char *attention_kernel_name(enum attention_kernel kernel)
{
    static const char *const names[ATTENTION_KERNELS] = {
        "reference",  "scalar",          "neon",          "avx2", "avx512",
        "avx512bf16", "emulated avx512", "emulated bf16",
    };
    return names[kernel];
}

bool attention_kernel_rounds(enum attention_kernel kernel, enum qr_dtype kv_dtype)
{
    return kv_dtype == QR_DTYPE_BF16 &&
           (kernel == ATTENTION_AVX512BF16 || kernel == ATTENTION_EMULATED_BF16);
}

enum attention_kernel attention_kernel_model(enum attention_kernel kernel, enum qr_dtype kv_dtype)
{
    if (!attention_kernel_rounds(kernel, kv_dtype))
        return ATTENTION_SCALAR;
    return attention_kernel_runs_here(ATTENTION_EMULATED_BF16) ? ATTENTION_EMULATED_BF16 : kernel;
}

int32_t attention_case_rows(const struct attention_case *test)
{
    int32_t n_rows = 0;
    for (int32_t s = 0; s < test->n_seqs; s++)
        n_rows += test->seqs[s].n_rows;
    return n_rows;
}

static float *make_nans(size_t count)
{
    float *values = malloc(count * sizeof(*values));
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = NAN;
    return values;
}

/* Pages of all sequences in a shuffled order, with free ones between. */
static void place_pages(const struct attention_case *test, struct layout *at)
{
    int32_t stride = 0, n_used = 0, *order;
    for (int32_t s = 0; s < test->n_seqs; s++) {
        int32_t n = (test->seqs[s].context_length + test->page_size - 1) / test->page_size;
        stride = n > stride ? n : stride;
        n_used += n;
    }
    stride += 2;
    at->n_pages = n_used + SPARE_PAGES;
    at->block_table = malloc((size_t)(test->n_seqs * stride) * sizeof(int32_t));
    order = malloc((size_t)at->n_pages * sizeof(int32_t));
    assert_true(at->block_table != NULL && order != NULL);

    for (int32_t i = 0; i < at->n_pages; i++) {
        int32_t j = (int32_t)(mix(test->placement + (uint32_t)i) % (uint32_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    int32_t next = 0;
    for (int32_t s = 0; s < test->n_seqs; s++) {
        int32_t n = (test->seqs[s].context_length + test->page_size - 1) / test->page_size;
        for (int32_t i = 0; i < stride; i++)
            at->block_table[s * stride + i] = i < n ? order[next++] : NOWHERE;
    }
    free(order);
    at->batch.block_table = at->block_table;
    at->batch.block_table_stride = stride;
}

/* Writes the whole context of every sequence, as if it were one prefill. */
static void write_context(const struct attention_case *test, struct layout *at)
{
    int32_t start[ATTENTION_CASE_SEQS + 1] = {0};
    size_t row_floats = (size_t)test->n_kv_heads * (size_t)test->head_dim;
    struct qr_attention_batch whole = at->batch;

    for (int32_t s = 0; s < test->n_seqs; s++)
        start[s + 1] = start[s] + test->seqs[s].context_length;
    whole.query_start = start;
    float *k = make_nans((size_t)start[test->n_seqs] * row_floats);
    float *v = make_nans((size_t)start[test->n_seqs] * row_floats);
    for (int32_t s = 0; s < test->n_seqs; s++) {
        for (int32_t position = 0; position < test->seqs[s].context_length; position++) {
            for (uint32_t i = 0; i < row_floats; i++) {
                size_t to = (size_t)(start[s] + position) * row_floats + i;
                k[to] = 2 * attention_value(test->seqs[s].id, 1, (uint32_t)position, i);
                v[to] = attention_value(test->seqs[s].id, 2, (uint32_t)position, i);
            }
        }
    }
    const struct qr_kv_rows rows = {at->params.kv, LAYER, test->kv_dtype, &whole, k, v,
                                    at->kv_pool};
    qr_kv_write_cpu(QR_ISA_SCALAR, &rows, 0, start[test->n_seqs]);
    free(k);
    free(v);
}

/* Pages that no row's window reaches are not there. */
static void hide_passed_pages(const struct attention_case *test, struct layout *at)
{
    size_t page_bytes = qr_kv_page_elements(&at->params.kv) * qr_dtype_size(test->kv_dtype);

    for (int32_t s = 0; s < test->n_seqs && test->window != 0; s++) {
        const struct attention_case_seq *seq = &test->seqs[s];
        int32_t first_seen = seq->context_length - seq->n_rows + 1 - test->window;
        int32_t *table = at->block_table + (size_t)s * (size_t)at->batch.block_table_stride;
        for (int32_t i = 0; i < first_seen / test->page_size; i++) {
            memset((char *)at->kv_pool + (size_t)table[i] * page_bytes, 0xff, page_bytes);
            table[i] = NOWHERE;
        }
    }
}

static void write_queries(const struct attention_case *test, struct layout *at)
{
    size_t row_floats = (size_t)test->n_heads * (size_t)test->head_dim;
    float scale = at->params.scale;

    for (int32_t s = 0; s < test->n_seqs; s++) {
        const struct attention_case_seq *seq = &test->seqs[s];
        for (int32_t r = 0; r < seq->n_rows; r++) {
            uint32_t position = (uint32_t)(seq->context_length - seq->n_rows + r);
            float *q = at->q + (size_t)(at->query_start[s] + r) * row_floats;
            for (uint32_t i = 0; i < row_floats; i++) {
                q[i] = 4 * attention_value(seq->id, 3, position, i);
                if (test->round_queries)
                    q[i] = qr_bf16_to_f32(qr_f32_to_bf16(q[i] * scale)) / scale;
            }
        }
    }
}

static int32_t longest_context(const struct attention_case *test)
{
    int32_t longest = 0;

    for (int32_t s = 0; s < test->n_seqs; s++) {
        if (test->seqs[s].context_length > longest)
            longest = test->seqs[s].context_length;
    }
    return longest;
}

static void run_kernel(const struct attention_case *test, enum attention_kernel kernel,
                       const struct qr_attention_params *params)
{
    static const enum qr_isa isa[ATTENTION_KERNELS] = {
        [ATTENTION_SCALAR] = QR_ISA_SCALAR,
        [ATTENTION_NEON] = QR_ISA_NEON,
        [ATTENTION_AVX2] = QR_ISA_AVX2,
        [ATTENTION_AVX512] = QR_ISA_AVX512,
        [ATTENTION_AVX512BF16] = QR_ISA_AVX512BF16,
    };
    const struct qr_attention_limits limits = {
        .max_seqs = test->n_seqs,
        .max_context = test->max_context > 0 ? test->max_context : longest_context(test),
        .n_heads = test->n_heads,
        .head_dim = test->head_dim,
        .n_threads = test->n_threads,
    };
    struct qr_attention_workspace *workspace;
    struct qr_thread_pool *pool;

    assert_int_equal(qr_thread_pool_create(test->n_threads, &pool), QR_OK);
    assert_int_equal(qr_attention_workspace_create(&limits, &workspace), QR_OK);
    if (kernel == ATTENTION_REFERENCE)
        qr_attention_reference(params);
    else if (kernel == ATTENTION_EMULATED_AVX512)
        qr_attention_run_blocks(attention_emulated_avx512, params, pool, workspace);
    else if (kernel == ATTENTION_EMULATED_BF16)
        qr_attention_run_blocks(attention_emulated_bf16, params, pool, workspace);
    else
        qr_attention_cpu(isa[kernel], params, pool, workspace);
    qr_attention_workspace_destroy(workspace);
    qr_thread_pool_destroy(pool);
}

float *attention_case_run(const struct attention_case *test, enum attention_kernel kernel)
{
    size_t out_floats =
        (size_t)attention_case_rows(test) * (size_t)test->n_heads * (size_t)test->head_dim;
    struct layout at = {
        .params = {.kv = {.n_layers = LAYERS,
                          .n_kv_heads = test->n_kv_heads,
                          .head_dim = test->head_dim,
                          .page_size = test->page_size},
                   .layer = LAYER,
                   .n_heads = test->n_heads,
                   .scale = 1.0f / sqrtf((float)test->head_dim),
                   .window = test->window,
                   .soft_cap = test->soft_cap,
                   .kv_dtype = test->kv_dtype},
        .batch = {.n_seqs = test->n_seqs},
    };

    for (int32_t s = 0; s < test->n_seqs; s++) {
        at.query_start[s + 1] = at.query_start[s] + test->seqs[s].n_rows;
        at.context_length[s] = test->seqs[s].context_length;
    }
    at.batch.query_start = at.query_start;
    at.batch.context_length = at.context_length;
    at.params.batch = &at.batch;
    place_pages(test, &at);
    size_t pool_bytes =
        (size_t)at.n_pages * qr_kv_page_elements(&at.params.kv) * qr_dtype_size(test->kv_dtype);
    assert_non_null(at.kv_pool = malloc(pool_bytes));
    memset(at.kv_pool, 0xff, pool_bytes); /* NaN in every format */
    at.q = make_nans(out_floats);
    at.out = make_nans(out_floats);
    write_context(test, &at);
    hide_passed_pages(test, &at);
    write_queries(test, &at);
    at.params.q = at.q;
    at.params.kv_pool = at.kv_pool;
    at.params.out = at.out;
    run_kernel(test, kernel, &at.params);

    free(at.block_table);
    free(at.kv_pool);
    free(at.q);
    return at.out;
}
