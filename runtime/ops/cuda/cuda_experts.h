/*
 * cuda_experts.h - a mixture of experts on the device: residual[r] += sum over the experts e that
 * the router chose for row r of weight_e * down_e(act(gate_e x[r]) * up_e x[r]), in ascending e.
 *
 * The host knows nothing of the routing, so what is enqueued is the same whatever was chosen: the
 * router's logits (cuda_matmul.h), the choice, which also sorts the rows by expert and cuts them in
 * tiles, then gate and up of all tiles, down of all tiles, and the sum. The grids hold the most
 * tiles that the choice may make, and a block without one ends at once.
 *
 * The sums of a row have the order of the dense products whatever rows come with it. The only thing
 * that may differ with n_rows are the router's logits where cuBLASLt computes them.
 *
 * Kernels: for F32, for tiles of 8 rows ("few"; each reads the expert's weights), and of 32
 * ("many", through shared memory).
 *
 * Threads: the engine's. Work is enqueued; failures are latched (base/cuda/cuda.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_EXPERTS_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_EXPERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/ops/cuda/cuda_matmul.h"
#include "runtime/ops/cuda/experts_params.h"
#include "runtime/ops/op_types.h"

enum qr_cuda_experts_kernel {
    QR_CUDA_EXPERTS_AUTO, /* the rule of cuda_experts.c */
    QR_CUDA_EXPERTS_FEW,
    QR_CUDA_EXPERTS_MANY,
};

struct qr_cuda_experts_config {
    enum qr_cuda_type activation; /* F32, F16 or BF16 */
    int32_t hidden_size;          /* a multiple of 8, unless F32 */
    int32_t expert_size;          /* the same */
    int32_t n_experts;            /* at most QR_EXPERTS_MAX */
    int32_t n_used;               /* at most QR_EXPERTS_MAX_USED, and n_experts */
    int32_t max_rows;
    enum qr_cuda_experts_kernel kernel; /* AUTO but in tests */
};

/* The products with the matrices of one type. */
struct qr_cuda_expert_kernels {
    struct qr_cuda_kernel gate_up;
    struct qr_cuda_kernel down;
};

struct qr_cuda_experts {
    struct qr_cuda *cuda; /* borrowed */
    struct qr_cuda_experts_config config;
    struct qr_cuda_kernel route;
    struct qr_cuda_kernel combine;
    struct qr_cuda_expert_kernels few[QR_CUDA_N_TYPES]; /* [weight type]; F32's are here */
    struct qr_cuda_expert_kernels many[QR_CUDA_N_TYPES];

    /* Device memory. A pass has up to pass_rows rows, and n_used pairs for each. */
    int32_t pass_rows;
    float *logits; /* [pass_rows][n_experts] */
    struct qr_routing routing;
    int32_t *n_done;
    void *inner;     /* activation [pairs][expert_size] */
    float *partials; /* [pairs][hidden_size] */
};

/* The experts of a layer. */
struct qr_cuda_expert_layer {
    struct qr_cuda_matrix router;          /* [n_experts][hidden_size] */
    const struct qr_expert_weights *table; /* device, [n_experts] */
    enum qr_cuda_type type;                /* of gate, up and down */
    bool renormalizes;
    enum qr_activation activation;
};

QR_BEGIN_DECLS

/* Bytes of device workspace. */
size_t qr_cuda_experts_workspace_bytes(const struct qr_cuda_experts_config *config);

/* QR_ERR_UNSUPPORTED: sizes that are no multiples of 8 and not F32. Finds the kernels and enqueues
 * the clearing of a counter. workspace: device memory of at least
 * qr_cuda_experts_workspace_bytes, aligned to 256, that outlives *out. Nothing to close. */
QR_MUST_CHECK enum qr_status qr_cuda_experts_open(struct qr_cuda *cuda,
                                                  const struct qr_cuda_experts_config *config,
                                                  void *workspace, struct qr_cuda_experts *out,
                                                  struct qr_error *err);

/*
 * x: device, activation [n_rows][hidden_size], aligned to 16; residual: device, F32
 * [n_rows][hidden_size]. n_live: device, [1] how many rows there really are when this runs, which
 * may be less than n_rows: the others stay as they are, and no weights are read for them; NULL: all
 * are. matmul: for the router's logits, of the same activation type.
 */
void qr_cuda_experts_add(struct qr_cuda_experts *experts, struct qr_cuda_matmul *matmul,
                         const struct qr_cuda_expert_layer *layer, const void *x, int32_t n_rows,
                         const int32_t *n_live, float *residual);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_EXPERTS_H */
