/*
 * packed_floats.inc.h - products with packed matrices of F32, F16 and BF16; included by
 * packed_kernels.inc.h, whose head says what the including file defines: for this one
 * QR_FLOAT_ROWS and QR_FLOAT_TILES.
 *
 * With few rows weights are widened as they are used. With many, blocks of x and of weights are
 * copied as F32 to memory that stays in the first cache, and so do the sums: rows of activations
 * and of results are often a power of two apart, where they drive each other out of it. Both add
 * the same terms in the same order.
 */
enum {
    CHUNK = QR_PACK_CHUNK,
    /* Two groups of 8 rows widen weights twice in less time than they store and load them. */
    FLOAT_FEW_ROWS = QR_FLOAT_ROWS == 8 ? 2 * QR_FLOAT_ROWS : QR_FLOAT_ROWS,
    FLOAT_ROW_BLOCK = 32 / QR_FLOAT_ROWS * QR_FLOAT_ROWS,
    FLOAT_TILE_BLOCK = 8, /* a multiple of QR_FLOAT_TILES */
    CHUNKS_AHEAD = 2,     /* that weights are fetched before they are used */
};

/* Rows of activations or of sums, from one on. */
struct float_rows {
    const float *x; /* [rows][columns] from the first column that is meant */
    size_t stride;  /* from row to row */
};

struct float_sums {
    float *sums; /* [rows][tiles * QR_LANES] */
    size_t stride;
    int last_lanes; /* of the last tile, that may be written */
};

/* Bytes of one column of a tile. */
QR_INLINE size_t float_column_bytes(enum qr_dtype dtype)
{
    return QR_LANES * (dtype == QR_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* Column k of a tile, k even or odd as told. */
QR_INLINE qr_f32x16 float_column(enum qr_dtype dtype, const uint8_t *tile, int32_t k, bool is_odd)
{
    const void *column = tile + (size_t)k * float_column_bytes(dtype);
    const void *pair = tile + (size_t)(k - is_odd) * float_column_bytes(dtype);

    if (dtype == QR_DTYPE_F32)
        return qr_f32x16_load((const float *)column);
    if (dtype == QR_DTYPE_F16)
        return qr_f32x16_load_f16((const uint16_t *)column);
    return is_odd ? qr_f32x16_load_bf16_odd((const uint16_t *)pair)
                  : qr_f32x16_load_bf16_even((const uint16_t *)pair);
}

QR_INLINE void add_column(enum qr_dtype dtype, int rows, int tiles, struct float_rows rows_of_x,
                          const uint8_t *const *columns, int32_t k, bool is_odd,
                          qr_f32x16 sums[QR_FLOAT_ROWS][QR_FLOAT_TILES])
{
    qr_f32x16 weights[QR_FLOAT_TILES];

    for (int t = 0; t < tiles; t++)
        weights[t] = float_column(dtype, columns[t], k, is_odd);
    for (int r = 0; r < rows; r++) {
        qr_f32x16 x = qr_f32x16_set1(rows_of_x.x[(size_t)r * rows_of_x.stride + (size_t)k]);
        for (int t = 0; t < tiles; t++)
            qr_f32x16_add_product(&sums[r][t], x, weights[t]);
    }
}

/* Fetches the cache line of ahead[t], which is laid out as a chunk, with columns k and k + 1. */
QR_INLINE void fetch_columns(enum qr_dtype dtype, int tiles, const uint8_t *const *ahead, int32_t k)
{
    for (int t = 0; t < tiles && ahead != NULL; t++) {
        const uint8_t *line = ahead[t] + (size_t)k * float_column_bytes(dtype);
        __builtin_prefetch(line, 0, 2);
        if (dtype == QR_DTYPE_F32)
            __builtin_prefetch(line + CACHE_LINE, 0, 2);
    }
}

/*
 * Adds a chunk of n columns to rows x tiles results. columns[t]: the chunk of a tile, of dtype;
 * ahead[t]: what is read some time later, or ahead is NULL.
 */
QR_INLINE void add_chunk(enum qr_dtype dtype, int rows, int tiles, struct float_rows rows_of_x,
                         const uint8_t *const *columns, const uint8_t *const *ahead, int32_t n,
                         bool is_first, struct float_sums to)
{
    qr_f32x16 sums[QR_FLOAT_ROWS][QR_FLOAT_TILES];
    int32_t k = 0;

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++)
            sums[r][t] = qr_f32x16_zero();
    }
    for (; k + 2 <= n; k += 2) {
        fetch_columns(dtype, tiles, ahead, k);
        add_column(dtype, rows, tiles, rows_of_x, columns, k, false, sums);
        add_column(dtype, rows, tiles, rows_of_x, columns, k + 1, true, sums);
    }
    if (k < n)
        add_column(dtype, rows, tiles, rows_of_x, columns, k, false, sums);
#pragma GCC unroll 8 /* or they wait in memory to be indexed, and are stored after each column */
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++) {
            float *at = to.sums + (size_t)r * to.stride + t * QR_LANES;
            int lanes = t + 1 == tiles ? to.last_lanes : QR_LANES;
            if (!is_first)
                sums[r][t] = qr_f32x16_add(qr_f32x16_load_partial(at, lanes), sums[r][t]);
            qr_f32x16_store_partial(at, sums[r][t], lanes);
        }
    }
}

QR_INLINE struct float_rows rows_from(struct float_rows rows, int32_t row)
{
    rows.x += (size_t)row * rows.stride;
    return rows;
}

QR_INLINE struct float_sums sums_from(struct float_sums sums, int32_t row)
{
    sums.sums += (size_t)row * sums.stride;
    return sums;
}

/* The same for n_rows rows. */
QR_INLINE void add_chunk_to_rows(enum qr_dtype dtype, int tiles, int32_t n_rows,
                                 struct float_rows rows_of_x, const uint8_t *const *columns,
                                 const uint8_t *const *ahead, int32_t n, bool is_first,
                                 struct float_sums to)
{
    int32_t r = 0;

    for (; r + QR_FLOAT_ROWS <= n_rows; r += QR_FLOAT_ROWS, ahead = NULL)
        add_chunk(dtype, QR_FLOAT_ROWS, tiles, rows_from(rows_of_x, r), columns, ahead, n, is_first,
                  sums_from(to, r));
    for (; r + 4 <= n_rows && QR_FLOAT_ROWS > 4; r += 4, ahead = NULL)
        add_chunk(dtype, 4, tiles, rows_from(rows_of_x, r), columns, ahead, n, is_first,
                  sums_from(to, r));
    for (; r + 2 <= n_rows && QR_FLOAT_ROWS > 2; r += 2, ahead = NULL)
        add_chunk(dtype, 2, tiles, rows_from(rows_of_x, r), columns, ahead, n, is_first,
                  sums_from(to, r));
    for (; r < n_rows; r++, ahead = NULL)
        add_chunk(dtype, 1, tiles, rows_from(rows_of_x, r), columns, ahead, n, is_first,
                  sums_from(to, r));
}

QR_INLINE int32_t chunk_length(const struct qr_packed_args *args, int32_t k)
{
    return args->n_in - k < CHUNK ? args->n_in - k : CHUNK;
}

/* Column k of a tile. */
QR_INLINE const uint8_t *float_tile(const struct qr_packed_args *args, enum qr_dtype dtype,
                                    size_t tile_bytes, int32_t tile, int32_t k)
{
    return args->tiles + (size_t)(tile - args->first_tile) * tile_bytes +
           (size_t)k * float_column_bytes(dtype);
}

/* next: the tile that comes after these. */
QR_INLINE void multiply_few_floats(const struct qr_packed_args *args, enum qr_dtype dtype,
                                   size_t tile_bytes, int tiles, int32_t tile, int32_t next)
{
    const struct float_sums to = {args->out + (size_t)tile * QR_LANES, (size_t)args->n_out,
                                  lanes_of(args, tile + tiles - 1)};

    for (int32_t k = 0; k < args->n_in; k += CHUNK) {
        const struct float_rows rows = {args->x + k, (size_t)args->n_in};
        const uint8_t *columns[QR_FLOAT_TILES];
        const uint8_t *ahead[QR_FLOAT_TILES];
        int32_t later = k + CHUNKS_AHEAD * CHUNK;
        for (int t = 0; t < tiles; t++) {
            columns[t] = float_tile(args, dtype, tile_bytes, tile + t, k);
            ahead[t] = later < args->n_in
                           ? float_tile(args, dtype, tile_bytes, tile + t, later)
                           : float_tile(args, dtype, tile_bytes, next + t, later % args->n_in);
        }
        add_chunk_to_rows(dtype, tiles, args->n_rows, rows, columns, ahead, chunk_length(args, k),
                          k == 0, to);
    }
}

/* A chunk of `tiles` tiles with a block of rows x [n_rows][CHUNK], into `to`. next: the chunk that
 * is multiplied after these. */
QR_INLINE void multiply_float_block(const struct qr_packed_args *args, enum qr_dtype dtype,
                                    size_t tile_bytes, int tiles, int32_t n_rows, int32_t tile,
                                    int32_t k, const uint8_t *next, const float *x,
                                    struct float_sums to)
{
    alignas(CACHE_LINE) float wide[QR_FLOAT_TILES][CHUNK * QR_LANES];
    const uint8_t *columns[QR_FLOAT_TILES];
    int32_t n = chunk_length(args, k);

    for (int t = 0; t < tiles; t++, next += tile_bytes) {
        const uint8_t *packed = float_tile(args, dtype, tile_bytes, tile + t, k);
        columns[t] = dtype == QR_DTYPE_F32 ? packed : (const uint8_t *)wide[t];
        for (int32_t i = 0; i < n && dtype != QR_DTYPE_F32; i += 2) {
            fetch_columns(dtype, 1, &next, i);
            qr_f32x16_store(&wide[t][i * QR_LANES], float_column(dtype, packed, i, false));
            qr_f32x16_store(&wide[t][(i + 1) * QR_LANES], float_column(dtype, packed, i + 1, true));
        }
    }
    add_chunk_to_rows(QR_DTYPE_F32, tiles, n_rows, (struct float_rows){x, CHUNK}, columns, NULL, n,
                      k == 0, to);
}

/* For the few hundred bytes of a row: compilers make string instructions of memcpy, which take long
 * to begin. */
QR_INLINE void copy_floats(float *to, const float *from, int32_t n)
{
    int32_t i = 0;

    for (; i + QR_LANES <= n; i += QR_LANES)
        qr_f32x16_store(to + i, qr_f32x16_load(from + i));
    if (i < n)
        qr_f32x16_store_partial(to + i, qr_f32x16_load_partial(from + i, n - i), n - i);
}

/* Copies columns [k, k + n) of a block of rows to x [n_rows][CHUNK], and fetches those behind. */
QR_INLINE void copy_rows(const struct qr_packed_args *args, int32_t row, int32_t n_rows, int32_t k,
                         float *x)
{
    int32_t n = chunk_length(args, k);
    int32_t n_next = k + CHUNK < args->n_in ? chunk_length(args, k + CHUNK) : 0;

    for (int32_t r = 0; r < n_rows; r++) {
        const float *from = args->x + (size_t)(row + r) * (size_t)args->n_in + (size_t)k;
        for (int32_t i = 0; i < n_next; i += CACHE_LINE / (int)sizeof(float))
            __builtin_prefetch(from + CHUNK + i, 0, 2);
        copy_floats(x + r * CHUNK, from, n);
    }
}

/* Tiles [first, last), at most FLOAT_TILE_BLOCK, of rows [row, row + n_rows). */
QR_INLINE void multiply_many_floats(const struct qr_packed_args *args, enum qr_dtype dtype,
                                    size_t tile_bytes, int32_t row, int32_t n_rows, int32_t first,
                                    int32_t last)
{
    enum { WIDTH = FLOAT_TILE_BLOCK * QR_LANES };
    alignas(CACHE_LINE) float x[FLOAT_ROW_BLOCK * CHUNK];
    alignas(CACHE_LINE) float sums[FLOAT_ROW_BLOCK * WIDTH];
    int32_t n_last = lanes_of(args, last - 1);

    for (int32_t k = 0; k < args->n_in; k += CHUNK) {
        int32_t tile = first;
        copy_rows(args, row, n_rows, k, x);
        while (tile < last) {
            int tiles = tile + QR_FLOAT_TILES <= last ? QR_FLOAT_TILES : 1;
            int32_t next = tile + tiles;
            const uint8_t *ahead =
                next < last ? float_tile(args, dtype, tile_bytes, next, k)
                            : float_tile(args, dtype, tile_bytes, first, (k + CHUNK) % args->n_in);
            struct float_sums to = {sums + (tile - first) * QR_LANES, WIDTH, QR_LANES};
            if (tiles == QR_FLOAT_TILES)
                multiply_float_block(args, dtype, tile_bytes, QR_FLOAT_TILES, n_rows, tile, k,
                                     ahead, x, to);
            else
                multiply_float_block(args, dtype, tile_bytes, 1, n_rows, tile, k, ahead, x, to);
            tile = next;
        }
    }
    for (int32_t r = 0; r < n_rows; r++)
        copy_floats(args->out + (size_t)(row + r) * (size_t)args->n_out + (size_t)first * QR_LANES,
                    sums + r * WIDTH, (last - first - 1) * QR_LANES + n_last);
}

QR_INLINE void multiply_floats(const struct qr_packed_args *args, enum qr_dtype dtype,
                               int32_t first, int32_t last)
{
    const size_t tile_bytes = qr_packed_layout_of(dtype, args->n_in).tile_bytes;
    int32_t tile = first;

    for (; tile < last && args->n_rows > FLOAT_FEW_ROWS; tile += FLOAT_TILE_BLOCK) {
        int32_t end = tile + FLOAT_TILE_BLOCK < last ? tile + FLOAT_TILE_BLOCK : last;
        for (int32_t row = 0; row < args->n_rows; row += FLOAT_ROW_BLOCK) {
            int32_t left = args->n_rows - row;
            multiply_many_floats(args, dtype, tile_bytes, row,
                                 left < FLOAT_ROW_BLOCK ? left : FLOAT_ROW_BLOCK, tile, end);
        }
    }
    for (; tile + QR_FLOAT_TILES <= last; tile += QR_FLOAT_TILES)
        multiply_few_floats(args, dtype, tile_bytes, QR_FLOAT_TILES, tile,
                            next_tile(args, first, last, tile, QR_FLOAT_TILES));
    for (; tile < last; tile++)
        multiply_few_floats(args, dtype, tile_bytes, 1, tile,
                            next_tile(args, first, last, tile, 1));
}

static void matmul_f32(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_floats(args, QR_DTYPE_F32, first, last);
}

static void matmul_f16(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_floats(args, QR_DTYPE_F16, first, last);
}
