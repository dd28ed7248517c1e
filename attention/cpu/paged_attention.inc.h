/*
 * paged_attention.inc.h - the kernel of one block of queries, written once. The including
 * file has included one of the simd_*.h headers and defines QR_ATTENTION_KERNEL, the name
 * of the functions' table, and QR_ATTENTION_COLUMNS, the keys, or pieces of V, that registers hold
 * beside four queries: 1 to 4. One that has included simd_bf16_avx512.h may define QR_BF16_PAIRS:
 * tiles of BF16 are multiplied as pairs then, in an order of their own.
 *
 * The order of every sum is part of the contract (attention.h):
 *   score  = lanes of d ascending by 16, fused, then the fixed tree;
 *   tile   = exp of each score less the running maximum; their sum by the fixed tree;
 *   output = rescaled once a tile, then one fused multiply-add a key, keys ascending;
 *   splits = the sums of those before rescaled, then one fused multiply-add a split, ascending.
 * How many queries or lanes a helper handles side by side changes no bit of it.
 */
#include <assert.h>
#include <math.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>

#include "attention/cpu/paged_attention.h"
#include "attention/paged_kv.h"

#define QR_INLINE static inline __attribute__((always_inline))

enum {
    QUERIES = QR_ATTENTION_BLOCK_QUERIES,
    TILE = QR_ATTENTION_TILE,
    SPLIT = QR_ATTENTION_SPLIT,
    MAX_STATE = QR_ATTENTION_MAX_HEAD_DIM + QR_ATTENTION_STATE_ALIGN,
    SIDE_BY_SIDE = 4,                /* queries, or 16-lane pieces of V, that the registers hold */
    MANY_QUERIES = 3 * SIDE_BY_SIDE, /* for which a tile is widened once */
    CACHE_LINE = 64,
    PAIRED = 32, /* BF16 numbers of a vector */
};

/* A tile of BF16 for products of pairs (paged_attention_pairs.inc.h). */
struct paired_tile {
    uint16_t q[QUERIES * QR_ATTENTION_MAX_HEAD_DIM];   /* [n_queries][stride], scaled */
    uint16_t p[QUERIES][TILE];                         /* weights */
    uint16_t keys[TILE * QR_ATTENTION_MAX_HEAD_DIM];   /* [pairs of elements][TILE][2] */
    uint16_t values[TILE * QR_ATTENTION_MAX_HEAD_DIM]; /* [pairs of keys][paired_stride][2] */
};

struct scratch {
    alignas(64) float q[QUERIES * QR_ATTENTION_MAX_HEAD_DIM]; /* [n_queries][stride], scaled */
    alignas(64) float split[QUERIES * MAX_STATE]; /* [n_queries][state_floats] of this split */
    alignas(64) float total[QUERIES * MAX_STATE]; /* the same of all splits up to it, merged */
    alignas(64) float p[QUERIES][TILE];           /* scores, then weights */
    float max[QUERIES];                           /* of this split's scores, and */
    float denominator[QUERIES];
    float rescale[QUERIES];   /* what sum still has to be multiplied by: to this tile's maximum */
    int32_t n_keys[QUERIES];  /* that each query sees in the whole context */
    int32_t first[QUERIES];   /* the first key of this tile that a query sees, ascending over the */
    int32_t visible[QUERIES]; /* queries, and the end of those it sees, the same; none: not less */
    union {
        alignas(64) float wide[2][TILE * QR_ATTENTION_MAX_HEAD_DIM]; /* K and V [TILE][stride] */
        struct paired_tile pairs;
    };
    const char *wide_rows[TILE]; /* of K there */
    const char *rows[2][TILE]; /* of K, of the pool's dtype, in tiles of even and of odd numbers */
    const char **key;          /* [TILE] this tile's, or wide_rows */
    const char **next_key;     /* [n_next_keys] the next tile's, or the next block's first one's, */
    int32_t n_next_keys;       /* from first_next_key on */
    int32_t first_next_key;
    int32_t n_fetching;       /* keys of this tile with which these are fetched */
    size_t value_offset;      /* bytes from a row of key to that of V */
    size_t next_value_offset; /* the same of next_key */
    size_t row_bytes;
    int32_t n_queries;
    int32_t window; /* as in the params */
    float soft_cap;
    int32_t head_dim;
    int32_t end_key;       /* of the block */
    int32_t stride;        /* head_dim rounded up to whole vectors; the rest is zero */
    int32_t paired_stride; /* the same to vectors of pairs */
    int32_t state_floats;
};

static_assert((int)QR_ATTENTION_STATE_ALIGN == (int)QR_LANES, "sums are whole vectors");
static_assert(SPLIT % TILE == 0, "a tile is in one split");

/* The first of n_keys keys that a query sees. */
static int32_t first_of(int32_t n_keys, int32_t window)
{
    return window != 0 && n_keys > window ? n_keys - window : 0;
}

static int32_t first_key_seen(const struct scratch *s, int32_t query)
{
    return first_of(s->n_keys[query], s->window);
}

/* Of the keys that a block's last query sees. */
static int32_t end_key_of(const struct qr_attention_block *block)
{
    int32_t n_keys = qr_attention_block_keys(block, block->n_queries - 1);

    return n_keys < block->end_key ? n_keys : block->end_key;
}

static void begin_block(const struct qr_attention_block *block, struct scratch *s)
{
    s->n_queries = block->n_queries;
    s->n_next_keys = 0;
    s->window = block->params->window;
    s->soft_cap = block->params->soft_cap;
    s->head_dim = block->params->kv.head_dim;
    s->state_floats = (int32_t)qr_attention_state_floats(s->head_dim);
    s->stride = s->state_floats - QR_LANES;
    s->paired_stride = (s->head_dim + PAIRED - 1) / PAIRED * PAIRED;
    s->value_offset =
        qr_kv_value_offset(&block->params->kv) * qr_dtype_size(block->params->kv_dtype);
    s->next_value_offset = s->value_offset;
    s->row_bytes = (size_t)s->head_dim * qr_dtype_size(block->params->kv_dtype);
    for (int32_t i = 0; i < s->n_queries; i++)
        s->n_keys[i] = qr_attention_block_keys(block, i);
    s->end_key = end_key_of(block);
}

static void load_queries(const struct qr_attention_block *block, struct scratch *s)
{
    qr_f32x16 scale = qr_f32x16_set1(block->params->scale);

    for (int32_t i = 0; i < s->n_queries; i++) {
        const float *q = block->params->q + qr_attention_block_offset(block, i);
        float *to = s->q + (size_t)i * (size_t)s->stride;
        for (int32_t d = 0; d < s->head_dim; d += QR_LANES) {
            int32_t left = s->head_dim - d;
            qr_f32x16 lanes = qr_f32x16_load_partial(q + d, left < QR_LANES ? left : QR_LANES);
            qr_f32x16_store(to + d, qr_f32x16_mul(lanes, scale));
        }
    }
}

/* In a state the sums come first. */
QR_INLINE float *max_of(const struct scratch *s, float *state)
{
    return state + s->stride;
}

QR_INLINE float *denominator_of(const struct scratch *s, float *state)
{
    return state + s->stride + 1;
}

static void begin_split(struct scratch *s)
{
    memset(s->split, 0, (size_t)s->n_queries * (size_t)s->state_floats * sizeof(float));
    for (int32_t i = 0; i < s->n_queries; i++) {
        s->max[i] = -INFINITY;
        s->denominator[i] = 0.0f;
    }
}

static int32_t in_tile(int32_t key)
{
    return key < 0 ? 0 : key < TILE ? key : TILE;
}

static const int32_t *block_table_of(const struct qr_attention_block *block)
{
    const struct qr_attention_batch *batch = block->params->batch;

    return batch->block_table + (size_t)block->seq * (size_t)batch->block_table_stride;
}

/* The rows of keys [from, n_keys) of the tile that begins at `first`: part of a page, or several
 * pages. */
static void look_up_rows(const struct qr_attention_block *block, const struct scratch *s,
                         int32_t first, int32_t from, int32_t n_keys, const char **rows)
{
    const struct qr_attention_params *params = block->params;
    const int32_t *block_table = block_table_of(block);
    int32_t page_size = params->kv.page_size;
    int32_t in_page = page_size < TILE ? page_size : TILE;

    for (int32_t j = from / in_page * in_page; j < n_keys; j += in_page) {
        const char *key = qr_paged_key(params, block_table, block->kv_head, first + j);
        for (int32_t i = 0; i < in_page; i++)
            rows[j + i] = key + (size_t)i * s->row_bytes;
    }
}

/* The block's first tile of which a query sees a key. */
static int32_t first_tile(const struct qr_attention_block *block)
{
    int32_t seen = first_of(qr_attention_block_keys(block, 0), block->params->window);

    return (seen > block->first_key ? seen : block->first_key) / TILE * TILE;
}

/* The rows of the tile that comes after the one that begins at `first`. */
static void look_up_next(const struct qr_attention_block *block, int32_t first, struct scratch *s)
{
    const struct qr_attention_block *next = block->next;

    s->n_next_keys = in_tile(s->end_key - first - TILE);
    s->first_next_key = 0;
    if (s->n_next_keys == 0 && next != NULL) {
        int32_t tile = first_tile(next);
        int32_t seen = first_of(qr_attention_block_keys(next, 0), s->window);
        s->n_next_keys = in_tile(end_key_of(next) - tile);
        s->first_next_key = in_tile(seen - tile);
        look_up_rows(next, s, tile, s->first_next_key, s->n_next_keys, s->next_key);
        return;
    }
    look_up_rows(block, s, first + TILE, 0, s->n_next_keys, s->next_key);
}

/*
 * Reads ahead in the pages of the tile that begins at `first`: where a page lies takes the
 * processor as long to look up as its contents to fetch, and is known by then.
 */
static void touch_pages(const struct qr_attention_block *block, const struct scratch *s,
                        int32_t first)
{
    const struct qr_attention_params *params = block->params;
    const int32_t *block_table = block_table_of(block);
    int32_t n_keys = in_tile(s->end_key - first);

    for (int32_t j = 0; j < n_keys; j += params->kv.page_size)
        __builtin_prefetch(qr_paged_key(params, block_table, block->kv_head, first + j), 0, 2);
}

/* What the queries see of the tile that begins at `first`, and its rows and the next tile's. */
static void find_keys(const struct qr_attention_block *block, int32_t first, struct scratch *s)
{
    int32_t n_keys = s->end_key;
    bool is_known = s->n_next_keys > 0;
    int32_t last_fetching = s->n_queries < SIDE_BY_SIDE ? 0 : SIDE_BY_SIDE - 1;

    for (int32_t i = 0; i < s->n_queries; i++) {
        s->visible[i] = in_tile(s->n_keys[i] - first);
        s->first[i] = in_tile(first_key_seen(s, i) - first);
    }
    s->key = s->rows[first / TILE % 2];
    s->next_key = s->rows[(first / TILE + 1) % 2];
    s->n_fetching = s->visible[last_fetching] - s->first[0];
    /* Pages that are behind every query's window are not looked up: they may be gone. */
    if (!is_known)
        look_up_rows(block, s, first, s->first[0], in_tile(n_keys - first), s->key);
    look_up_next(block, first, s);
    touch_pages(block, s, first + 2 * TILE);
}

/*
 * Fetches rows of the next tile, of K, or with next_value_offset of V. They lie in pages all over
 * the pool, in runs that are too short for a processor to see coming. The first queries do so, a
 * row for each that they use: many at once would be waited for.
 */
QR_INLINE void fetch_next(const struct scratch *s, int32_t key, size_t offset)
{
    int32_t step = s->n_fetching > 0 ? s->n_fetching : TILE;

    for (int32_t next = s->first_next_key + key - s->first[0]; next < s->n_next_keys;
         next += step) {
        for (size_t i = 0; i < s->row_bytes; i += CACHE_LINE)
            __builtin_prefetch(s->next_key[next] + offset + i, 0, 2);
    }
}

/* 16 elements from d on of a row of K or V, or the first n of them, n < 16; widened. */
QR_INLINE qr_f32x16 load_kv(enum qr_dtype dtype, const char *row, int32_t d)
{
    const void *from = row + (size_t)d * (dtype == QR_DTYPE_F32 ? 4 : 2);

    return dtype == QR_DTYPE_F32   ? qr_f32x16_load(from)
           : dtype == QR_DTYPE_F16 ? qr_f32x16_load_f16(from)
                                   : qr_f32x16_load_bf16(from);
}

QR_INLINE qr_f32x16 load_kv_partial(enum qr_dtype dtype, const char *row, int32_t d, int n)
{
    const void *from = row + (size_t)d * (dtype == QR_DTYPE_F32 ? 4 : 2);

    return dtype == QR_DTYPE_F32   ? qr_f32x16_load_partial(from, n)
           : dtype == QR_DTYPE_F16 ? qr_f32x16_load_f16_partial(from, n)
                                   : qr_f32x16_load_bf16_partial(from, n);
}

/* Scores of n queries from `query` on against one key; n is a constant at every call. */
QR_INLINE void score_key(enum qr_dtype dtype, struct scratch *s, int n, int32_t query, int32_t key)
{
    const float *q = s->q + (size_t)query * (size_t)s->stride;
    const char *k = s->key[key];
    qr_f32x16 dot[SIDE_BY_SIDE];
    int32_t d = 0;

    for (int i = 0; i < n; i++)
        dot[i] = qr_f32x16_zero();
    for (; d + QR_LANES <= s->head_dim; d += QR_LANES) {
        qr_f32x16 lanes = load_kv(dtype, k, d);
        for (int i = 0; i < n; i++)
            dot[i] = qr_f32x16_fma(qr_f32x16_load(q + i * s->stride + d), lanes, dot[i]);
    }
    if (d < s->head_dim) {
        qr_f32x16 lanes = load_kv_partial(dtype, k, d, s->head_dim - d);
        for (int i = 0; i < n; i++)
            dot[i] = qr_f32x16_fma(qr_f32x16_load(q + i * s->stride + d), lanes, dot[i]);
    }
    for (int i = 0; i < n; i++)
        s->p[query + i][key] = qr_f32x16_reduce_add(dot[i]);
}

/* Adds the products of `lanes`, of n_lanes keys, with n queries at q to dot [n][stride]. */
QR_INLINE void add_products(const struct scratch *s, int n, int stride, int n_lanes, const float *q,
                            const qr_f32x16 *lanes, qr_f32x16 *dot)
{
    for (int i = 0; i < n; i++) {
        qr_f32x16 x = qr_f32x16_load(q + i * s->stride);
        for (int k = 0; k < n_lanes; k++)
            dot[i * stride + k] = qr_f32x16_fma(x, lanes[k], dot[i * stride + k]);
    }
}

/*
 * The same for QR_LANES / n keys from `key` on. As many scores are as many vectors to sum up, which
 * takes a third of the steps when it is done together.
 */
QR_INLINE void score_keys(enum qr_dtype dtype, struct scratch *s, int n, int32_t query, int32_t key)
{
    const float *q = s->q + (size_t)query * (size_t)s->stride;
    const int n_keys = QR_LANES / n;
    const int step = n == 1 ? SIDE_BY_SIDE : QR_ATTENTION_COLUMNS; /* keys that registers hold */
    alignas(64) float scores[QR_LANES];
    qr_f32x16 dot[QR_LANES]; /* [n][n_keys] */

    for (int from = 0; from < n_keys; from += step) {
        int32_t d = 0;
        for (int k = 0; k < step && query == 0; k++)
            fetch_next(s, key + from + k, 0);
        for (int i = 0; i < n * step; i++)
            dot[i / step * n_keys + from + i % step] = qr_f32x16_zero();
        for (; d + QR_LANES <= s->head_dim; d += QR_LANES) {
            qr_f32x16 lanes[SIDE_BY_SIDE];
            for (int k = 0; k < step; k++)
                lanes[k] = load_kv(dtype, s->key[key + from + k], d);
            add_products(s, n, n_keys, step, q + d, lanes, dot + from);
        }
        if (d < s->head_dim) {
            qr_f32x16 lanes[SIDE_BY_SIDE];
            for (int k = 0; k < step; k++)
                lanes[k] = load_kv_partial(dtype, s->key[key + from + k], d, s->head_dim - d);
            add_products(s, n, n_keys, step, q + d, lanes, dot + from);
        }
    }
    qr_f32x16_store(scores, qr_f32x16_reduce_add_each(dot));
    for (int i = 0; i < n; i++)
        memcpy(&s->p[query + i][key], scores + i * n_keys, (size_t)n_keys * sizeof(float));
}

/* Scores of n queries, a constant, that see a key of [first, last) each. */
QR_INLINE void score_span(enum qr_dtype dtype, struct scratch *s, int n, int32_t query,
                          int32_t first, int32_t last)
{
    const int n_keys = QR_LANES / n;
    int32_t j = first;

    for (; j + n_keys <= last; j += n_keys)
        score_keys(dtype, s, n, query, j);
    for (; j < last; j++) {
        if (query == 0)
            fetch_next(s, j, 0);
        score_key(dtype, s, n, query, j);
    }
}

/* Scores of keys that a query does not see are masked by soften_scores. */
QR_INLINE void score_tile(enum qr_dtype dtype, struct scratch *s)
{
    int32_t query = 0;

    for (; query + SIDE_BY_SIDE <= s->n_queries; query += SIDE_BY_SIDE)
        score_span(dtype, s, SIDE_BY_SIDE, query, s->first[query],
                   s->visible[query + SIDE_BY_SIDE - 1]);
    for (; query < s->n_queries; query++)
        score_span(dtype, s, 1, query, s->first[query], s->visible[query]);
}

static void cap_scores(float *p, int32_t first, int32_t end, float cap)
{
    for (int32_t j = first; j < end; j += QR_LANES) {
        int n = end - j < QR_LANES ? end - j : QR_LANES;
        qr_f32x16_store_partial(p + j, qr_f32x16_soft_cap(qr_f32x16_load_partial(p + j, n), cap),
                                n);
    }
}

/* For the keys of this tile that a query does not see. */
QR_INLINE void fill_unseen(struct scratch *s, int32_t query, float value)
{
    for (int32_t j = 0; j < s->first[query]; j++)
        s->p[query][j] = value;
    for (int32_t j = s->visible[query]; j < TILE; j++)
        s->p[query][j] = value;
}

/* Caps the scores of one query. Returns what the running maximum was, less what it is; 0 at the
 * first, when there is nothing to rescale. */
QR_INLINE float raise_max(struct scratch *s, int32_t query)
{
    float *p = s->p[query];
    qr_f32x16 part[TILE / QR_LANES];

    if (s->soft_cap != 0.0f)
        cap_scores(p, s->first[query], s->visible[query], s->soft_cap);
    fill_unseen(s, query, -INFINITY);
    for (int i = 0; i < TILE / QR_LANES; i++)
        part[i] = qr_f32x16_load(p + i * QR_LANES);
    float tile_max = qr_f32x16_reduce_max(
        qr_f32x16_max(qr_f32x16_max(part[0], part[1]), qr_f32x16_max(part[2], part[3])));
    float old_max = s->max[query];
    float new_max = tile_max > old_max ? tile_max : old_max;

    s->max[query] = new_max;
    return old_max == -INFINITY ? 0.0f : old_max - new_max;
}

/* Turns the scores of one query into weights under the maximum. Returns their sum. Powers of what
 * it does not see are not left to e^-inf: results that underflow take a processor a hundred steps.
 */
QR_INLINE float weigh_scores(struct scratch *s, int32_t query)
{
    float *p = s->p[query];
    qr_f32x16 max = qr_f32x16_set1(s->max[query]);
    qr_f32x16 part[TILE / QR_LANES];
    bool sees_all = s->first[query] == 0 && s->visible[query] == TILE;

    if (!sees_all)
        fill_unseen(s, query, s->max[query]);
    for (int i = 0; i < TILE / QR_LANES; i++) {
        part[i] = qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_load(p + i * QR_LANES), max));
        qr_f32x16_store(p + i * QR_LANES, part[i]);
    }
    if (!sees_all) {
        fill_unseen(s, query, 0.0f);
        for (int i = 0; i < TILE / QR_LANES; i++)
            part[i] = qr_f32x16_load(p + i * QR_LANES);
    }
    return qr_f32x16_reduce_add(
        qr_f32x16_add(qr_f32x16_add(part[0], part[1]), qr_f32x16_add(part[2], part[3])));
}

/* In steps over all queries, which wait for nothing of each other's. */
static void soften_scores(struct scratch *s)
{
    alignas(64) float change[QUERIES] = {0};

    for (int32_t i = 0; i < s->n_queries; i++) {
        if (s->first[i] < s->visible[i])
            change[i] = raise_max(s, i);
    }
    for (int32_t i = 0; i < s->n_queries; i += QR_LANES)
        qr_f32x16_store(s->rescale + i, qr_f32x16_exp(qr_f32x16_load(change + i)));
    for (int32_t i = 0; i < s->n_queries; i++) {
        if (s->first[i] < s->visible[i])
            s->denominator[i] = s->denominator[i] * s->rescale[i] + weigh_scores(s, i);
    }
}

/* The sums of n queries from `query` on, of n_pieces pieces from d on, brought to this tile's
 * maximum: part [n][n_pieces]. Both are constants at every call. */
QR_INLINE void load_sums(const struct scratch *s, int n, int n_pieces, int32_t query, int32_t d,
                         qr_f32x16 *part)
{
    const float *sum = s->split + (size_t)query * (size_t)s->state_floats + d;

    for (int i = 0; i < n; i++) {
        qr_f32x16 rescale = qr_f32x16_set1(s->rescale[query + i]);
        for (int c = 0; c < n_pieces; c++)
            part[i * n_pieces + c] =
                qr_f32x16_mul(qr_f32x16_load(sum + i * s->state_floats + c * QR_LANES), rescale);
    }
}

QR_INLINE void store_sums(struct scratch *s, int n, int n_pieces, int32_t query, int32_t d,
                          const qr_f32x16 *part)
{
    float *sum = s->split + (size_t)query * (size_t)s->state_floats + d;

    for (int i = 0; i < n; i++) {
        for (int c = 0; c < n_pieces; c++)
            qr_f32x16_store(sum + i * s->state_floats + c * QR_LANES, part[i * n_pieces + c]);
    }
}

/* What part of V a call adds: the first n_lanes lanes (16 unless at the end of a row) of
 * each piece from d on, for keys [first_key, last_key). */
struct value_span {
    int32_t d;
    int32_t n_lanes;
    int32_t first_key;
    int32_t last_key;
};

/* n queries times n_pieces pieces, both constants at every call, at most SIDE_BY_SIDE each. */
QR_INLINE void add_values(enum qr_dtype dtype, struct scratch *s, int n, int n_pieces, bool whole,
                          int32_t query, struct value_span span)
{
    const float *p = s->p[query]; /* [n][TILE] */
    bool fetches = query == 0 && span.d == 0;
    qr_f32x16 part[SIDE_BY_SIDE * SIDE_BY_SIDE]; /* [n][n_pieces] */

    load_sums(s, n, n_pieces, query, span.d, part);
    for (int32_t j = span.first_key; j < span.last_key; j++) {
        const char *v = s->key[j] + s->value_offset;
        if (fetches)
            fetch_next(s, j, s->next_value_offset);
        qr_f32x16 lanes[SIDE_BY_SIDE];
        for (int c = 0; c < n_pieces; c++) {
            int32_t d = span.d + c * QR_LANES;
            lanes[c] = whole ? load_kv(dtype, v, d) : load_kv_partial(dtype, v, d, span.n_lanes);
        }
        for (int i = 0; i < n; i++) {
            qr_f32x16 weight = qr_f32x16_set1(p[i * TILE + j]);
            for (int c = 0; c < n_pieces; c++)
                part[i * n_pieces + c] = qr_f32x16_fma(weight, lanes[c], part[i * n_pieces + c]);
        }
    }
    store_sums(s, n, n_pieces, query, span.d, part);
}

/* One query over keys [first_key, last_key). */
QR_INLINE void add_values_of_one(enum qr_dtype dtype, struct scratch *s, int32_t query,
                                 int32_t first_key, int32_t last_key)
{
    enum { WIDE = SIDE_BY_SIDE * QR_LANES };
    struct value_span span = {0, QR_LANES, first_key, last_key};

    if (span.first_key >= span.last_key)
        return;
    for (; span.d + WIDE <= s->head_dim; span.d += WIDE)
        add_values(dtype, s, 1, SIDE_BY_SIDE, true, query, span);
    for (; span.d + QR_LANES <= s->head_dim; span.d += QR_LANES)
        add_values(dtype, s, 1, 1, true, query, span);
    span.n_lanes = s->head_dim - span.d;
    if (span.n_lanes > 0)
        add_values(dtype, s, 1, 1, false, query, span);
    s->rescale[query] = 1.0f;
}

/* SIDE_BY_SIDE queries over the keys [first_key, last_key) that all of them see. */
QR_INLINE void add_values_of_all(enum qr_dtype dtype, struct scratch *s, int32_t query,
                                 int32_t first_key, int32_t last_key)
{
    enum { WIDE = QR_ATTENTION_COLUMNS * QR_LANES };
    struct value_span span = {0, QR_LANES, first_key, last_key};

    for (; span.d + WIDE <= s->head_dim; span.d += WIDE)
        add_values(dtype, s, SIDE_BY_SIDE, QR_ATTENTION_COLUMNS, true, query, span);
    for (; span.d + QR_LANES <= s->head_dim; span.d += QR_LANES)
        add_values(dtype, s, SIDE_BY_SIDE, 1, true, query, span);
    span.n_lanes = s->head_dim - span.d;
    if (span.n_lanes > 0)
        add_values(dtype, s, SIDE_BY_SIDE, 1, false, query, span);
    for (int32_t i = query; i < query + SIDE_BY_SIDE; i++)
        s->rescale[i] = 1.0f;
}

/* Each query over the keys before those that all see, together over these, each over the rest. */
QR_INLINE void add_values_of_some(enum qr_dtype dtype, struct scratch *s, int32_t query)
{
    int32_t first = s->first[query + SIDE_BY_SIDE - 1];
    int32_t last = s->visible[query];
    bool shares = first < last;

    for (int32_t i = query; i < query + SIDE_BY_SIDE; i++)
        add_values_of_one(dtype, s, i, s->first[i], shares ? first : s->visible[i]);
    if (!shares)
        return;
    add_values_of_all(dtype, s, query, first, last);
    for (int32_t i = query; i < query + SIDE_BY_SIDE; i++)
        add_values_of_one(dtype, s, i, last, s->visible[i]);
}

QR_INLINE void attend_keys(enum qr_dtype dtype, struct scratch *s)
{
    int32_t query = 0;

    score_tile(dtype, s);
    soften_scores(s);
    for (; query + SIDE_BY_SIDE <= s->n_queries; query += SIDE_BY_SIDE)
        add_values_of_some(dtype, s, query);
    for (; query < s->n_queries; query++)
        add_values_of_one(dtype, s, query, s->first[query], s->visible[query]);
}

typedef void (*tile_fn)(struct scratch *s);

static __attribute__((noinline)) void attend_tile_f32(struct scratch *s)
{
    attend_keys(QR_DTYPE_F32, s);
}

/* Blocks of many queries would widen a row of K or V once for every four of them. */
QR_INLINE void widen_tile(enum qr_dtype dtype, struct scratch *s)
{
    for (int32_t j = s->first[0]; j < s->visible[s->n_queries - 1]; j++) {
        for (int v = 0; v < 2; v++) {
            const char *from = s->key[j] + (v == 0 ? 0 : s->next_value_offset);
            float *to = s->wide[v] + (size_t)j * (size_t)s->stride;
            int32_t d = 0;
            for (; d + QR_LANES <= s->head_dim; d += QR_LANES)
                qr_f32x16_store(to + d, load_kv(dtype, from, d));
            if (d < s->head_dim)
                qr_f32x16_store(to + d, load_kv_partial(dtype, from, d, s->head_dim - d));
        }
        s->wide_rows[j] = (const char *)(s->wide[0] + (size_t)j * (size_t)s->stride);
    }
    s->key = s->wide_rows;
    s->value_offset = sizeof(s->wide[0]);
}

QR_INLINE void attend_halves(enum qr_dtype dtype, struct scratch *s)
{
    if (s->n_queries < MANY_QUERIES) {
        attend_keys(dtype, s);
        return;
    }
    widen_tile(dtype, s);
    attend_tile_f32(s);
}

static __attribute__((noinline)) void attend_tile_f16(struct scratch *s)
{
    attend_halves(QR_DTYPE_F16, s);
}

#ifdef QR_BF16_PAIRS

#include "attention/cpu/paged_attention_pairs.inc.h"

#else

static void round_queries(struct scratch *s)
{
    (void)s; /* they are multiplied as they are */
}

static __attribute__((noinline)) void attend_tile_bf16(struct scratch *s)
{
    attend_halves(QR_DTYPE_BF16, s);
}

#endif

/* e^x by the operations of all lanes */
static float exp_of(float x)
{
    float lanes[QR_LANES];

    qr_f32x16_store(lanes, qr_f32x16_exp(qr_f32x16_set1(x)));
    return lanes[0];
}

/* Merges the state of a query's split into that of its splits before. */
static void merge_state(const struct scratch *s, float *split, float *total)
{
    float split_max = *max_of(s, split);
    float total_max = *max_of(s, total);
    float new_max = split_max > total_max ? split_max : total_max;
    float rescale = exp_of(total_max - new_max);
    float weight = exp_of(split_max - new_max);

    for (int32_t d = 0; d < s->stride; d += QR_LANES) {
        qr_f32x16 before = qr_f32x16_mul(qr_f32x16_load(total + d), qr_f32x16_set1(rescale));
        qr_f32x16_store(total + d,
                        qr_f32x16_fma(qr_f32x16_set1(weight), qr_f32x16_load(split + d), before));
    }
    *denominator_of(s, total) =
        *denominator_of(s, total) * rescale + *denominator_of(s, split) * weight;
    *max_of(s, total) = new_max;
}

static bool sees_split(const struct scratch *s, int32_t query, int32_t first)
{
    return first < s->n_keys[query] && first + SPLIT > first_key_seen(s, query);
}

/* Adds the state of the split that begins at `first` to those before, or copies a query's first. */
static void add_split(struct scratch *s, int32_t query, int32_t first, float *split)
{
    float *total = s->total + (size_t)query * (size_t)s->state_floats;

    if (!sees_split(s, query, first))
        return;
    if (first <= first_key_seen(s, query))
        memcpy(total, split, (size_t)s->state_floats * sizeof(float));
    else
        merge_state(s, split, total);
}

/* Where block->states has a query's state of the split that begins at `first`. */
static float *state_at(const struct qr_attention_block *block, const struct scratch *s,
                       int32_t query, int32_t first)
{
    int32_t split = (first - block->first_key) / SPLIT;

    return block->states +
           ((size_t)query * (size_t)block->n_splits + (size_t)split) * (size_t)s->state_floats;
}

static void end_split(const struct qr_attention_block *block, struct scratch *s, int32_t first)
{
    for (int32_t i = 0; i < s->n_queries; i++) {
        float *split = s->split + (size_t)i * (size_t)s->state_floats;
        *max_of(s, split) = s->max[i];
        *denominator_of(s, split) = s->denominator[i];
        if (block->states == NULL)
            add_split(s, i, first, split);
        else if (sees_split(s, i, first))
            memcpy(state_at(block, s, i, first), split, (size_t)s->state_floats * sizeof(float));
    }
}

static void store_output(const struct qr_attention_block *block, struct scratch *s)
{
    for (int32_t i = 0; i < s->n_queries; i++) {
        float *total = s->total + (size_t)i * (size_t)s->state_floats;
        float *out = block->params->out + qr_attention_block_offset(block, i);
        qr_f32x16 inverse = qr_f32x16_set1(1.0f / *denominator_of(s, total));
        for (int32_t d = 0; d < s->head_dim; d += QR_LANES) {
            int32_t left = s->head_dim - d;
            qr_f32x16_store_partial(out + d, qr_f32x16_mul(qr_f32x16_load(total + d), inverse),
                                    left < QR_LANES ? left : QR_LANES);
        }
    }
}

static void run(const struct qr_attention_block *block)
{
    static const tile_fn formats[QR_DTYPE_COUNT] = {[QR_DTYPE_F32] = attend_tile_f32,
                                                    [QR_DTYPE_F16] = attend_tile_f16,
                                                    [QR_DTYPE_BF16] = attend_tile_bf16};
    tile_fn attend_tile = formats[block->params->kv_dtype];
    struct scratch s;

    begin_block(block, &s);
    load_queries(block, &s);
    if (block->params->kv_dtype == QR_DTYPE_BF16)
        round_queries(&s);
    begin_split(&s);
    for (int32_t first = first_tile(block); first < s.end_key; first += TILE) {
        find_keys(block, first, &s);
        attend_tile(&s);
        if ((first + TILE) % SPLIT == 0 || first + TILE >= s.end_key) {
            end_split(block, &s, first / SPLIT * SPLIT);
            begin_split(&s);
        }
    }
    if (block->states == NULL)
        store_output(block, &s);
}

static void merge(const struct qr_attention_block *block)
{
    struct scratch s;

    begin_block(block, &s);
    for (int32_t i = 0; i < s.n_queries; i++) {
        for (int32_t first = block->first_key; first < s.end_key; first += SPLIT)
            add_split(&s, i, first, state_at(block, &s, i, first));
    }
    store_output(block, &s);
}

static void narrow(enum qr_dtype dtype, const float *from, int32_t n, void *to)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int n_lanes = n - i < QR_LANES ? n - i : QR_LANES;
        qr_f32x16 lanes = qr_f32x16_load_partial(from + i, n_lanes);
        if (dtype == QR_DTYPE_F32)
            qr_f32x16_store_partial((float *)to + i, lanes, n_lanes);
        else if (dtype == QR_DTYPE_F16)
            qr_f32x16_store_f16_partial((uint16_t *)to + i, lanes, n_lanes);
        else
            qr_f32x16_store_bf16_partial((uint16_t *)to + i, lanes, n_lanes);
    }
}

const struct qr_attention_kernel QR_ATTENTION_KERNEL = {
    .run = run, .merge = merge, .narrow = narrow};
