/* cpu_packed.c - weights on the CPU: packing matrices once, and products with them. */
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/assert.h"
#include "base/quantize.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

enum {
    TILES_PER_ITEM = 2,     /* that a thread takes at a time: as many as kernels join */
    MAX_TILES_PER_ITEM = 8, /* that share blocks of the activations, where there are many rows: */
    MANY_ROWS = 9,
    ROUNDED_PER_ITEM = 4, /* rows, unless there is a block of them */
};

struct pack_work {
    const struct qr_tensor *weight; /* [n_out][n_in] */
    enum qr_dtype dtype;            /* of the tiles */
    struct qr_packed_layout layout;
    uint8_t *tiles;
    /* Where the weight has another dtype: */
    qr_quantize_fn quantize;
    uint8_t *blocks; /* [n_threads][16 rows of dtype] */
};

/* The rows as blocks, in memory of the thread. */
static const uint8_t *quantize_rows_of(const struct pack_work *work, const uint8_t *rows,
                                       int64_t n_rows, int32_t worker)
{
    int64_t n_in = work->weight->dims[1];
    size_t row_bytes = qr_dtype_row_bytes(work->weight->dtype, n_in);
    size_t block_bytes = qr_dtype_row_bytes(work->dtype, n_in);
    uint8_t *blocks = work->blocks + (size_t)worker * QR_PACK_ROWS * block_bytes;

    for (int64_t row = 0; row < n_rows; row++)
        work->quantize(work->weight->dtype, rows + (size_t)row * row_bytes, n_in, work->dtype,
                       blocks + (size_t)row * block_bytes);
    return blocks;
}

static void pack_tiles(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct pack_work *work = arg;
    int64_t n_out = work->weight->dims[0];
    int64_t n_in = work->weight->dims[1];
    size_t row_bytes = qr_dtype_row_bytes(work->weight->dtype, n_in);

    for (int64_t tile = first; tile < last; tile++) {
        int64_t row = tile * QR_PACK_ROWS;
        int64_t n_rows = n_out - row < QR_PACK_ROWS ? n_out - row : QR_PACK_ROWS;
        const uint8_t *rows = (const uint8_t *)work->weight->data + (size_t)row * row_bytes;
        if (work->dtype != work->weight->dtype)
            rows = quantize_rows_of(work, rows, n_rows, worker);
        qr_pack_tile(work->dtype, rows, (int32_t)n_rows, n_in,
                     work->tiles + (size_t)tile * work->layout.tile_bytes);
    }
}

static int64_t n_tiles_of(const struct qr_tensor *weight)
{
    return (weight->dims[0] + QR_PACK_ROWS - 1) / QR_PACK_ROWS;
}

static void free_rows(struct qr_packed_rows *rows)
{
    qr_free(rows->values);
    qr_free(rows->scales);
    qr_free(rows->sums);
    qr_free(rows->halves);
    *rows = (struct qr_packed_rows){0};
}

/* How products of this format want their activations. */
static enum qr_cpu_rounding rounding_of(const struct qr_cpu_device *cpu, enum qr_dtype dtype)
{
    if (qr_packed_rounds(dtype))
        return QR_CPU_BYTES;
    return dtype == QR_DTYPE_BF16 && cpu->packed.kernels->round_to_bf16 != NULL ? QR_CPU_BF16
                                                                                : QR_CPU_FLOATS;
}

/* Room for the rounded rows that a matrix of n_in columns is multiplied with. */
static enum qr_status reserve_rows(struct qr_cpu_device *cpu, enum qr_cpu_rounding rounding,
                                   int64_t n_in, struct qr_error *err)
{
    struct qr_cpu_packed *packed = &cpu->packed;
    struct qr_packed_rows *rows = &packed->rows;
    int32_t last_block = (cpu->max_rows - 1) / QR_PACK_ROW_BLOCK * QR_PACK_ROW_BLOCK;
    size_t n_steps = qr_packed_step((int32_t)n_in, last_block + QR_PACK_ROW_BLOCK, 0);
    bool is_there = true;

    if (n_in <= packed->max_n_in[rounding])
        return QR_OK;
    packed->max_n_in[rounding] = 0;
    if (rounding == QR_CPU_BF16) {
        qr_free(rows->halves);
        rows->halves = qr_aligned_alloc(QR_ARENA_ENGINE, QR_PACK_ALIGN,
                                        n_steps * QR_PACK_STEP * sizeof(uint16_t));
        is_there = rows->halves != NULL;
    }
    if (rounding == QR_CPU_BYTES) {
        qr_free(rows->values);
        qr_free(rows->scales);
        qr_free(rows->sums);
        rows->values = qr_aligned_alloc(QR_ARENA_ENGINE, QR_PACK_ALIGN, n_steps * QR_PACK_STEP);
        rows->scales = qr_malloc(QR_ARENA_ENGINE, n_steps * sizeof(float));
        rows->sums = qr_malloc(QR_ARENA_ENGINE, n_steps * 2 * sizeof(int32_t));
        is_there = rows->values != NULL && rows->scales != NULL && rows->sums != NULL;
    }
    if (!is_there)
        return qr_fail(err, QR_ERR_NOMEM, "no memory to round %d rows of %lld activations",
                       cpu->max_rows, (long long)n_in);
    packed->max_n_in[rounding] = n_in;
    return QR_OK;
}

/* Another region, for the n_bytes that come and for all that the model has. */
static enum qr_status open_region(struct qr_cpu_device *cpu, size_t n_bytes, struct qr_error *err)
{
    struct qr_cpu_packed *packed = &cpu->packed;
    size_t n_all = qr_cpu_most_weight_bytes(cpu);
    void *grown = qr_array_grow(QR_ARENA_ENGINE, packed->regions, packed->n_regions,
                                &packed->capacity, sizeof(*packed->regions));
    if (grown == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    packed->regions = grown;
    /* Where address space is limited, as much as is needed. */
    struct qr_region *region = &packed->regions[packed->n_regions];
    if (qr_region_open(n_all > n_bytes ? n_all : n_bytes, region) != QR_OK &&
        qr_region_open(n_bytes, region) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for %zu bytes of weights", n_bytes);
    qr_cpu_spread(cpu, region->first, region->n_reserved);
    packed->n_regions++;
    return QR_OK;
}

/* Memory for weights, which the device owns. */
static enum qr_status allocate_weights(struct qr_cpu_device *cpu, size_t n_bytes, uint8_t **weights,
                                       struct qr_error *err)
{
    struct qr_cpu_packed *packed = &cpu->packed;

    *weights = packed->n_regions > 0
                   ? qr_region_take(&packed->regions[packed->n_regions - 1], QR_PACK_ALIGN, n_bytes)
                   : NULL;
    if (*weights == NULL) {
        QR_TRY(open_region(cpu, n_bytes, err));
        *weights = qr_region_take(&packed->regions[packed->n_regions - 1], QR_PACK_ALIGN, n_bytes);
    }
    if (*weights == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for %zu bytes of weights", n_bytes);
    return QR_OK;
}

/* Makes the tiles of work->weight. */
static enum qr_status pack(struct qr_cpu_device *cpu, struct pack_work *work, struct qr_error *err)
{
    size_t n_bytes = (size_t)n_tiles_of(work->weight) * work->layout.tile_bytes;

    work->tiles = qr_cpu_weights_cache_take(cpu, work->weight, work->dtype);
    if (work->tiles == NULL)
        QR_TRY(allocate_weights(cpu, n_bytes, &work->tiles, err));
    qr_cpu_run(&cpu->base, n_tiles_of(work->weight), TILES_PER_ITEM, pack_tiles, work);
    return QR_OK;
}

static enum qr_status quantize_and_pack(struct qr_cpu_device *cpu, struct pack_work *work,
                                        struct qr_error *err)
{
    size_t block_bytes = QR_PACK_ROWS * qr_dtype_row_bytes(work->dtype, work->weight->dims[1]);
    size_t n_threads = (size_t)qr_thread_pool_size(cpu->pool);

    work->quantize = qr_quantizer_of(cpu->isa);
    work->blocks = qr_malloc(QR_ARENA_ENGINE, n_threads * block_bytes);
    if (work->blocks == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory to quantize %d rows of %lld weights",
                       QR_PACK_ROWS, (long long)work->weight->dims[1]);
    enum qr_status status = pack(cpu, work, err);
    qr_free(work->blocks);
    return status;
}

static const enum qr_dtype asked_dtypes[] = {[QR_QUANTIZE_Q8_0] = QR_DTYPE_Q8_0,
                                             [QR_QUANTIZE_Q4_0] = QR_DTYPE_Q4_0,
                                             [QR_QUANTIZE_Q4_K] = QR_DTYPE_Q4_K};

/*
 * Logits show the error of each of the head's weights as it is, and a
 * router's few weights decide between experts: 8 bits for the one, all of them for the other. Rows
 * that are no whole blocks of 256 get blocks of 32, of 8 bits, so that nothing is less exact than
 * was asked for; others stay.
 */
enum qr_dtype qr_cpu_dtype_to_be(const struct qr_cpu_device *cpu, const struct qr_tensor *weight)
{
    if (cpu->quantize == QR_QUANTIZE_NONE || weight->dtype >= QR_DTYPE_COUNT ||
        weight->use == QR_USE_ROUTER)
        return weight->dtype;
    enum qr_dtype dtype = weight->use == QR_USE_HEAD ? QR_DTYPE_Q8_0 : asked_dtypes[cpu->quantize];
    if (weight->dims[1] % qr_dtype_block_size(dtype) != 0)
        dtype = QR_DTYPE_Q8_0;
    return weight->dims[1] % qr_dtype_block_size(dtype) == 0 ? dtype : weight->dtype;
}

/* Memory of each thread to widen 16 rows of n_in columns. */
static enum qr_status reserve_widened(struct qr_cpu_device *cpu, int64_t n_in, struct qr_error *err)
{
    struct qr_cpu_packed *packed = &cpu->packed;
    size_t n_threads = (size_t)qr_thread_pool_size(cpu->pool);
    size_t n_bytes = 2 * qr_packed_layout_of(QR_DTYPE_F32, n_in).tile_bytes;

    if (n_bytes <= packed->widened_bytes)
        return QR_OK;
    qr_free(packed->widened);
    packed->widened_bytes = 0;
    packed->widened = qr_aligned_alloc(QR_ARENA_ENGINE, QR_PACK_ALIGN, n_threads * n_bytes);
    if (packed->widened == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory to widen %d rows of %lld weights",
                       QR_PACK_ROWS, (long long)n_in);
    packed->widened_bytes = n_bytes;
    return QR_OK;
}

enum qr_status qr_cpu_adopt_tiles(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  enum qr_dtype dtype, const uint8_t *tiles, struct qr_error *err)
{
    QR_ASSERT(cpu->max_rows > 0); /* prepared */
    QR_TRY(reserve_rows(cpu, rounding_of(cpu, dtype), weight->dims[1], err));
    weight->dtype = dtype;
    weight->data = tiles;
    weight->is_packed = true;
    return QR_OK;
}

static void count_quantized(struct qr_cpu_device *cpu, const struct qr_tensor *weight,
                            enum qr_dtype dtype)
{
    struct qr_cpu_quantized *count = &cpu->quantized;

    if (cpu->quantize == QR_QUANTIZE_NONE || weight->dtype >= QR_DTYPE_COUNT ||
        weight->use == QR_USE_ROUTER)
        return;
    if (dtype == asked_dtypes[cpu->quantize])
        count->n_asked++;
    else if (weight->use == QR_USE_HEAD && dtype == QR_DTYPE_Q8_0)
        count->n_heads++;
    else
        count->n_other++;
}

enum qr_status qr_cpu_load_matrix(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  struct qr_error *err)
{
    if (!qr_packs(weight->dtype))
        return reserve_widened(cpu, weight->dims[1], err);
    enum qr_dtype dtype = qr_cpu_dtype_to_be(cpu, weight);
    struct pack_work work = {
        .weight = weight, .dtype = dtype, .layout = qr_packed_layout_of(dtype, weight->dims[1])};
    QR_TRY(dtype == weight->dtype ? pack(cpu, &work, err) : quantize_and_pack(cpu, &work, err));
    count_quantized(cpu, weight, dtype);
    return qr_cpu_adopt_tiles(cpu, weight, dtype, work.tiles, err);
}

enum qr_status qr_cpu_load_vector(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  struct qr_error *err)
{
    size_t n_bytes = (size_t)qr_tensor_n_bytes(weight);
    uint8_t *copy;

    QR_TRY(allocate_weights(cpu, n_bytes, &copy, err));
    memcpy(copy, weight->data, n_bytes);
    weight->data = copy;
    return QR_OK;
}

void qr_cpu_packed_close(struct qr_cpu_device *cpu)
{
    for (int32_t i = 0; i < cpu->packed.n_regions; i++)
        qr_region_close(&cpu->packed.regions[i]);
    qr_free(cpu->packed.regions);
    free_rows(&cpu->packed.rows);
    qr_free(cpu->packed.widened);
}

struct round_work {
    const struct qr_packed_kernels *kernels;
    enum qr_cpu_rounding rounding;
    const struct qr_packed_rows *rows;
    const float *x; /* [n_rows][n_in] */
    int32_t n_in;
};

static void round_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct round_work *work = arg;
    const struct qr_packed_kernels *kernels = work->kernels;
    int64_t row = first;

    (void)worker;
    while (row < last) {
        const float *x = work->x + (size_t)row * (size_t)work->n_in;
        if (work->rounding == QR_CPU_BF16) {
            kernels->round_to_bf16(x, work->n_in, work->rows, (int32_t)row++);
        } else if (row % QR_PACK_ROW_BLOCK == 0 && row + QR_PACK_ROW_BLOCK <= last) {
            kernels->quantize_block(x, work->n_in, work->rows, (int32_t)row);
            row += QR_PACK_ROW_BLOCK;
        } else {
            kernels->quantize(x, work->n_in, work->rows, (int32_t)row++);
        }
    }
}

struct packed_work {
    const struct qr_packed_kernels *kernels;
    struct qr_packed_args args;
    const struct qr_tensor *weight;
    uint8_t *widened; /* [n_threads][widened_bytes] */
    size_t widened_bytes;
};

static void multiply_tiles(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct packed_work *work = arg;
    (void)worker;
    work->kernels->matmul(&work->args, (int32_t)first, (int32_t)last);
}

static void multiply_widened_tiles(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct packed_work *work = arg;
    struct qr_packed_args args = work->args;
    uint8_t *tile = work->widened + (size_t)worker * work->widened_bytes;
    float *rows = (float *)(void *)(tile + work->widened_bytes / 2);

    args.tiles = tile;
    for (int64_t at = first; at < last; at++) {
        int64_t row = at * QR_PACK_ROWS;
        int64_t n = args.n_out - row < QR_PACK_ROWS ? args.n_out - row : QR_PACK_ROWS;
        qr_tensor_widen_rows(work->weight, row, n, rows);
        qr_pack_tile(QR_DTYPE_F32, rows, (int32_t)n, args.n_in, tile);
        args.first_tile = (int32_t)at;
        work->kernels->matmul(&args, (int32_t)at, (int32_t)at + 1);
    }
}

/* Rounds the input, unless another matrix had it so. */
static void prepare_rows(struct qr_cpu_device *cpu, enum qr_cpu_rounding rounding,
                         struct qr_cpu_input *input, int32_t n_in)
{
    int32_t n = input->n_rows < QR_PACK_ROW_BLOCK ? ROUNDED_PER_ITEM : QR_PACK_ROW_BLOCK;
    struct round_work work = {.kernels = cpu->packed.kernels,
                              .rounding = rounding,
                              .rows = &cpu->packed.rows,
                              .x = input->x,
                              .n_in = n_in};

    if (rounding == QR_CPU_FLOATS || input->is_rounded[rounding])
        return;
    QR_ASSERT(input->n_rows <= cpu->max_rows && n_in <= cpu->packed.max_n_in[rounding]);
    qr_cpu_run(&cpu->base, input->n_rows, n, round_rows, &work);
    input->is_rounded[rounding] = true;
}

/* As many as share blocks, but enough items for all threads. */
static int64_t tiles_per_item(const struct qr_cpu_device *cpu, int64_t n_tiles, int32_t n_rows)
{
    int64_t share = n_tiles / (2 * qr_thread_pool_size(cpu->pool));

    if (n_rows < MANY_ROWS || share < TILES_PER_ITEM)
        return TILES_PER_ITEM;
    return share < MAX_TILES_PER_ITEM ? share / TILES_PER_ITEM * TILES_PER_ITEM
                                      : MAX_TILES_PER_ITEM;
}

void qr_cpu_multiply(struct qr_cpu_device *cpu, const struct qr_tensor *weight,
                     struct qr_cpu_input *input, float *out)
{
    const struct qr_cpu_packed *packed = &cpu->packed;
    int64_t n_tiles = n_tiles_of(weight);
    struct packed_work work = {.kernels = packed->kernels,
                               .weight = weight,
                               .widened = packed->widened,
                               .widened_bytes = packed->widened_bytes,
                               .args = {.dtype = weight->dtype,
                                        .tiles = weight->data,
                                        .x = input->x,
                                        .rounded = packed->rows,
                                        .out = out,
                                        .n_in = (int32_t)weight->dims[1],
                                        .n_out = (int32_t)weight->dims[0],
                                        .n_rows = input->n_rows}};

    if (input->n_rows == 0) /* logits that nobody wants */
        return;
    if (!weight->is_packed) {
        QR_ASSERT(!qr_packs(weight->dtype) && packed->widened_bytes > 0); /* loaded */
        work.args.dtype = QR_DTYPE_F32;
        qr_cpu_run(&cpu->base, n_tiles, TILES_PER_ITEM, multiply_widened_tiles, &work);
        return;
    }
    prepare_rows(cpu, rounding_of(cpu, weight->dtype), input, work.args.n_in);
    int64_t per_item = tiles_per_item(cpu, n_tiles, input->n_rows);
    /* Threads take items in turn, as long as they are alike. */
    work.args.call_stride = (int32_t)per_item * qr_thread_pool_size(cpu->pool);
    qr_cpu_run(&cpu->base, n_tiles, per_item, multiply_tiles, &work);
}
