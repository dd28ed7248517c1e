/*
 * cuda_attention.h - paged attention on a CUDA device: what the backend calls.
 *
 * Once:   qr_cuda_attention_open, then qr_cuda_attention_set_memory with what it asked for.
 * A step: qr_cuda_attention_plan, then for each layer qr_cuda_rope_and_write_kv and qr_cuda_attend.
 *
 * Everything is enqueued on the step's stream of struct qr_cuda and a failure is latched there;
 * nothing is allocated after `open`. All kernels have fixed grids and read how much there is to do
 * from the plan in device memory, at fixed addresses: a sequence of launches that was captured in
 * a CUDA graph may be replayed after any later plan whose `launches` are among those of the plan
 * that it was captured with. qr_cuda_attention_plan itself is not captured.
 *
 * KV pool, of the KV type: [page][n_layers][2 (K, V)][n_kv_heads][page_size][head_dim], and within
 * a row of n 16-byte chunks, chunk c of the token in slot t of its page stands at c ^ x(t), so that
 * ldmatrix meets no bank conflict (x: qr_kv_swizzle in kv_layout.cuh).
 *
 * A row's result depends on its own q and on the K and V at positions [0, position] alone, in
 * every bit: keys are cut into splits of QR_CUDA_SPLIT at positions counted from 0, each computed
 * in one way and folded in one order by every kernel (split.cuh). The order differs from the CPU's.
 *
 * Threads: the engine's alone, but for qr_cuda_transfer_pages.
 */
#ifndef QUIRE_ATTENTION_CUDA_CUDA_ATTENTION_H
#define QUIRE_ATTENTION_CUDA_CUDA_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attention/attention.h"
#include "base/cuda/cuda.h"
#include "base/dtype.h"
#include "base/status.h"

enum {
    QR_CUDA_SPLIT = 128, /* keys a split */
    QR_CUDA_CASCADE_SAVES = 64 << 20,
    QR_CUDA_WIDE_ROWS = 128, /* from as many on cuBLASLt multiplies, which makes other bits too */
    QR_CUDA_ATTENTION_MAX_HEAD_DIM = 256, /* elements, a multiple of 8 (16 for E4M3) */
};

struct qr_cuda_attention_config {
    struct qr_kv_geometry kv;
    int32_t n_heads;          /* query heads, a multiple of n_kv_heads */
    int32_t rotary_dim;       /* elements of a head that turn, even; 0 stands for head_dim */
    enum qr_dtype activation; /* of q, k, v and out: F32, F16 or BF16 */
    enum qr_dtype kv_type;    /* as activation, or under F16 and BF16 also E4M3: the stored value
                                 times k_scale (v_scale) is the value */
    float k_scale, v_scale;   /* of E4M3; 0 stands for 1 */
    int32_t window;     /* of the layers that slide: keys a row sees, itself included; 0: none do */
    int32_t max_rows;   /* of a step */
    int32_t max_seqs;   /* of a step */
    int32_t max_blocks; /* pages of a sequence */
    bool deterministic; /* a row has the same bits also in steps of many rows */
    int32_t wide_rows;  /* else: what counts as many; 0: QR_CUDA_WIDE_ROWS */
    bool no_ranges;     /* neither prefixes that sequences share nor the keys of a long sequence of
                           which there are few rows are computed in ranges */
    int64_t cascade_saves; /* a shared prefix is computed once where that saves reading so many
                              bytes of KV in each layer; 0: QR_CUDA_CASCADE_SAVES */
};

/* Which kernels `attend` launches for a plan. */
enum {
    QR_ATTENTION_LAUNCHES_DECODE = 1, /* decode and merge */
    QR_ATTENTION_LAUNCHES_PREFILL = 2,
    QR_ATTENTION_LAUNCHES_RANGES = 4,  /* what is computed in ranges of keys, beside decode */
    QR_ATTENTION_LAUNCHES_GENERIC = 8, /* head_dims and types without a kernel of their own */
    QR_ATTENTION_LAUNCHES_WIDE = 16,   /* prefill by warpgroups */
};

/* Filled by open; the caller reads device_bytes, host_bytes and launches. */
struct qr_cuda_attention {
    struct qr_cuda *cuda; /* borrowed */
    struct qr_cuda_attention_config config;
    size_t device_bytes; /* workspace that set_memory wants, aligned to 256 */
    size_t host_bytes;   /* the same, pinned */
    uint32_t launches;   /* of the last plan: QR_ATTENTION_LAUNCHES_* */

    struct qr_cuda_kernel decode, merge, prefill, wide, generic;
    struct qr_cuda_kernel write_kv, copy_pages, transfer_pages;
    bool is_generic;          /* no mma kernel for this head_dim or type */
    int32_t n_ctas;           /* of the decode's grid */
    int32_t chain_queries;    /* query heads of one decode chain at most (plan.h) */
    int32_t n_chains;         /* of a row */
    int32_t queries_per_item; /* of the prefill, over all keys or in ranges */
    int32_t wide_rows;        /* of a step, from which `wide` does the prefill; 0: it never does */
    int32_t n_sms;            /* of the device */
    bool overlaps;            /* launches that allow it run side by side */
    int32_t n_prefill_ctas;   /* of the prefill's grid */
    int32_t max_states;       /* that the chains of a plan may leave, and behind them */
    int32_t max_parts;        /* those that ranges of their keys leave */
    int64_t state_floats;     /* from one state to the next */
    size_t plan_bytes;        /* the largest plan */
    size_t state_bytes;       /* all of these states */
    qr_cu_address plan;       /* device: struct qr_attention_plan and what follows it */
    qr_cu_address states;     /* device: float [max_states + max_parts][state_floats] */
    qr_cu_address totals;     /* device: float [n_prefill_ctas][qr_prefill_total_floats] */
    unsigned char *host;      /* pinned: [2][plan_bytes], used in turn; then scratch of planning */
    int32_t turn;             /* which half the next plan is written to */
    int32_t n_rows;           /* of the last plan */
    bool shares_all;          /* plan every shared prefix, however little it saves: the caller's */
};

struct qr_cuda_attend_params {
    int32_t layer;
    float scale;     /* of q . k, > 0, usually 1 / sqrt(head_dim) */
    bool sliding;    /* this layer's rows see config.window keys; false: all */
    float soft_cap;  /* scores s become cap * tanh(s / cap); 0: they stay */
    qr_cu_address q; /* [n_rows][n_heads][head_dim], aligned to 16 bytes */
    qr_cu_address kv_pool;
    qr_cu_address out; /* [n_rows][n_heads][head_dim] */
};

struct qr_page_copy {
    int32_t from, to; /* pages of the pool */
};

/* How a thread that swaps pages launches: not on the step's stream, nothing latched. */
struct qr_page_transfer {
    qr_cu_stream stream;
    bool to_host; /* false: from host memory to the pool */
    qr_cu_address kv_pool;
    int32_t n_pages;
    const int32_t *pages; /* [n_pages] distinct */
    void *const *host;    /* [n_pages] pinned memory of page bytes each, aligned to 16 */
};

QR_BEGIN_DECLS

/* Bytes of one page of the pool. */
size_t qr_cuda_kv_page_bytes(const struct qr_kv_geometry *kv, enum qr_dtype kv_type);

/*
 * Finds the kernels for this geometry. QR_ERR_UNSUPPORTED: head_dim is no multiple of 8 (16 for
 * E4M3) up to 256, or a pair of types that no kernel has; err says which. Allocates nothing.
 */
QR_MUST_CHECK enum qr_status qr_cuda_attention_open(struct qr_cuda *cuda,
                                                    const struct qr_cuda_attention_config *config,
                                                    struct qr_cuda_attention *out,
                                                    struct qr_error *err);
/* Lends device_bytes of device and host_bytes of pinned memory for as long as `attn` is used. */
void qr_cuda_attention_set_memory(struct qr_cuda_attention *attn, qr_cu_address device, void *host);

/*
 * Plans a step and enqueues one copy of the plan to the device. `batch` (host memory) is not read
 * afterwards. The pinned memory of a plan is written again two plans later: by then the step in
 * between must have been waited for, so step n + 1 may be planned while step n runs.
 * Rows of sequences with one query row decode; others prefill, or are computed in ranges of keys.
 */
void qr_cuda_attention_plan(struct qr_cuda_attention *attn, const struct qr_attention_batch *batch);

/*
 * Rotates q in place and k by their positions, then writes K and V into their pages, for all rows
 * of the plan. q [n_rows][n_heads][head_dim], k, v [n_rows][n_kv_heads][head_dim]; rope_table F32
 * [max_position][rotary_dim / 2][2 (cos, sin)], 0: no rotation. Pairs (i, i + rotary_dim / 2).
 */
void qr_cuda_rope_and_write_kv(struct qr_cuda_attention *attn, int32_t layer, qr_cu_address q,
                               qr_cu_address k, qr_cu_address v, qr_cu_address rope_table,
                               qr_cu_address kv_pool);

/* Attention of all rows of the plan, over pages that hold their K and V. */
void qr_cuda_attend(struct qr_cuda_attention *attn, const struct qr_cuda_attend_params *params);

/* Copies whole pages, as if one after the other; one launch unless a page that is read is written
 * later on. */
void qr_cuda_copy_pages(struct qr_cuda_attention *attn, qr_cu_address kv_pool,
                        const struct qr_page_copy *copies, int32_t n_copies);

/* Copies whole pages between the pool and pinned host memory by a kernel on few multiprocessors.
 * From any thread that has attached itself to the device. */
qr_cu_result qr_cuda_transfer_pages(const struct qr_cuda_attention *attn,
                                    const struct qr_page_transfer *transfer);

QR_END_DECLS

#endif /* QUIRE_ATTENTION_CUDA_CUDA_ATTENTION_H */
