/* tensor.h - a weight tensor: where its numbers are, and what they mean. */
#ifndef QUIRE_RUNTIME_WEIGHTS_TENSOR_H
#define QUIRE_RUNTIME_WEIGHTS_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

enum { QR_TENSOR_MAX_DIMS = 4 };

/* What a matrix is for. */
enum qr_tensor_use {
    QR_USE_MULTIPLIED,
    QR_USE_TABLE,  /* only single rows of it are read */
    QR_USE_HEAD,   /* multiplied: the products are logits; its rows may be read as well */
    QR_USE_ROUTER, /* multiplied: the products choose experts */
};

/*
 * A tensor of a checkpoint, until a device takes it over (load_weight of runtime/ops/ops.h):
 * then `data`, `dtype` and `scales` are what the device made of it.
 */
struct qr_tensor {
    enum qr_dtype dtype;
    int32_t n_dims;
    int64_t dims[QR_TENSOR_MAX_DIMS]; /* row-major, outermost first */
    const void *data;                 /* [dims...] of dtype, borrowed from the checkpoint;
                                         aligned to the element size. NULL: `synthetic` */
    /*
     * Of the 8-bit dtypes, in rows of ceil(dims[1] / scale_columns): element (n, k) is data[n][k] *
     * scales[(n + scale_first_row) / scale_rows][k / scale_columns]. Where a device has quantised
     * it: device memory, [dims[0]], one for each row. NULL: there are none.
     */
    const float *scales;
    int32_t scale_rows;
    int32_t scale_columns;
    int32_t scale_first_row; /* where the first row stands among those that share its scales */
    enum qr_tensor_use use;
    const char *name;       /* of a matrix, while a device takes it over; NULL: it is not kept */
    bool is_packed;         /* data are the CPU device's tiles, runtime/ops/cpu/packed.h */
    bool synthetic;         /* a device that fills such tensors itself is to fill this one, */
    uint64_t synthetic_key; /* from these two, as qr_synthetic_fill_elements does */
    float synthetic_bound;
};

QR_BEGIN_DECLS

int64_t qr_tensor_n_elements(const struct qr_tensor *tensor);
/* Of the data of a tensor whose last dimension is a multiple of the block size; no scales. */
int64_t qr_tensor_n_bytes(const struct qr_tensor *tensor);
/* Rows [first, first + n_rows) of a matrix in host memory, scaled, as F32: out [n_rows][dims[1]] */
void qr_tensor_widen_rows(const struct qr_tensor *matrix, int64_t first, int64_t n_rows,
                          float *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_TENSOR_H */
