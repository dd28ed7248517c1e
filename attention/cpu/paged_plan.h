/*
 * paged_plan.h - how the work of one call is cut for the threads: every sequence into blocks of
 * queries, and the blocks of a long context into pieces of its splits, where the blocks alone are
 * too few or too different in length to keep all threads busy.
 *
 * Each split's state is computed in one way, wherever it is computed, and states are merged in one
 * order (attention.h): a plan changes no result. So it may depend on the number of threads, and a
 * sequence for whose states no memory is left stays whole.
 */
#ifndef QUIRE_ATTENTION_CPU_PAGED_PLAN_H
#define QUIRE_ATTENTION_CPU_PAGED_PLAN_H

#include "attention/cpu/paged_attention.h"

struct qr_paged_seq_plan {
    int64_t first_item;  /* of the call: its blocks by kv head, then by rows, then by pieces */
    int64_t first_merge; /* the same of the blocks whose pieces have to be merged */
    int64_t n_blocks;    /* of each kv head */
    int32_t first_key;   /* of its first split that is seen */
    int32_t n_splits;    /* from there on */
    int32_t n_pieces;    /* of each block; 1: it is whole */
    float *states;       /* [n_heads * rows][n_splits][state floats]; NULL: it is whole */
};

struct qr_attention_workspace {
    struct qr_paged_seq_plan *seqs; /* [max_seqs + 1]; behind the last: where items end */
    int32_t max_seqs;
    float *states; /* [n_state_floats] */
    size_t n_state_floats;
};

/* Plans a call on so many threads. */
void qr_paged_plan(const struct qr_attention_params *params, int32_t n_threads,
                   struct qr_attention_workspace *workspace);

/* Item `item` of the plan, and block `merge` of those to be merged. */
struct qr_attention_block qr_paged_plan_item(const struct qr_attention_params *params,
                                             const struct qr_attention_workspace *workspace,
                                             int64_t item);
struct qr_attention_block qr_paged_plan_merge(const struct qr_attention_params *params,
                                              const struct qr_attention_workspace *workspace,
                                              int64_t merge);

#endif /* QUIRE_ATTENTION_CPU_PAGED_PLAN_H */
