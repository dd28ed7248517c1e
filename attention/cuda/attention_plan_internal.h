/* attention_plan_internal.h - what the files that plan a step share. */
#ifndef QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H
#define QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H

#include "attention/cuda/attention_plan.h"

/* A row of which chains are folded: the only one of its sequence, or, where the rows of a sequence
 * are computed in ranges of its keys, one of those. */
struct decode_row {
    int32_t seq;
    int32_t index; /* of the row, in the step */
    int32_t n_keys;
    int32_t table;
    int32_t group;   /* of rows */
    int32_t prefix;  /* keys that are computed in ranges, with the other rows of the group */
    int32_t parts;   /* state of the prefix's first part for its first chain */
    int32_t n_parts; /* of a chain */
};
/* Rows that may read the same first keys together: of sequences that share them, or of one. */
struct row_group {
    int32_t leader; /* decode_row */
    int32_t first_page;
    int32_t n_members;
    int32_t prefix;       /* keys; of several sequences a multiple of a split; 0: none */
    bool is_one_sequence; /* whose rows are too few to fill the device without ranges */
};
struct planner {
    struct qr_cuda_attention *attn;
    const struct qr_attention_batch *batch;
    struct qr_attention_plan *plan;
    size_t at; /* bytes of the plan so far */
    struct decode_row *decodes;
    struct row_group *groups;
    int32_t n_decodes;
    int32_t n_groups;
    bool cuts_rows; /* sequences of several rows and many keys are computed in ranges of these */
};

static inline int32_t qr_plan_rows_of_seq(const struct qr_attention_batch *batch, int32_t seq)
{
    return batch->query_start[seq + 1] - batch->query_start[seq];
}

static inline const int32_t *qr_plan_table_of_seq(const struct qr_attention_batch *batch,
                                                  int32_t seq)
{
    return batch->block_table + (size_t)seq * (size_t)batch->block_table_stride;
}

/* [plan->n_rows], once they are written. */
static inline const struct qr_plan_row *qr_plan_rows(const struct planner *p)
{
    return (const void *)((const unsigned char *)p->plan + p->plan->rows);
}

/* The plan's next array: where it starts. */
void *qr_plan_begin_array(struct planner *p, uint32_t *offset);
void qr_plan_end_array(struct planner *p, size_t n_bytes);

/*
 * Items of n queries; the last first, as those see the most keys and should not start last.
 * Query q stands at position first_position + q / group, or (in ranges) anywhere from there on.
 * Returns how many items there are.
 */
int32_t qr_plan_write_items(const struct planner *p, struct qr_prefill_item *items,
                            struct qr_prefill_item like, int32_t n_queries, int32_t first_position,
                            bool grows);

/* Finds the rows whose first keys are computed in ranges, writes their items and says in p->decodes
 * what was taken of them. */
void qr_plan_ranges(struct planner *p);

/* Whether a sequence's rows are, and the most rows of a step for which that holds. */
bool qr_plan_cuts_seq(const struct planner *p, int32_t seq);
int32_t qr_plan_max_cut_rows(const struct qr_cuda_attention *attn);

#endif /* QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H */
