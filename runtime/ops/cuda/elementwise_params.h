/*
 * elementwise_params.h - what the kernels of cuda_elementwise.h are given. Types are
 * enum qr_cuda_type; pointers are device memory aligned to 16.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_ELEMENTWISE_PARAMS_H
#define QUIRE_RUNTIME_OPS_CUDA_ELEMENTWISE_PARAMS_H

#include <stdint.h>

enum {
    QR_ELEMENTWISE_THREADS = 256,
    QR_ELEMENTWISE_GROUP = 8, /* elements of a thread */
    QR_ELEMENTWISE_PER_BLOCK = QR_ELEMENTWISE_THREADS * QR_ELEMENTWISE_GROUP,
    QR_NORM_THREADS = 256,
    QR_QUANTIZE_THREADS = 256,
};

/* Block (x, y): columns from y * QR_ELEMENTWISE_PER_BLOCK on of row x. */
struct qr_rows_params {
    const void *from;    /* rows of row_bytes */
    const int32_t *rows; /* [n_rows] which row of `from` */
    const float *scales; /* of the rows of `from`, or NULL */
    float *to;           /* [n_rows][dim] */
    int64_t row_bytes;
    int32_t type; /* of `from` */
    int32_t dim;
    float factor; /* of what is copied */
    int32_t adds; /* to what stands in `to` */
};

/* A block for each row. */
struct qr_norm_params {
    const void *x;      /* [n_rows][dim] */
    const void *weight; /* [dim] */
    const void *bias;   /* [dim], or NULL */
    void *out;          /* [n_rows][dim], may be x */
    int32_t dim;
    float eps;
    float weight_offset; /* added to each weight */
    int32_t x_type;
    int32_t weight_type;
    int32_t bias_type;
    int32_t out_type;
    int32_t subtract_mean; /* LayerNorm, else RMSNorm */
    int32_t adds;          /* to what stands in out, which is F32 then */
};

struct qr_activate_params {
    void *gate;     /* [n] */
    const void *up; /* [n], or NULL */
    int64_t n;
    int32_t type;
    int32_t activation; /* enum qr_activation */
};

/* Block (x, y): columns from y * QR_ELEMENTWISE_PER_BLOCK on of row x. */
struct qr_add_bias_params {
    void *x;          /* [n_rows][dim] */
    const void *bias; /* [dim] */
    int32_t type;     /* of x */
    int32_t bias_type;
    int32_t dim;
};

struct qr_soft_cap_params {
    float *x; /* [n] */
    int64_t n;
    float cap;
};

struct qr_convert_params {
    const void *from; /* [n] */
    void *to;         /* [n] */
    int64_t n;
    int32_t from_type;
    int32_t to_type;
};

struct qr_fill_params {
    void *data; /* [n] */
    int64_t n;
    uint64_t key;
    float bound; /* 0: ones */
    int32_t type;
};

/* A block for each row. */
struct qr_quantize_params {
    const void *from; /* [n_out][n_in] */
    void *to;         /* rows of row_bytes */
    float *scales;    /* [n_out] */
    int64_t row_bytes;
    int32_t n_in;
    int32_t from_type;
    int32_t to_type;
    int32_t unused;
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_ELEMENTWISE_PARAMS_H */
