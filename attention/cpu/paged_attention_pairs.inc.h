/*
 * paged_attention_pairs.inc.h - tiles of BF16 keys and values, multiplied as pairs of BF16;
 * included by paged_attention.inc.h where the instruction set has such products.
 *
 * Queries and weights are rounded to BF16 for it. A tile is laid out anew, once for all queries of
 * the block: of K the same pair of elements of 16 keys side by side, of V the same element of two
 * keys, so that a vector has what 16 sums want next and none has to be added up across. The order:
 *   score  = pairs of d ascending, of each pair the second product first;
 *   output = rescaled once a tile, then pairs of keys ascending, the second key's product first.
 * Keys that a query does not see weigh 0 there.
 */

static const uint16_t no_row[QR_ATTENTION_MAX_HEAD_DIM]; /* of keys that the tile does not have */

static void round_queries(struct scratch *s)
{
    for (int32_t i = 0; i < s->n_queries * s->stride; i += QR_LANES)
        qr_f32x16_store_bf16_flushed(s->pairs.q + i, qr_f32x16_load(s->q + i));
}

/* Keys of this tile that some query sees. */
struct paired_keys {
    int32_t first;
    int32_t end;
};

QR_INLINE struct paired_keys paired_keys_of(const struct scratch *s)
{
    return (struct paired_keys){s->first[0], s->visible[s->n_queries - 1]};
}

/*
 * n rows from `key` on of K, or with value_offset of V; the same rows of the tile that comes next,
 * at next_offset, are fetched meanwhile.
 */
QR_INLINE void find_paired_rows(const struct scratch *s, struct paired_keys keys, int32_t key,
                                int n, size_t offset, size_t next_offset, const uint16_t **rows)
{
    for (int i = 0; i < n; i++) {
        bool is_there = key + i >= keys.first && key + i < keys.end;
        rows[i] = is_there ? (const uint16_t *)(const void *)(s->key[key + i] + offset) : no_row;
        if (is_there)
            fetch_next(s, key + i, next_offset);
    }
}

QR_INLINE int paired_length(int32_t head_dim, int32_t d)
{
    return head_dim - d < PAIRED ? head_dim - d : PAIRED;
}

static void lay_out_keys(struct scratch *s)
{
    const struct paired_keys keys = paired_keys_of(s);
    const int32_t head_dim = s->head_dim;

    for (int32_t key = keys.first / QR_LANES * QR_LANES; key < keys.end; key += QR_LANES) {
        const uint16_t *rows[QR_LANES];
        find_paired_rows(s, keys, key, QR_LANES, 0, 0, rows);
        for (int32_t d = 0; d < head_dim; d += PAIRED) {
            qr_bf16_pairs columns[QR_LANES];
            qr_bf16_transpose_pairs(rows, d, paired_length(head_dim, d), columns);
            for (int i = 0; i < QR_LANES; i++)
                qr_bf16_pairs_store(s->pairs.keys + (size_t)(d + 2 * i) * TILE + 2 * key,
                                    columns[i]);
        }
    }
}

static void lay_out_values(struct scratch *s)
{
    const struct paired_keys keys = paired_keys_of(s);
    const int32_t head_dim = s->head_dim;

    for (int32_t key = keys.first / 2 * 2; key < keys.end; key += 2) {
        const uint16_t *rows[2];
        uint16_t *to = s->pairs.values + (size_t)key * (size_t)s->paired_stride;
        find_paired_rows(s, keys, key, 2, s->value_offset, s->next_value_offset, rows);
        for (int32_t d = 0; d < head_dim; d += PAIRED) {
            qr_bf16_pairs values[2];
            qr_bf16_interleave(rows[0] + d, rows[1] + d, paired_length(head_dim, d), values);
            qr_bf16_pairs_store(to + 2 * d, values[0]);
            qr_bf16_pairs_store(to + 2 * d + PAIRED, values[1]);
        }
    }
}

/* Scores of n queries with n_pieces * 16 keys from `key` on; both are constants at every call. */
QR_INLINE void score_pairs(struct scratch *s, int n, int n_pieces, int32_t query, int32_t key)
{
    const uint16_t *q = s->pairs.q + (size_t)query * (size_t)s->stride; /* [n][stride] */
    const uint16_t *k = s->pairs.keys + (size_t)key * 2;                /* [][TILE][2] */
    qr_f32x16 dot[SIDE_BY_SIDE * SIDE_BY_SIDE];                         /* [n][n_pieces] */

    for (int i = 0; i < n * n_pieces; i++)
        dot[i] = qr_f32x16_zero();
    for (int32_t d = 0; d < s->head_dim; d += 2) {
        qr_bf16_pairs lanes[SIDE_BY_SIDE];
        for (int c = 0; c < n_pieces; c++)
            lanes[c] = qr_bf16_pairs_load(k + (size_t)d * TILE + c * PAIRED);
        for (int i = 0; i < n; i++) {
            for (int c = 0; c < n_pieces; c++)
                dot[i * n_pieces + c] = qr_f32x16_add_bf16_pairs(dot[i * n_pieces + c], lanes[c],
                                                                 q + i * s->stride + d);
        }
    }
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < n_pieces; c++)
            qr_f32x16_store(&s->p[query + i][key + c * QR_LANES], dot[i * n_pieces + c]);
    }
}

QR_INLINE void score_paired_span(struct scratch *s, int n, int32_t query)
{
    int32_t end = s->visible[query + n - 1];
    int32_t key = s->first[query] / QR_LANES * QR_LANES;

    for (; key + (SIDE_BY_SIDE - 1) * QR_LANES < end; key += SIDE_BY_SIDE * QR_LANES)
        score_pairs(s, n, SIDE_BY_SIDE, query, key);
    for (; key < end; key += QR_LANES)
        score_pairs(s, n, 1, query, key);
}

static void round_weights(struct scratch *s)
{
    for (int32_t i = 0; i < s->n_queries; i++) {
        bool sees_any = s->first[i] < s->visible[i];
        for (int j = 0; j < TILE; j += QR_LANES)
            qr_f32x16_store_bf16_flushed(&s->pairs.p[i][j],
                                         sees_any ? qr_f32x16_load(&s->p[i][j]) : qr_f32x16_zero());
    }
}

/* n queries times n_pieces pieces of V from d on, both constants at every call. */
QR_INLINE void add_paired_values(struct scratch *s, int n, int n_pieces, int32_t query, int32_t d)
{
    const uint16_t *p = s->pairs.p[query]; /* [n][TILE] */
    const int32_t end = s->visible[query + n - 1];
    qr_f32x16 part[SIDE_BY_SIDE * SIDE_BY_SIDE]; /* [n][n_pieces] */

    load_sums(s, n, n_pieces, query, d, part);
    for (int32_t j = s->first[query] / 2 * 2; j < end; j += 2) {
        const uint16_t *v = s->pairs.values + (size_t)j * (size_t)s->paired_stride + 2 * d;
        qr_bf16_pairs lanes[SIDE_BY_SIDE];
        for (int c = 0; c < n_pieces; c++)
            lanes[c] = qr_bf16_pairs_load(v + c * PAIRED);
        for (int i = 0; i < n; i++) {
            for (int c = 0; c < n_pieces; c++)
                part[i * n_pieces + c] =
                    qr_f32x16_add_bf16_pairs(part[i * n_pieces + c], lanes[c], p + i * TILE + j);
        }
    }
    store_sums(s, n, n_pieces, query, d, part);
}

QR_INLINE void add_paired_rows(struct scratch *s, int n, int32_t query)
{
    enum { WIDE = SIDE_BY_SIDE * QR_LANES };
    int32_t d = 0;

    for (; d + WIDE <= s->stride; d += WIDE)
        add_paired_values(s, n, SIDE_BY_SIDE, query, d);
    for (; d < s->stride; d += QR_LANES)
        add_paired_values(s, n, 1, query, d);
}

static __attribute__((noinline)) void attend_tile_bf16(struct scratch *s)
{
    int32_t query = 0;

    s->n_fetching = s->visible[s->n_queries - 1] - s->first[0];
    lay_out_keys(s);
    for (; query + SIDE_BY_SIDE <= s->n_queries; query += SIDE_BY_SIDE)
        score_paired_span(s, SIDE_BY_SIDE, query);
    for (; query < s->n_queries; query++)
        score_paired_span(s, 1, query);
    soften_scores(s);
    round_weights(s);
    lay_out_values(s);
    for (query = 0; query + SIDE_BY_SIDE <= s->n_queries; query += SIDE_BY_SIDE)
        add_paired_rows(s, SIDE_BY_SIDE, query);
    for (; query < s->n_queries; query++)
        add_paired_rows(s, 1, query);
}
