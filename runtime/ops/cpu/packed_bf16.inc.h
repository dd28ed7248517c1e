/*
 * packed_bf16.inc.h - products of matrices of BF16 with activations rounded to BF16; included by
 * packed_kernels.inc.h, whose head says what the including file defines.
 *
 * On the matrix unit a tile of sums gets 32 products at a time: those of even columns are summed up
 * in order, and those of odd ones, and the two sums are added to the tile's. On vectors 128
 * products are summed in order, of each pair of columns the second first, and such sums are added
 * in order. Neither depends on how many rows there are.
 */
enum { BF16_STEP = QR_PACK_ROW_BLOCK * STEP }; /* numbers of 16 rows, and of 16 results */

static void round_to_bf16(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                          int32_t row)
{
    for (int32_t k = 0; k < n_in; k += STEP) {
        uint16_t *to = rows->halves + qr_packed_step(n_in, row, k / STEP) * STEP;
        int32_t left = n_in - k;
        for (int32_t at = 0; at < STEP; at += QR_LANES) {
            int n = left - at >= QR_LANES ? QR_LANES : left > at ? left - at : 0;
            qr_f32x16_store_bf16_flushed(to + at,
                                         qr_f32x16_load_partial(x + k + (n > 0 ? at : 0), n));
        }
    }
}

/* Numbers of a tile, or of a block of rows. */
QR_INLINE size_t bf16_stride(const struct qr_packed_args *args)
{
    return (size_t)(args->n_in + STEP - 1) / STEP * BF16_STEP;
}

QR_INLINE const uint16_t *bf16_tile(const struct qr_packed_args *args, int32_t tile)
{
    return (const uint16_t *)(const void *)args->tiles +
           (size_t)(tile - args->first_tile) * bf16_stride(args);
}

#ifdef QR_MATRIX_UNIT

enum {
    BF16_BLOCKS = 2, /* of rows, and tiles, whose sums are in the unit together */
    BF16_AHEAD = 4,  /* steps that weights are fetched before they are used */
    BF16_LINE = 32,  /* numbers of a cache line */
};

struct bf16_factors {
    const uint16_t *x[BF16_BLOCKS];    /* [steps][16 rows][32] */
    const uint16_t *w[BF16_BLOCKS];    /* [steps][16][16 results][2] */
    const uint16_t *next[BF16_BLOCKS]; /* the same of the tiles that come next */
};

QR_INLINE void fetch_bf16_step(const uint16_t *w)
{
    for (int i = 0; i < BF16_STEP; i += BF16_LINE)
        __builtin_prefetch(w + i, 0, 2);
}

/* Sums of `blocks` x `tiles`, the second block's in tiles 2 and 3 of the unit. */
QR_INLINE void sum_bf16(const struct bf16_factors *from, int blocks, int tiles, int32_t n_steps,
                        bool fetch)
{
    enum { ROW_BYTES = STEP * sizeof(uint16_t) };

    qr_amx_zero(0);
    qr_amx_zero(1);
    qr_amx_zero(2);
    qr_amx_zero(3);
    for (int32_t step = 0; step < n_steps; step++) {
        size_t at = (size_t)step * BF16_STEP;
        qr_amx_load(4, from->x[0] + at, ROW_BYTES);
        qr_amx_load(6, from->w[0] + at, ROW_BYTES);
        qr_amx_add_bf16(0, 4, 6);
        if (tiles == 2) {
            qr_amx_load(7, from->w[1] + at, ROW_BYTES);
            qr_amx_add_bf16(1, 4, 7);
        }
        if (blocks == 2) {
            qr_amx_load(5, from->x[1] + at, ROW_BYTES);
            qr_amx_add_bf16(2, 5, 6);
            if (tiles == 2)
                qr_amx_add_bf16(3, 5, 7);
        }
        int32_t later = step + BF16_AHEAD;
        for (int t = 0; t < tiles && fetch; t++)
            fetch_bf16_step(later < n_steps
                                ? from->w[t] + (size_t)later * BF16_STEP
                                : from->next[t] + (size_t)(later - n_steps) * BF16_STEP);
    }
}

/* Copies the results that there are of one block and tile. */
QR_INLINE void put_bf16_sums(const struct qr_packed_args *args, const float *sums, int32_t row,
                             int32_t tile)
{
    int32_t n_rows = args->n_rows - row < UNIT_ROWS ? args->n_rows - row : UNIT_ROWS;
    float *out = args->out + (size_t)row * (size_t)args->n_out + (size_t)tile * QR_LANES;

    for (int32_t r = 0; r < n_rows; r++)
        qr_f32x16_store_partial(out + (size_t)r * (size_t)args->n_out,
                                qr_f32x16_load(sums + r * QR_LANES), lanes_of(args, tile));
}

/* next: the tile that comes after these. */
QR_INLINE void multiply_bf16_unit(const struct qr_packed_args *args, int blocks, int tiles,
                                  int32_t row, int32_t tile, int32_t next)
{
    alignas(64) float sums[4][UNIT_SUMS];
    struct bf16_factors from;
    const size_t stride = bf16_stride(args);
    const uint16_t *x = args->rounded.halves + (size_t)(row / UNIT_ROWS) * stride;

    for (int i = 0; i < BF16_BLOCKS; i++) {
        from.x[i] = x + (size_t)(i < blocks ? i : 0) * stride;
        from.w[i] = bf16_tile(args, tile + (i < tiles ? i : 0));
        from.next[i] = bf16_tile(args, next + (i < tiles ? i : 0));
    }
    sum_bf16(&from, blocks, tiles, (args->n_in + STEP - 1) / STEP, row == 0);
    qr_amx_store(0, sums[0], QR_LANES * sizeof(float));
    qr_amx_store(1, sums[1], QR_LANES * sizeof(float));
    qr_amx_store(2, sums[2], QR_LANES * sizeof(float));
    qr_amx_store(3, sums[3], QR_LANES * sizeof(float));
    for (int b = 0; b < blocks; b++) {
        for (int t = 0; t < tiles; t++)
            put_bf16_sums(args, sums[2 * b + t], row + b * UNIT_ROWS, tile + t);
    }
}

QR_INLINE void multiply_bf16_rows(const struct qr_packed_args *args, int blocks, int32_t row,
                                  int32_t first, int32_t last)
{
    int32_t tile = first;

    for (; tile + 2 <= last; tile += 2)
        multiply_bf16_unit(args, blocks, 2, row, tile, next_tile(args, first, last, tile, 2));
    for (; tile < last; tile++)
        multiply_bf16_unit(args, blocks, 1, row, tile, next_tile(args, first, last, tile, 1));
}

static void matmul_bf16(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    int32_t row = 0;

    qr_amx_configure(args->n_rows < UNIT_ROWS ? args->n_rows : UNIT_ROWS,
                     STEP * (int)sizeof(uint16_t));
    for (; row + UNIT_ROWS < args->n_rows; row += 2 * UNIT_ROWS)
        multiply_bf16_rows(args, 2, row, first, last);
    if (row < args->n_rows)
        multiply_bf16_rows(args, 1, row, first, last);
    qr_amx_release();
}

#else

enum {
    BF16_CHUNK_STEPS = QR_PACK_CHUNK / STEP,
    BF16_ROWS = QR_PACK_ROW_BLOCK / 2,       /* whose sums are in registers */
    BF16_ROW_BLOCK = 128,                    /* whose sums stay in the first cache */
    BF16_STEPS_AHEAD = 2 * BF16_CHUNK_STEPS, /* that weights are fetched before they are used */
};

/* A chunk of `tiles` tiles, and what is fetched while it is used. */
struct bf16_chunk {
    const uint16_t *w[QR_TILES];     /* [n_steps][16][16 results][2] */
    const uint16_t *ahead[QR_TILES]; /* the same, of what is used some time later */
    int32_t n_steps;
};

/* Adds a chunk for rows x tiles; x [n_steps][16 rows][32]. Fetches of tiles
 * [first_ahead, end_ahead). */
QR_INLINE void add_bf16_chunk(int rows, int tiles, const uint16_t *x, const struct bf16_chunk *from,
                              int first_ahead, int end_ahead, bool is_first,
                              float sums[][QR_TILES * QR_LANES])
{
    qr_f32x16 chunk[BF16_ROWS][QR_TILES];

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++)
            chunk[r][t] = qr_f32x16_zero();
    }
    for (int32_t pair = 0; pair < from->n_steps * STEP / 2; pair++) {
        const uint16_t *x_pair = x + pair / (STEP / 2) * BF16_STEP + pair % (STEP / 2) * 2;
        for (int t = first_ahead; t < end_ahead; t++)
            __builtin_prefetch(from->ahead[t] + pair * 2 * QR_LANES, 0, 2);
        for (int t = 0; t < tiles; t++) {
            qr_bf16_pairs w_pair = qr_bf16_pairs_load(from->w[t] + pair * 2 * QR_LANES);
            for (int r = 0; r < rows; r++)
                chunk[r][t] = qr_f32x16_add_bf16_pairs(chunk[r][t], w_pair, x_pair + r * STEP);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++) {
            float *to = &sums[r][t * QR_LANES];
            qr_f32x16_store(to, is_first ? chunk[r][t]
                                         : qr_f32x16_add(qr_f32x16_load(to), chunk[r][t]));
        }
    }
}

/* The same for n_rows rows, from the first of a block. Where there are several groups of rows the
 * first two fetch a tile each, so that neither waits for both. */
QR_INLINE void add_bf16_rows(int tiles, int32_t n_rows, const uint16_t *x, size_t block_stride,
                             const struct bf16_chunk *from, bool is_first,
                             float sums[][QR_TILES * QR_LANES])
{
    int fetched = 0;

    for (int32_t row = 0; row < n_rows;) {
        const uint16_t *x_row =
            x + (size_t)(row / QR_PACK_ROW_BLOCK) * block_stride + row % QR_PACK_ROW_BLOCK * STEP;
        int32_t left = n_rows - row;
        int32_t taken = 1;
        int end = left > BF16_ROWS && fetched < tiles ? fetched + 1 : tiles;
        bool is_whole = left >= BF16_ROWS && row % BF16_ROWS == 0;
        if (is_whole && fetched == tiles) /* most; without a loop that ends at once */
            add_bf16_chunk(taken = BF16_ROWS, tiles, x_row, from, 0, 0, is_first, sums + row);
        else if (is_whole)
            add_bf16_chunk(taken = BF16_ROWS, tiles, x_row, from, fetched, end, is_first,
                           sums + row);
        else if (left >= 4)
            add_bf16_chunk(taken = 4, tiles, x_row, from, fetched, end, is_first, sums + row);
        else if (left >= 2)
            add_bf16_chunk(taken = 2, tiles, x_row, from, fetched, end, is_first, sums + row);
        else
            add_bf16_chunk(1, tiles, x_row, from, fetched, end, is_first, sums + row);
        fetched = end;
        row += taken;
    }
}

/* Rows [row, row + n_rows), at most BF16_ROW_BLOCK, of one or QR_TILES tiles. next: the tile that
 * comes after these. */
QR_INLINE void multiply_bf16(const struct qr_packed_args *args, int tiles, int32_t row,
                             int32_t n_rows, int32_t tile, int32_t next)
{
    alignas(64) float sums[BF16_ROW_BLOCK][QR_TILES * QR_LANES];
    const int32_t n_steps = (args->n_in + STEP - 1) / STEP;
    const size_t stride = bf16_stride(args);
    const uint16_t *x = args->rounded.halves + (size_t)(row / QR_PACK_ROW_BLOCK) * stride;

    for (int32_t step = 0; step < n_steps; step += BF16_CHUNK_STEPS) {
        int32_t left = n_steps - step;
        int32_t later = step + BF16_STEPS_AHEAD;
        struct bf16_chunk chunk = {.n_steps = left < BF16_CHUNK_STEPS ? left : BF16_CHUNK_STEPS};
        for (int t = 0; t < tiles; t++) {
            chunk.w[t] = bf16_tile(args, tile + t) + (size_t)step * BF16_STEP;
            chunk.ahead[t] = bf16_tile(args, (later < n_steps ? tile : next) + t) +
                             (size_t)(later % n_steps) * BF16_STEP;
        }
        add_bf16_rows(tiles, n_rows, x + (size_t)step * BF16_STEP, stride, &chunk, step == 0, sums);
    }
    for (int32_t r = 0; r < n_rows; r++) {
        float *out = args->out + (size_t)(row + r) * (size_t)args->n_out + (size_t)tile * QR_LANES;
        for (int t = 0; t < tiles; t++)
            qr_f32x16_store_partial(out + t * QR_LANES, qr_f32x16_load(&sums[r][t * QR_LANES]),
                                    lanes_of(args, tile + t));
    }
}

static void matmul_bf16(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    for (int32_t row = 0; row < args->n_rows; row += BF16_ROW_BLOCK) {
        int32_t left = args->n_rows - row;
        int32_t n_rows = left < BF16_ROW_BLOCK ? left : BF16_ROW_BLOCK;
        int32_t tile = first;
        for (; tile + QR_TILES <= last; tile += QR_TILES)
            multiply_bf16(args, QR_TILES, row, n_rows, tile,
                          next_tile(args, first, last, tile, QR_TILES));
        for (; tile < last; tile++)
            multiply_bf16(args, 1, row, n_rows, tile, next_tile(args, first, last, tile, 1));
    }
}

#endif
