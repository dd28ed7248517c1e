/* attention_plan.h - planning of a step on the host; the layout of a plan is in plan.h. */
#ifndef QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_H
#define QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_H

#include "attention/cuda/cuda_attention.h"
#include "attention/cuda/plan.h"

/* Bytes of the largest plan, and of what planning needs besides. attn: as open has filled it. */
size_t qr_attention_plan_bytes(const struct qr_cuda_attention *attn);
size_t qr_attention_scratch_bytes(const struct qr_cuda_attention *attn);

/* Writes the plan of `batch` at `plan`; the bytes it takes. Sets attn->launches. */
size_t qr_attention_plan_write(struct qr_cuda_attention *attn,
                               const struct qr_attention_batch *batch, void *scratch,
                               struct qr_attention_plan *plan);

#endif /* QUIRE_ATTENTION_CUDA_ATTENTION_PLAN_H */
