/*
 * packed_amx.inc.h - products of packed blocks with many rows on Intel's matrix unit; included by
 * packed_kernels.inc.h, whose head says what the including file defines.
 *
 * The unit multiplies a part of 16 rows of activations (rounded, as they lie) with a part of a
 * tile, where a part is what shares a scale: 32 elements, or 16. Its sums of integers are exact,
 * and join the F32 sums of their 16 x 16 results as everywhere else. They go through memory, in
 * fours: a store waits for its product, and the products of four parts overlap.
 */
enum {
    UNIT_ROWS = QR_PACK_ROW_BLOCK,
    UNIT_PARTS = 4,        /* at a time */
    UNIT_TILES = 8,        /* that share what is loaded of the activations */
    UNIT_MOST_ROWS = 256,  /* whose sums are kept between pieces */
    UNIT_FEW_ROWS = 11,    /* and less in the last block are faster by the vectors */
    UNIT_AS_PACKED = 32,   /* rows, at most, for which 8-bit tiles are not given their sign */
    UNIT_CLOSE = 6,        /* steps ahead, in which those are fetched on into the first cache */
    UNIT_SHORT_ROW = 1024, /* elements: a block of such rows stays there */
    UNIT_SUMS = UNIT_ROWS * QR_LANES,
};

/* A block of 16 rows of activations, from the first step of a piece on. */
struct unit_rows {
    const int8_t *values;                               /* [steps][16][32] */
    const float *scales;                                /* [steps][16] */
    alignas(64) float minimums[PIECE_STEPS][UNIT_ROWS]; /* Q4_K: what its minimums are times */
    /* Q8_0 as packed: what its products are too much by, negative */
    alignas(64) int32_t excess[PIECE_STEPS][UNIT_ROWS];
};

/*
 * What is fetched into the second cache while a piece is multiplied, as it is wanted after it: the
 * block of rows behind this one, or all of the tile's next piece. So many bytes a step; 0: nothing.
 */
struct unit_ahead {
    const char *values;
    size_t value_bytes;
    const char *scales;
    size_t scale_bytes;
    bool close; /* and into the first one the tile's next steps, which no block of rows had yet */
};

/* A piece of a tile. */
struct unit_weights {
    const uint8_t *quants; /* [steps][8][64]; as packed: Q8_0, raised by 128 */
    const uint8_t *scales; /* as packed: F16 [steps][16] */
    const struct wide_piece *wide;
};

QR_INLINE uint8_t raised_by(enum qr_dtype dtype)
{
    return dtype == QR_DTYPE_Q8_0   ? 128
           : dtype == QR_DTYPE_Q4_0 ? 8
           : dtype == QR_DTYPE_Q6_K ? 32
                                    : 0;
}

/* Of a tile of Q8_0, as packed. */
QR_INLINE struct unit_weights weights_as_packed(const struct source *tile, int32_t first)
{
    return (struct unit_weights){.quants = tile->quants + (size_t)first * GROUPS * GROUP_BYTES,
                                 .scales = tile->scales + (size_t)first * F16_RUN};
}

/* As widen_piece, with the sign that the integers stand for. */
QR_INLINE struct unit_weights widen_with_sign(enum qr_dtype dtype, const struct source *tile,
                                              int32_t first, int32_t n, struct wide_piece *piece)
{
    const struct source wide = widen_piece(dtype, tile, first, n, piece);

    for (int i = 0; i < n * GROUPS && dtype != QR_DTYPE_Q4_K; i++)
        qr_u8x64_store(
            piece->quants + i * GROUP_BYTES,
            qr_u8x64_sub(qr_u8x64_load(wide.quants + i * GROUP_BYTES), raised_by(dtype)));
    return (struct unit_weights){.quants = piece->quants, .wide = piece};
}

/* Adds the products of a part, dots [16 rows][16], to sums [16 rows]. */
QR_INLINE void add_unit_part(enum qr_dtype dtype, bool as_packed, const int32_t *dots,
                             const struct unit_rows *x, const struct unit_weights *w, int32_t step,
                             int half, qr_f32x16 *sums)
{
    qr_f32x16 scale = as_packed ? packed_scale(dtype, w->scales, step, half)
                                : qr_f32x16_load(w->wide->scales[step][half]);
    qr_f32x16 minimum = dtype == QR_DTYPE_Q4_K ? qr_f32x16_load(w->wide->minimums[step]) : scale;

#pragma GCC unroll 16
    for (int r = 0; r < UNIT_ROWS; r++) {
        qr_f32x16 x_scale = qr_f32x16_set1(x->scales[step * UNIT_ROWS + r]);
        qr_i32x16 dot = qr_i32x16_load(dots + r * QR_LANES);
        if (as_packed)
            dot = qr_i32x16_add(dot, qr_i32x16_set1(x->excess[step][r]));
        sums[r] = qr_f32x16_fma(qr_f32x16_from_i32(dot), qr_f32x16_mul(scale, x_scale), sums[r]);
        if (dtype == QR_DTYPE_Q4_K)
            sums[r] = qr_f32x16_fma(minimum, qr_f32x16_set1(x->minimums[step][r]), sums[r]);
    }
}

/* Part `part` of the rows times that of the tile, in the unit's tile `sums`. */
#define MULTIPLY_PART(sums, left, right, part)                                                 \
    do {                                                                                       \
        const int8_t *x_part =                                                                 \
            x->values + (part) / halves * (STEP * UNIT_ROWS) + (part) % halves * (STEP / 2);   \
        qr_amx_zero(sums);                                                                     \
        qr_amx_load(left, x_part, STEP);                                                       \
        qr_amx_load(right, w->quants + (part) * (GROUPS / halves * GROUP_BYTES), GROUP_BYTES); \
        if (as_packed)                                                                         \
            qr_amx_add_unsigned(sums, left, right);                                            \
        else                                                                                   \
            qr_amx_add_bytes(sums, left, right);                                               \
    } while (0)
#define STORE_PART(sums) qr_amx_store(sums, dots[sums], QR_LANES * sizeof(int32_t))

QR_INLINE void fetch_step_ahead(const struct unit_ahead *ahead, bool as_packed,
                                const struct unit_weights *w, int step)
{
    if (ahead->value_bytes > 0) {
        const char *values = ahead->values + (size_t)step * ahead->value_bytes;
        for (size_t line = 0; line < ahead->value_bytes; line += CACHE_LINE)
            __builtin_prefetch(values + line, 0, 2);
        __builtin_prefetch(ahead->scales + (size_t)step * ahead->scale_bytes, 0, 2);
    }
    if (!as_packed || !ahead->close)
        return;
    for (int i = 0; i < GROUPS; i++)
        __builtin_prefetch(w->quants + ((step + UNIT_CLOSE) * GROUPS + i) * GROUP_BYTES, 0, 3);
}

/* All n steps of a piece. */
QR_INLINE void add_unit_piece(enum qr_dtype dtype, bool as_packed, const struct unit_rows *x,
                              const struct unit_weights *w, const struct unit_ahead *ahead,
                              int32_t n, qr_f32x16 *sums)
{
    const int halves = halves_of(dtype);
    alignas(64) int32_t dots[UNIT_PARTS][UNIT_SUMS];
    int part = 0;

    for (; part + UNIT_PARTS <= n * halves; part += UNIT_PARTS) {
        MULTIPLY_PART(0, 4, 6, part);
        MULTIPLY_PART(1, 5, 7, part + 1);
        MULTIPLY_PART(2, 4, 6, part + 2);
        MULTIPLY_PART(3, 5, 7, part + 3);
        STORE_PART(0);
        STORE_PART(1);
        STORE_PART(2);
        STORE_PART(3);
#pragma GCC unroll 4
        for (int i = 0; i < UNIT_PARTS; i++) {
            if (i % halves == 0)
                fetch_step_ahead(ahead, as_packed, w, (part + i) / halves);
            add_unit_part(dtype, as_packed, dots[i], x, w, (part + i) / halves, (part + i) % halves,
                          sums);
        }
    }
    for (; part < n * halves; part++) {
        MULTIPLY_PART(0, 4, 6, part);
        STORE_PART(0);
        add_unit_part(dtype, as_packed, dots[0], x, w, part / halves, part % halves, sums);
    }
}

/* A block of rows, at steps [first, first + n) of a tile. */
QR_INLINE void take_unit_rows(const struct qr_packed_args *args, enum qr_dtype dtype,
                              bool as_packed, int32_t row, int32_t first, int32_t n,
                              struct unit_rows *x)
{
    size_t at = qr_packed_step(args->n_in, row, first);
    const int32_t *x_sums = args->rounded.sums + qr_packed_sum(args->n_in, row, first);

    x->values = args->rounded.values + at * STEP;
    x->scales = args->rounded.scales + at;
    for (int32_t step = 0; step < n && dtype == QR_DTYPE_Q4_K; step++) {
        qr_f32x16 sums = qr_f32x16_from_i32(qr_i32x16_load(x_sums + step * 2 * UNIT_ROWS));
        qr_f32x16_store(x->minimums[step],
                        qr_f32x16_mul(qr_f32x16_load(x->scales + step * UNIT_ROWS), sums));
    }
    /* Without a sign, as the sums of rows that the last block lacks may be anything. */
    for (int32_t step = 0; step < n && as_packed; step++) {
        for (int r = 0; r < UNIT_ROWS; r++)
            x->excess[step][r] =
                (int32_t)((uint32_t)x_sums[step * 2 * UNIT_ROWS + r] * raised_by(dtype));
    }
}

/* Where the results of a block of rows and one tile belong. */
struct unit_out {
    float *to; /* [n_rows][lanes] */
    size_t n_out;
    int32_t n_rows;
    int lanes;
};

QR_INLINE void store_unit_sums(const qr_f32x16 *sums, const struct unit_out *out)
{
    if (out->n_rows >= UNIT_ROWS && out->lanes == QR_LANES) {
#pragma GCC unroll 16
        for (int r = 0; r < UNIT_ROWS; r++)
            qr_f32x16_store(out->to + (size_t)r * out->n_out, sums[r]);
        return;
    }
#pragma GCC unroll 16
    for (int r = 0; r < UNIT_ROWS; r++) {
        if (r < out->n_rows)
            qr_f32x16_store_partial(out->to + (size_t)r * out->n_out, sums[r], out->lanes);
    }
}

/* A piece of n steps for a block of rows, x, and one tile. Between pieces the sums stand side by
 * side in kept [16][16]: rows of results are further apart than pages are long. */
QR_INLINE void multiply_unit_block(enum qr_dtype dtype, bool as_packed, const struct unit_rows *x,
                                   const struct unit_weights *w, const struct unit_ahead *ahead,
                                   int32_t n, float *kept, bool is_first, bool is_last,
                                   const struct unit_out *out)
{
    qr_f32x16 sums[UNIT_ROWS];

#pragma GCC unroll 16
    for (int r = 0; r < UNIT_ROWS; r++)
        sums[r] = is_first ? qr_f32x16_zero() : qr_f32x16_load(kept + r * QR_LANES);
    add_unit_piece(dtype, as_packed, x, w, ahead, n, sums);
    if (is_last) {
        store_unit_sums(sums, out);
        return;
    }
#pragma GCC unroll 16
    for (int r = 0; r < UNIT_ROWS; r++)
        qr_f32x16_store(kept + r * QR_LANES, sums[r]);
}

/* Of how many rows, from the first on, the unit multiplies. */
QR_INLINE int32_t many_rows_of(int32_t n_rows)
{
    int32_t rest = n_rows % UNIT_ROWS;
    return rest <= UNIT_FEW_ROWS ? n_rows - rest : n_rows;
}

/* Rows [first_row, end_row) of up to UNIT_TILES tiles, piece by piece. */
struct unit_range {
    int32_t first_row;
    int32_t end_row; /* at most UNIT_MOST_ROWS further */
    int32_t tile;
    int tiles;
    int32_t next; /* the tile that the thread goes on with */
};

/* Steps of a tile that are gone through at one time. */
struct unit_piece {
    int32_t first;
    int32_t n;
    int32_t later; /* the first of the next piece; 0: it is another tile's */
};

/* What a block of rows, x, fetches ahead: the first tile's the next block; all of the last one's
 * the tile's next piece, or the first of the tiles that come. */
QR_INLINE struct unit_ahead unit_ahead_of(const struct qr_packed_args *args,
                                          const struct qr_packed_layout *layout,
                                          const struct unit_range *range, int t,
                                          const struct unit_piece *piece, bool is_last_block,
                                          const struct unit_rows *x)
{
    struct unit_ahead ahead = {0};

    if (is_last_block) {
        int32_t tile = piece->later > 0 ? range->tile : range->next;
        int32_t left = args->n_in / STEP - piece->later;
        size_t n_next = (size_t)(left < PIECE_STEPS ? left : PIECE_STEPS);
        size_t scale_bytes = layout->scale_bytes * STEP / (size_t)layout->scale_columns;
        const struct source next = packed_source(args, layout, tile + t);
        ahead.value_bytes = layout->step_bytes * n_next / (size_t)piece->n;
        ahead.values = (const char *)next.quants + (size_t)piece->later * layout->step_bytes;
        ahead.scale_bytes = scale_bytes * n_next / (size_t)piece->n;
        ahead.scales = (const char *)next.scales + (size_t)piece->later * scale_bytes;
    } else if (t == 0) {
        ahead.value_bytes = STEP * UNIT_ROWS;
        ahead.values = (const char *)x->values + (size_t)UNIT_ROWS * (size_t)args->n_in;
        ahead.scale_bytes = UNIT_ROWS * sizeof(float);
        ahead.scales = (const char *)x->scales + (size_t)(args->n_in / STEP) * ahead.scale_bytes;
    }
    return ahead;
}

QR_INLINE void multiply_unit_range(const struct qr_packed_args *args, enum qr_dtype dtype,
                                   bool as_packed, const struct qr_packed_layout *layout,
                                   const struct unit_range *range)
{
    const int32_t n_steps = args->n_in / STEP;
    alignas(64) struct wide_piece pieces[UNIT_TILES];
    struct unit_weights weights[UNIT_TILES];
    alignas(64) float kept[UNIT_MOST_ROWS / UNIT_ROWS][UNIT_TILES][UNIT_SUMS];

    for (struct unit_piece piece = {0}; piece.first < n_steps; piece.first += piece.n) {
        int32_t left = n_steps - piece.first;
        piece.n = left < PIECE_STEPS ? left : PIECE_STEPS;
        piece.later = piece.n < left ? piece.first + piece.n : 0;
        for (int t = 0; t < range->tiles; t++) {
            const struct source packed = packed_source(args, layout, range->tile + t);
            weights[t] = as_packed
                             ? weights_as_packed(&packed, piece.first)
                             : widen_with_sign(dtype, &packed, piece.first, piece.n, &pieces[t]);
        }
        for (int32_t row = range->first_row, block = 0; row < range->end_row;
             row += UNIT_ROWS, block++) {
            struct unit_rows x;
            take_unit_rows(args, dtype, as_packed, row, piece.first, piece.n, &x);
            struct unit_out out = {.n_out = (size_t)args->n_out, .n_rows = range->end_row - row};
            for (int t = 0; t < range->tiles; t++) {
                struct unit_ahead ahead =
                    unit_ahead_of(args, layout, range, t, &piece, out.n_rows <= UNIT_ROWS, &x);
                ahead.close = as_packed && block == 0;
                out.to = args->out + (size_t)row * out.n_out + (size_t)(range->tile + t) * QR_LANES;
                out.lanes = lanes_of(args, range->tile + t);
                multiply_unit_block(dtype, as_packed, &x, &weights[t], &ahead, piece.n,
                                    kept[block][t], piece.first == 0, piece.later == 0, &out);
            }
        }
    }
}

QR_INLINE void multiply_many(const struct qr_packed_args *args, enum qr_dtype dtype, int32_t n_rows,
                             int32_t first, int32_t last)
{
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, args->n_in);
    struct unit_range range;

    qr_amx_configure(UNIT_ROWS, STEP / halves_of(dtype));
    bool as_packed = dtype == QR_DTYPE_Q8_0 && n_rows <= UNIT_AS_PACKED;
    int together = UNIT_TILES;
    if (n_rows <= UNIT_AS_PACKED && !(as_packed && args->n_in > UNIT_SHORT_ROW))
        together = 1; /* the rows stay in the first cache, or the tiles made of 4 bits do */
    for (range.tile = first; range.tile < last; range.tile += together) {
        range.tiles = last - range.tile < together ? last - range.tile : together;
        for (int32_t row = 0; row < n_rows; row += UNIT_MOST_ROWS) {
            bool is_end = row + UNIT_MOST_ROWS >= n_rows;
            range.first_row = row;
            range.end_row = is_end ? n_rows : row + UNIT_MOST_ROWS;
            range.next =
                is_end ? next_tile(args, first, last, range.tile, range.tiles) : range.tile;
            if (as_packed)
                multiply_unit_range(args, dtype, true, &layout, &range);
            else
                multiply_unit_range(args, dtype, false, &layout, &range);
        }
    }
    qr_amx_release();
}
