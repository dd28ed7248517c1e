/*
 * plan.h - what the host and the kernels of attention tell each other: the plan of a step, which
 * lies in device memory at a fixed address, and the parameters of the launches.
 *
 * The plan starts with struct qr_attention_plan; its arrays follow, at the offsets (bytes from its
 * start, multiples of 16) that it names. Only what a step uses is copied.
 */
#ifndef QUIRE_ATTENTION_CUDA_PLAN_H
#define QUIRE_ATTENTION_CUDA_PLAN_H

#include <stdint.h>

enum {
    QR_ATTENTION_THREADS = 128, /* of a block of every attention kernel: 4 warps */
    QR_ATTENTION_WARPS = 4,
    QR_SPLIT_KEYS = 128, /* QR_CUDA_SPLIT of cuda_attention.h */
    QR_GROUP_SPLITS = 8, /* that are folded together first, counted from position 0 */
    QR_GROUP_KEYS = QR_GROUP_SPLITS * QR_SPLIT_KEYS,
    QR_TILE_KEYS = 16, /* keys that one mma takes */
};

/* A row of the step. */
struct qr_plan_row {
    int32_t position;
    int32_t table; /* index into the packed block tables of its sequence's first page */
};

/*
 * A run of splits of one chain that one block computes. A chain is what is folded together: one
 * row and up to 8 (16) query heads that share a KV head. What is not the whole of its chain leaves
 * states: one for each of its groups of splits, but one for each split of a group that another
 * piece (or a range) began, as the fold can only go on from there.
 */
struct qr_decode_piece {
    int32_t row;
    int32_t table; /* as in qr_plan_row */
    int32_t kv_head;
    int32_t head;      /* first query head */
    int32_t n_queries; /* query heads */
    int32_t n_keys;    /* that the row sees, from 0 on */
    int32_t first_key; /* that the row sees; 0 without a window */
    int32_t first_split;
    int32_t end;        /* splits of the block up to the end of this piece */
    int32_t state;      /* the first that it leaves; -1: it is the whole chain and written to out */
    int32_t n_separate; /* first splits that leave a state each */
    int32_t pad;
};

/* A chain of which states were left: first those of ranges, then its own, both in ascending order
 * of the keys. */
struct qr_merge_item {
    int32_t row;
    int32_t head;
    int32_t n_queries;
    int32_t first_part;
    int32_t n_parts;
    int32_t first_state;
    int32_t n_states;
    int32_t pad;
};

/* Queries (pairs of a row and a head of the group, row by row) that one block computes. */
struct qr_prefill_item {
    int32_t table;
    int32_t first_row;   /* row of query 0, or index into range_rows */
    int32_t first_query; /* of the item */
    int32_t n_queries;
    int32_t begin_key; /* of the item: 0, or that of its range, which begins with a split */
    int32_t end_key;   /* behind the last one of the item */
    int32_t first_key; /* the least that one of the queries sees under the window */
    int32_t part;      /* range: the first part that it leaves: one for each group of splits, or
                          for each split where it begins within a group, which it does not leave */
    int32_t is_folded; /* range: from key 0 over whole groups, all of which leave one part */
    int32_t pad[2];
};

/* A row whose first keys are computed in ranges: it decodes behind a prefix which it shares with
 * others, or is one of a few of a long sequence. Ranges leave parts: states that the merge folds
 * ahead of those that decode leaves of the row. */
struct qr_range_row {
    int32_t row;
    int32_t parts;   /* state of chain 0's first part; a chain's parts lie together */
    int32_t n_parts; /* of a chain */
    int32_t pad;
};

struct qr_decode_list {
    uint32_t block_first; /* int32_t [n_blocks + 1]: each block's first piece */
    uint32_t pieces;      /* struct qr_decode_piece [] */
    uint32_t merges;      /* struct qr_merge_item [n_merges] */
    int32_t n_merges;
};

struct qr_attention_plan {
    int32_t n_rows;
    int32_t n_prefill;
    int32_t n_range_items;
    int32_t n_range_rows;
    int32_t n_range_ctas;            /* blocks that take range_items in turn */
    uint32_t rows;                   /* struct qr_plan_row [n_rows] */
    uint32_t tables;                 /* int32_t []: block tables, packed */
    uint32_t prefill;                /* struct qr_prefill_item [n_prefill] */
    uint32_t range_items;            /* struct qr_prefill_item [n_range_items] */
    uint32_t range_rows;             /* struct qr_range_row [n_range_rows], by groups of rows */
    struct qr_decode_list decode[2]; /* of layers whose rows see all keys; of those that slide */
};

/* Where K and V lie; all in bytes but page_shift. */
struct qr_kv_place {
    const unsigned char *pool; /* of the layer: its K of KV head 0 in page 0 */
    int64_t page_bytes;
    int64_t head_bytes;  /* from one KV head to the next: page_size * head_dim elements */
    int64_t value_bytes; /* from K to V */
    int32_t page_shift;  /* log2 of page_size */
    int32_t pad;
};

/* decode, merge, prefill and generic take the same. */
struct qr_attend_kernel_params {
    const struct qr_attention_plan *plan;
    const void *q; /* [n_rows][n_heads][head_dim] of the activation type */
    void *out;     /* the same */
    float *states; /* [state][state_floats]: o [n_queries][head_dim], then [n_queries][3]: m, l, and
                      1 where it is the last of its group of splits, else 0 */
    float *totals; /* [block][qr_prefill_total_floats]: prefill's own, of the groups before */
    struct qr_kv_place kv;
    int64_t state_floats;
    float scale;     /* of a score, log2(e) included: weights are 2^(scale * (s - max)) */
    float cap_in;    /* soft cap: s becomes tanh(s * cap_in / (2 log2 e)); 0: none */
    float v_scale;   /* of the output */
    int32_t sliding; /* which list of the plan: 0 or 1 */
    int32_t window;  /* keys a row sees; 0: all */
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t group;         /* query heads a KV head */
    int32_t in_ranges;     /* prefill: the items of ranges; decode: those are computed beside it */
    int32_t chain_queries; /* largest n_queries of a chain */
    int32_t head_dim;
    int32_t activation_is_bf16; /* where the KV type does not say it: BF16, else F16 */
};

struct qr_write_kv_params {
    const struct qr_attention_plan *plan;
    void *q;       /* [n_rows][n_heads][head_dim], rotated in place */
    const void *k; /* [n_rows][n_kv_heads][head_dim] */
    const void *v;
    const float *rope; /* [max_position][rotary_dim / 2][2] */
    struct qr_kv_place kv;
    float k_scale, v_scale; /* reciprocals: what a value is multiplied by before it is rounded */
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t rotary_dim; /* 0: no rotation */
};

/* Shared memory of the merge, which knows the factors of so many states at a time. */
struct qr_merge_shared {
    float warp_max[QR_ATTENTION_WARPS];
    float total_max; /* over the states before: of the groups that have ended, */
    float group_max; /* and of the one that has not */
    float m[QR_ATTENTION_THREADS], l[QR_ATTENTION_THREADS];
    float max[QR_ATTENTION_THREADS]; /* over all up to this one */
    float ends[QR_ATTENTION_THREADS];
    float group_factor[QR_ATTENTION_THREADS], state_factor[QR_ATTENTION_THREADS];
    float total_factor[QR_ATTENTION_THREADS], ended_factor[QR_ATTENTION_THREADS];
};

/* The prefill by warpgroups (attn_prefill_wide.cuh). */
enum {
    QR_WIDE_THREADS = 256,      /* two warpgroups */
    QR_WIDE_GROUP_QUERIES = 64, /* of one of them */
    QR_WIDE_QUERIES = 128,
    QR_WIDE_KEYS = 64, /* of a stage */
    QR_WIDE_STAGES = 4,
};

enum { QR_WRITE_THREADS = 256, QR_COPY_THREADS = 256 }; /* blocks of kv_write.cu, page_copy.cu */
enum { QR_PAGES_A_LAUNCH = 128 };

struct qr_copy_pages_params {
    unsigned char *pool;
    int64_t page_bytes;
    int32_t n_copies;
    int32_t from[QR_PAGES_A_LAUNCH];
    int32_t to[QR_PAGES_A_LAUNCH];
};

struct qr_transfer_pages_params {
    unsigned char *pool;
    int64_t page_bytes;
    int32_t n_pages;
    int32_t to_host;
    int32_t pages[QR_PAGES_A_LAUNCH];
    unsigned char *host[QR_PAGES_A_LAUNCH];
};

/* ---- shapes that both sides compute ---- */

#ifdef __CUDACC__
#define QR_BOTH __host__ __device__ constexpr
#elif defined(__cplusplus)
#define QR_BOTH constexpr
#else
#define QR_BOTH static inline
#endif

/* Tiles of K and V that a warp of the decode kernel keeps in flight: 24 KB a warp lets two blocks
 * of head_dim 128 share a multiprocessor of an H200 and keeps 128 KB in flight there. */
QR_BOTH int32_t qr_decode_stages(int32_t row_bytes)
{
    return 24576 / (2 * QR_TILE_KEYS * row_bytes) < 2   ? 2
           : 24576 / (2 * QR_TILE_KEYS * row_bytes) > 8 ? 8
                                                        : 24576 / (2 * QR_TILE_KEYS * row_bytes);
}
/* Floats from one query's state in shared memory to the next: four more than it has, so that the
 * lanes of a fragment write to different banks. */
QR_BOTH int32_t qr_decode_state_stride(int32_t head_dim)
{
    return head_dim + 4;
}
/* Shared memory: rings, states, (m, l) of the states, barriers. */
QR_BOTH int32_t qr_decode_shared_bytes(int32_t row_bytes, int32_t head_dim, int32_t n_queries)
{
    return QR_ATTENTION_WARPS * (qr_decode_stages(row_bytes) * (2 * QR_TILE_KEYS * row_bytes + 8) +
                                 n_queries * (qr_decode_state_stride(head_dim) + 2) * 4);
}
/* Queries of one decode chain at most: one or two n8 tiles; two do not fit the registers beyond
 * head_dim 128. */
QR_BOTH int32_t qr_decode_max_queries(int32_t head_dim)
{
    return head_dim <= 128 ? 16 : 8;
}
QR_BOTH int32_t qr_prefill_tiles(int32_t head_dim) /* n8 tiles of queries a warp */
{
    return head_dim <= 128 ? 2 : 1;
}
QR_BOTH int32_t qr_prefill_keys(int32_t head_dim) /* keys a stage */
{
    return head_dim <= 128 ? 64 : 32;
}
QR_BOTH int32_t qr_prefill_queries(int32_t head_dim) /* queries a block */
{
    return QR_ATTENTION_WARPS * 8 * qr_prefill_tiles(head_dim);
}
QR_BOTH int32_t qr_prefill_shared_bytes(int32_t row_bytes, int32_t head_dim)
{
    return 2 * 2 * qr_prefill_keys(head_dim) * row_bytes; /* stages, K and V */
}
/* What a block of prefill keeps in global memory: o, m and l of all queries. */
QR_BOTH int32_t qr_prefill_total_floats(int32_t head_dim)
{
    return QR_ATTENTION_THREADS * qr_prefill_tiles(head_dim) * (head_dim / 16 * 4 + 4);
}
/* Splits of [first, end) whose group was begun before them, by something else. */
QR_BOTH int32_t qr_separate_splits(int32_t first, int32_t end)
{
    return first % QR_GROUP_SPLITS == 0 ? 0
           : end - first < QR_GROUP_SPLITS - first % QR_GROUP_SPLITS
               ? end - first
               : QR_GROUP_SPLITS - first % QR_GROUP_SPLITS;
}
/* States that splits [first, end) of a chain leave, of which the first n_separate are left one by
 * one; the last of them is the index of split `end` - 1. */
QR_BOTH int32_t qr_states_left(int32_t first, int32_t end, int32_t n_separate)
{
    return end - first <= n_separate ? end - first
                                     : n_separate + (end - 1) / QR_GROUP_SPLITS + 1 -
                                           (first + n_separate) / QR_GROUP_SPLITS;
}
QR_BOTH int32_t qr_wide_shared_bytes(int32_t row_bytes)
{
    return QR_WIDE_STAGES * 2 * QR_WIDE_KEYS * row_bytes + 1024; /* to align them */
}

#endif /* QUIRE_ATTENTION_CUDA_PLAN_H */
