/*
 * simd_amx.h - Intel's matrix unit (AMX, with its products of bytes and of BF16): eight tiles of 16
 * rows of 64 bytes, and products of two of them that are added to a third.
 *
 * The numbers of tiles are literals, as the instructions have them: 0 to 3 are sums [16][16] of 32
 * bits, 4 and 5 left factors of 16 rows, 6 and 7 right factors of 64 bytes a row. A right factor
 * has the elements that meet in a sum side by side, four bytes or two BF16, for 16 columns in turn.
 * A thread configures the unit before it uses it, and releases it, or else the system saves the
 * tiles whenever it takes the processor away.
 *
 * With QUIRE_EMULATE_AVX512 the unit is emulated, so that tests can check these kernels where there
 * is none. Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
 */
#ifndef QUIRE_BASE_SIMD_AMX_H
#define QUIRE_BASE_SIMD_AMX_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/simd_bf16_avx512.h"
#include "base/simd_int8_avx512.h"

enum { QR_AMX_ROWS = 16, QR_AMX_ROW_BYTES = 64 };

/* What the unit is told of its tiles. */
struct qr_amx_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles as above; sums and left factors have n_rows, left factors k_bytes in a row, and right ones
 * as many bytes in a column. */
static inline struct qr_amx_config qr_amx_config_of(int n_rows, int k_bytes)
{
    struct qr_amx_config config = {.palette = 1};

    for (int tile = 0; tile < 8; tile++) {
        config.row_bytes[tile] = (uint16_t)(tile == 4 || tile == 5 ? k_bytes : QR_AMX_ROW_BYTES);
        config.rows[tile] = (uint8_t)(tile >= 6 ? k_bytes / 4 : n_rows);
    }
    return config;
}

#ifndef QUIRE_EMULATE_AVX512

static inline void qr_amx_configure(int n_rows, int k_bytes)
{
    const struct qr_amx_config config = qr_amx_config_of(n_rows, k_bytes);
    /* gcc 12 thinks that the instruction reads the first 8 bytes only. */
    __asm__ volatile("" ::"r"(&config) : "memory");
    _tile_loadconfig(&config);
}

#define qr_amx_release() _tile_release()

#define qr_amx_zero(tile) _tile_zero(tile)
/* A compiler does not know that the instruction reads memory. */
#define qr_amx_load(tile, from, row_stride)  \
    do {                                     \
        __asm__ volatile("" ::: "memory");   \
        _tile_loadd(tile, from, row_stride); \
    } while (0)
#define qr_amx_store(tile, to, row_stride)  _tile_stored(tile, to, row_stride)
#define qr_amx_add_bytes(sums, left, right) _tile_dpbssd(sums, left, right)
/* The right one's bytes have no sign. */
#define qr_amx_add_unsigned(sums, left, right) _tile_dpbsud(sums, left, right)
#define qr_amx_add_bf16(sums, left, right)     _tile_dpbf16ps(sums, left, right)

#else

struct qr_amx_emulated {
    struct qr_amx_config config;
    int32_t tiles[8][QR_AMX_ROWS][QR_AMX_ROW_BYTES / 4];
};

static _Thread_local struct qr_amx_emulated qr_amx_unit;

static inline void qr_amx_configure(int n_rows, int k_bytes)
{
    qr_amx_unit.config = qr_amx_config_of(n_rows, k_bytes);
}

static inline void qr_amx_release(void)
{
    memset(&qr_amx_unit, 0xFF, sizeof(qr_amx_unit)); /* what is used after it shows */
}

static inline void qr_amx_zero(int tile)
{
    memset(qr_amx_unit.tiles[tile], 0, sizeof(qr_amx_unit.tiles[tile]));
}

static inline void qr_amx_load(int tile, const void *from, size_t row_stride)
{
    qr_amx_zero(tile);
    for (int row = 0; row < qr_amx_unit.config.rows[tile]; row++)
        memcpy(qr_amx_unit.tiles[tile][row], (const char *)from + (size_t)row * row_stride,
               qr_amx_unit.config.row_bytes[tile]);
}

static inline void qr_amx_store(int tile, void *to, size_t row_stride)
{
    for (int row = 0; row < qr_amx_unit.config.rows[tile]; row++)
        memcpy((char *)to + (size_t)row * row_stride, qr_amx_unit.tiles[tile][row],
               qr_amx_unit.config.row_bytes[tile]);
}

/* has_sign: the right bytes. */
static inline int32_t qr_amx_dot_four(int32_t sum, int32_t left, int32_t right, bool has_sign)
{
    int8_t a[4];
    uint8_t b[4];

    memcpy(a, &left, sizeof(a));
    memcpy(b, &right, sizeof(b));
    for (int i = 0; i < 4; i++)
        sum += a[i] * (has_sign ? (int)(int8_t)b[i] : (int)b[i]);
    return sum;
}

static inline void qr_amx_emulate_bytes(int sums, int left, int right, bool has_sign)
{
    for (int row = 0; row < qr_amx_unit.config.rows[sums]; row++) {
        for (int k = 0; k < qr_amx_unit.config.rows[right]; k++) {
            for (int column = 0; column < 16; column++) {
                int32_t *sum = &qr_amx_unit.tiles[sums][row][column];
                *sum = qr_amx_dot_four(*sum, qr_amx_unit.tiles[left][row][k],
                                       qr_amx_unit.tiles[right][k][column], has_sign);
            }
        }
    }
}

static inline void qr_amx_add_bytes(int sums, int left, int right)
{
    qr_amx_emulate_bytes(sums, left, right, true);
}

static inline void qr_amx_add_unsigned(int sums, int left, int right)
{
    qr_amx_emulate_bytes(sums, left, right, false);
}

/* The products of the first, and of the second, of each pair are summed up by themselves. */
static inline float qr_amx_dot_bf16(const int32_t *left, int right, int n, int column)
{
    float halves[2] = {0.0f, 0.0f};

    for (int k = 0; k < n; k++) {
        uint16_t a[2], b[2];
        memcpy(a, &left[k], sizeof(a));
        memcpy(b, &qr_amx_unit.tiles[right][k][column], sizeof(b));
        for (int i = 0; i < 2; i++)
            halves[i] = qr_emulated_bf16_fma(a[i], b[i], halves[i]);
    }
    return qr_emulated_flush(halves[0] + halves[1]);
}

static inline void qr_amx_add_bf16(int sums, int left, int right)
{
    for (int row = 0; row < qr_amx_unit.config.rows[sums]; row++) {
        for (int column = 0; column < 16; column++) {
            int32_t *at = &qr_amx_unit.tiles[sums][row][column];
            float sum;
            memcpy(&sum, at, sizeof(sum));
            sum = qr_emulated_flush(qr_emulated_flush(sum) +
                                    qr_amx_dot_bf16(qr_amx_unit.tiles[left][row], right,
                                                    qr_amx_unit.config.rows[right], column));
            memcpy(at, &sum, sizeof(sum));
        }
    }
}

#endif

/* A row of sums. */
static inline qr_i32x16 qr_i32x16_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}

#ifndef QUIRE_EMULATE_AVX512

static inline qr_u8x64 qr_u8x64_sub(qr_u8x64 a, uint8_t less)
{
    return _mm512_sub_epi8(a, _mm512_set1_epi8((char)less));
}

#else

/* SIMDe's subtracts bytes with a sign, whose overflow C does not define. */
static inline qr_u8x64 qr_u8x64_sub(qr_u8x64 a, uint8_t less)
{
    uint8_t bytes[64];

    qr_u8x64_store(bytes, a);
    for (int i = 0; i < 64; i++)
        bytes[i] = (uint8_t)(bytes[i] - less);
    return qr_u8x64_load(bytes);
}

#endif

#endif /* QUIRE_BASE_SIMD_AMX_H */
