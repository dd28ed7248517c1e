/* attention_plan_internal.h - what the files that plan a step share. */
#ifndef QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H
#define QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H

#include "attention/cuda/attention_plan.h"

/* A sequence that decodes. */
struct decode_seq {
    int32_t seq;
    int32_t row;
    int32_t n_keys;
    int32_t table;
    int32_t group;   /* of sequences that share a prefix */
    int32_t prefix;  /* keys that are computed with others; a multiple of a split */
    int32_t parts;   /* state of the prefix's first part for its first chain */
    int32_t n_parts; /* of a chain */
};
struct prefix_group {
    int32_t leader; /* decode_seq */
    int32_t first_page;
    int32_t n_members;
    int32_t prefix; /* keys, a multiple of a split */
};
struct planner {
    struct qr_cuda_attention *attn;
    const struct qr_attention_batch *batch;
    struct qr_attention_plan *plan;
    size_t at; /* bytes of the plan so far */
    struct decode_seq *decodes;
    struct prefix_group *groups;
    int32_t n_decodes;
    int32_t n_groups;
};

static inline const int32_t *qr_plan_table_of_seq(const struct qr_attention_batch *batch,
                                                  int32_t seq)
{
    return batch->block_table + (size_t)seq * (size_t)batch->block_table_stride;
}

/* The plan's next array: where it starts. */
void *qr_plan_begin_array(struct planner *p, uint32_t *offset);
void qr_plan_end_array(struct planner *p, size_t n_bytes);

/*
 * Items of n queries; the last first, as those see the most keys and should not start last.
 * Query q stands at position first_position + q / group, or (cascade) anywhere from there on.
 * Returns how many items there are.
 */
int32_t qr_plan_write_items(const struct qr_cuda_attention *attn, struct qr_prefill_item *items,
                            struct qr_prefill_item like, int32_t n_queries, int32_t first_position,
                            bool grows);

/* Finds the prefixes that pay, writes their items and says in p->decodes what was taken. */
void qr_plan_shared_prefixes(struct planner *p);

#endif /* QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_INTERNAL_H */
