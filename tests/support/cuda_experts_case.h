/*
 * cuda_experts_case.h - mixtures of experts with random weights for tests of the device's kernels.
 * What fails ends the test.
 */
#ifndef QUIRE_TESTS_SUPPORT_CUDA_EXPERTS_CASE_H
#define QUIRE_TESTS_SUPPORT_CUDA_EXPERTS_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/ops/cuda/cuda_experts.h"
#include "tests/support/cuda_ops_rig.h"

struct experts_shape {
    int32_t hidden;
    int32_t inner;
    int32_t n_experts;
    int32_t n_used;
    int32_t n_rows;
};

/* Matrices of an expert, in this order. */
enum { EXPERTS_GATE, EXPERTS_UP, EXPERTS_DOWN, EXPERTS_MATRICES };

struct experts_problem {
    struct experts_shape shape;
    enum qr_cuda_type type;
    enum qr_cuda_type activation;
    bool renormalizes;
    void *router;  /* host, activation [n_experts][hidden] */
    char *weight;  /* host, [n_experts][EXPERTS_MATRICES] matrices, every weight_stride bytes */
    float *scales; /* host, [n_experts][EXPERTS_MATRICES][scale_stride], or NULL */
    size_t weight_stride;
    size_t scale_stride;
    void *x;         /* host, activation [n_rows][hidden] */
    float *residual; /* host, [n_rows][hidden] */
};

struct experts_bench {
    struct cuda_ops_rig rig;
    struct qr_cuda_matmul matmul;
    struct qr_cuda_experts experts;
    struct qr_cuda_expert_layer layer;
    const char *x; /* device */
};

/* Of a matrix of every expert. */
int32_t experts_n_out(const struct experts_problem *problem, int matrix);
int32_t experts_n_in(const struct experts_problem *problem, int matrix);
/* Host, [n_out] rows of qr_cuda_row_bytes. */
const char *experts_matrix(const struct experts_problem *problem, int32_t e, int matrix);

struct experts_problem *experts_problem_make(enum qr_cuda_type type, enum qr_cuda_type activation,
                                             const struct experts_shape *shape, bool renormalizes);
void experts_problem_free(struct experts_problem *problem);

/* Closed by cuda_ops_rig_close. */
void experts_bench_open(struct experts_bench *bench, const struct experts_problem *problem,
                        enum qr_cuda_experts_kernel kernel);
/* Adds the experts of rows [first, first + n_rows) of the problem, n_live of them (-1: all), and
 * returns the residual of all its rows, for the caller to free(). */
float *experts_bench_run(struct experts_bench *bench, const struct experts_problem *problem,
                         int32_t first, int32_t n_rows, int32_t n_live);

#endif /* QUIRE_TESTS_SUPPORT_CUDA_EXPERTS_CASE_H */
