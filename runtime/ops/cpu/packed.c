/* packed.c - see packed.h for the contract. */
#include "runtime/ops/cpu/packed.h"

#include <string.h>

#include "base/assert.h"
#include "base/dequantize.h"

enum {
    GROUP = 4,
    GROUP_BYTES = GROUP * QR_PACK_ROWS,
    F16_RUN = 2 * QR_PACK_ROWS, /* bytes of an F16 for each row */
    MAX_BLOCK = 256,
    NIBBLES_STEP = QR_PACK_STEP / 2 * QR_PACK_ROWS,
    NIBBLE_GROUPS = NIBBLES_STEP / GROUP_BYTES,
    K_PARTS = MAX_BLOCK / QR_PACK_STEP,
    Q6_RUN = 16,
};

bool qr_packs(enum qr_dtype dtype)
{
    return dtype < QR_DTYPE_COUNT || dtype == QR_DTYPE_Q8_0 || dtype == QR_DTYPE_Q4_0 ||
           dtype == QR_DTYPE_Q4_K || dtype == QR_DTYPE_Q6_K;
}

static size_t step_bytes_of(enum qr_dtype dtype)
{
    if (dtype < QR_DTYPE_COUNT)
        return QR_PACK_STEP * QR_PACK_ROWS * qr_dtype_size(dtype);
    if (dtype == QR_DTYPE_Q8_0)
        return QR_PACK_STEP * QR_PACK_ROWS;
    return dtype == QR_DTYPE_Q6_K ? NIBBLES_STEP + NIBBLES_STEP / 2 : NIBBLES_STEP;
}

static size_t scale_bytes_of(enum qr_dtype dtype)
{
    if (dtype < QR_DTYPE_COUNT)
        return 0;
    if (dtype == QR_DTYPE_Q4_K)
        return 2 * F16_RUN + K_PARTS * 2 * QR_PACK_ROWS;
    if (dtype == QR_DTYPE_Q6_K)
        return F16_RUN + MAX_BLOCK / Q6_RUN * QR_PACK_ROWS;
    return F16_RUN;
}

struct qr_packed_layout qr_packed_layout_of(enum qr_dtype dtype, int64_t n_in)
{
    QR_ASSERT(qr_packs(dtype));
    struct qr_packed_layout layout = {.step_bytes = step_bytes_of(dtype),
                                      .scale_columns = qr_dtype_block_size(dtype),
                                      .scale_bytes = scale_bytes_of(dtype)};
    layout.scales_at = (size_t)((n_in + QR_PACK_STEP - 1) / QR_PACK_STEP) * layout.step_bytes;
    layout.tile_bytes =
        layout.scales_at + (size_t)(n_in / layout.scale_columns) * layout.scale_bytes;
    layout.tile_bytes = (layout.tile_bytes + QR_PACK_ALIGN - 1) / QR_PACK_ALIGN * QR_PACK_ALIGN;
    return layout;
}

/* Four neighbouring integers of a row, a byte each. */
static uint32_t four(const uint8_t *q)
{
    uint32_t bytes;

    memcpy(&bytes, q, sizeof(bytes));
    return bytes;
}

/* What group g of a step's quants holds of one row, whose 32 integers are q. */
static uint32_t packed_group(enum qr_dtype dtype, const uint8_t *q, int g)
{
    const uint32_t low_nibbles = 0x0F0F0F0F, low_pairs = 0x03030303, sign_bits = 0x80808080;

    if (dtype == QR_DTYPE_Q8_0)
        return four(q + GROUP * g) ^ sign_bits;
    if (g < NIBBLE_GROUPS)
        return (four(q + GROUP * g) & low_nibbles) |
               (four(q + GROUP * (g + NIBBLE_GROUPS)) & low_nibbles) << 4;
    uint32_t upper = 0;
    for (int f = 0; f < 4; f++)
        upper |= (four(q + GROUP * (g - NIBBLE_GROUPS + 2 * f)) >> 4 & low_pairs) << 2 * f;
    return upper;
}

/* q [16 rows][MAX_BLOCK], a step's from `from` on. */
static void put_step(enum qr_dtype dtype, uint8_t q[QR_PACK_ROWS][MAX_BLOCK], int32_t from,
                     int n_groups, uint8_t *quants)
{
    for (int g = 0; g < n_groups; g++) {
        for (int row = 0; row < QR_PACK_ROWS; row++, quants += GROUP) {
            uint32_t bytes = packed_group(dtype, q[row] + from, g);
            memcpy(quants, &bytes, sizeof(bytes));
        }
    }
}

/* scales: the run of the block's 16 rows */
static void put_scales(enum qr_dtype dtype, const uint8_t *block, int32_t row, uint8_t *scales)
{
    const uint8_t *d = dtype == QR_DTYPE_Q6_K ? block + QR_Q6_K_D : block;

    memcpy(scales + 2 * row, d, 2);
    if (dtype == QR_DTYPE_Q4_K) {
        memcpy(scales + F16_RUN + 2 * row, block + 2, 2);
        uint8_t *parts = scales + 2 * F16_RUN + row;
        for (int j = 0; j < K_PARTS; j++, parts += 2 * QR_PACK_ROWS)
            qr_read_k_scale(block + QR_Q4_K_SCALES, j, &parts[0], &parts[QR_PACK_ROWS]);
    }
    if (dtype == QR_DTYPE_Q6_K) {
        for (int run = 0; run < MAX_BLOCK / Q6_RUN; run++)
            scales[F16_RUN + run * QR_PACK_ROWS + row] = block[QR_Q6_K_SCALES + run];
    }
}

/* Columns side by side, zeros where rows or columns are missing. */
static void pack_f32(const uint32_t *rows, int32_t n_rows, int64_t n_in, uint32_t *tile)
{
    for (int64_t k = 0; k < n_in; k++, tile += QR_PACK_ROWS) {
        for (int32_t row = 0; row < n_rows; row++)
            tile[row] = rows[row * n_in + k];
    }
}

static void pack_f16(const uint16_t *rows, int32_t n_rows, int64_t n_in, uint16_t *tile)
{
    for (int64_t k = 0; k < n_in; k++, tile += QR_PACK_ROWS) {
        for (int32_t row = 0; row < n_rows; row++)
            tile[row] = rows[row * n_in + k];
    }
}

static void pack_bf16(const uint16_t *rows, int32_t n_rows, int64_t n_in, uint16_t *tile)
{
    for (int64_t k = 0; k < n_in; k += 2, tile += 2 * QR_PACK_ROWS) {
        size_t n_bytes = (n_in - k < 2 ? 1 : 2) * sizeof(*tile);
        for (int32_t row = 0; row < n_rows; row++)
            memcpy(tile + 2 * row, rows + row * n_in + k, n_bytes);
    }
}

static void pack_floats(enum qr_dtype dtype, const void *rows, int32_t n_rows, int64_t n_in,
                        uint8_t *tile)
{
    if (n_rows < QR_PACK_ROWS || n_in % QR_PACK_STEP != 0)
        memset(tile, 0, qr_packed_layout_of(dtype, n_in).tile_bytes);
    if (dtype == QR_DTYPE_F32)
        pack_f32(rows, n_rows, n_in, (uint32_t *)(void *)tile);
    else if (dtype == QR_DTYPE_F16)
        pack_f16(rows, n_rows, n_in, (uint16_t *)(void *)tile);
    else
        pack_bf16(rows, n_rows, n_in, (uint16_t *)(void *)tile);
}

static void pack_blocks(enum qr_dtype dtype, const uint8_t *rows, int32_t n_rows, int64_t n_in,
                        uint8_t *tile)
{
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, n_in);
    size_t row_bytes = qr_dtype_row_bytes(dtype, n_in);
    size_t block_bytes = qr_dtype_block_bytes(dtype);
    uint8_t q[QR_PACK_ROWS][MAX_BLOCK] = {{0}};
    uint8_t *quants = tile;

    memset(tile + layout.scales_at, 0, layout.tile_bytes - layout.scales_at);
    for (int64_t b = 0; b < n_in / layout.scale_columns; b++) {
        uint8_t *scales = tile + layout.scales_at + (size_t)b * layout.scale_bytes;
        for (int32_t row = 0; row < n_rows; row++) {
            const uint8_t *block = rows + (size_t)row * row_bytes + (size_t)b * block_bytes;
            qr_block_quants(dtype, block, q[row]);
            put_scales(dtype, block, row, scales);
        }
        for (int32_t i = 0; i < layout.scale_columns; i += QR_PACK_STEP) {
            put_step(dtype, q, i, (int)(layout.step_bytes / GROUP_BYTES), quants);
            quants += layout.step_bytes;
        }
    }
}

void qr_pack_tile(enum qr_dtype dtype, const void *rows, int32_t n_rows, int64_t n_in,
                  uint8_t *tile)
{
    if (dtype < QR_DTYPE_COUNT)
        pack_floats(dtype, rows, n_rows, n_in, tile);
    else
        pack_blocks(dtype, rows, n_rows, n_in, tile);
}

/* The integer of element i of a step; quants of the row's first group. */
static int quant_at(enum qr_dtype dtype, const uint8_t *quants, int i)
{
    int group = i / GROUP;

    if (dtype == QR_DTYPE_Q8_0)
        return quants[group * GROUP_BYTES + i % GROUP] - 128;
    int q = quants[group % 4 * GROUP_BYTES + i % GROUP] >> group / 4 * 4 & 0xF;
    if (dtype == QR_DTYPE_Q4_0)
        return q - 8;
    if (dtype == QR_DTYPE_Q4_K)
        return q;
    int upper = quants[NIBBLES_STEP + group % 2 * GROUP_BYTES + i % GROUP];
    return (q | (upper >> group / 2 * 2 & 3) << 4) - 32;
}

/* What element k of a block is multiplied with, and what is taken off; scales of the row's first.
 */
static void scale_at(enum qr_dtype dtype, const uint8_t *scales, int32_t row, int k, float *scale,
                     float *minimum)
{
    *scale = qr_read_f16(scales + 2 * row);
    *minimum = 0.0f;
    if (dtype == QR_DTYPE_Q4_K) {
        const uint8_t *part = scales + 2 * F16_RUN + k / QR_PACK_STEP * 2 * QR_PACK_ROWS + row;
        *scale *= (float)part[0];
        *minimum = qr_read_f16(scales + F16_RUN + 2 * row) * (float)part[QR_PACK_ROWS];
    }
    if (dtype == QR_DTYPE_Q6_K)
        *scale *= (float)(int8_t)scales[F16_RUN + k / Q6_RUN * QR_PACK_ROWS + row];
}

static float float_at(enum qr_dtype dtype, const uint8_t *tile, int32_t lane, int64_t k)
{
    const uint16_t *halves = (const uint16_t *)(const void *)tile;

    if (dtype == QR_DTYPE_F32)
        return ((const float *)(const void *)tile)[k * QR_PACK_ROWS + lane];
    if (dtype == QR_DTYPE_F16)
        return qr_f16_to_f32(halves[k * QR_PACK_ROWS + lane]);
    return qr_bf16_to_f32(halves[(k / 2 * QR_PACK_ROWS + lane) * 2 + k % 2]);
}

static void widen_blocks_row(enum qr_dtype dtype, const uint8_t *tile, int64_t n_in, int32_t lane,
                             float *out)
{
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, n_in);

    for (int64_t k = 0; k < n_in; k++) {
        const uint8_t *quants =
            tile + (size_t)(k / QR_PACK_STEP) * layout.step_bytes + lane * GROUP;
        const uint8_t *scales =
            tile + layout.scales_at + (size_t)(k / layout.scale_columns) * layout.scale_bytes;
        float scale, minimum;
        scale_at(dtype, scales, lane, (int)(k % layout.scale_columns), &scale, &minimum);
        float value = scale * (float)quant_at(dtype, quants, (int)(k % QR_PACK_STEP));
        out[k] = dtype == QR_DTYPE_Q4_K ? value - minimum : value;
    }
}

void qr_packed_widen_row(enum qr_dtype dtype, const uint8_t *tiles, int64_t n_in, int64_t row,
                         float *out)
{
    size_t tile_bytes = qr_packed_layout_of(dtype, n_in).tile_bytes;
    const uint8_t *tile = tiles + (size_t)(row / QR_PACK_ROWS) * tile_bytes;
    int32_t lane = (int32_t)(row % QR_PACK_ROWS);

    if (qr_packed_rounds(dtype))
        widen_blocks_row(dtype, tile, n_in, lane, out);
    else
        for (int64_t k = 0; k < n_in; k++)
            out[k] = float_at(dtype, tile, lane, k);
}
