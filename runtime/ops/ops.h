/*
 * ops.h - the operations a model is written against, one table for each backend.
 *
 * Activations are `void *`: memory of the device, in the device's own activation
 * type (F32 on the CPU), row-major, one row a token. Ops only enqueue work; the
 * first failure is latched in the device and read once a step by `end_step`.
 * Engine thread only. Every op keeps decision 4 of the design: the result of a row
 * depends on that row alone, and reductions run in one order whatever n_rows is.
 */
#ifndef QUIRE_RUNTIME_OPS_OPS_H
#define QUIRE_RUNTIME_OPS_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "attention/attention.h"
#include "base/status.h"
#include "runtime/weights/checkpoint.h"

/* One step's rows. All arrays are host memory, valid until end_step. */
struct qr_batch {
    int32_t n_rows;
    const int32_t *token_ids; /* [n_rows] */
    const int32_t *positions; /* [n_rows] */
    struct qr_attention_batch attention;
    int32_t n_logit_rows;
    const int32_t *logit_rows; /* [n_logit_rows] rows whose logits are wanted, ascending */
};

struct qr_device;

struct qr_ops {
    const char *name; /* "cpu", "cuda" */

    /* Device memory, zeroed; NULL when exhausted. Only before the first step. */
    void *(*alloc)(struct qr_device *dev, size_t n_bytes);
    void (*free)(struct qr_device *dev, void *ptr);
    /* Bytes of one activation element and of one KV element. */
    size_t activation_size;
    size_t kv_size;

    /* Tables for `rope` with this theta; once, before the first step. */
    enum qr_status (*prepare_rope)(struct qr_device *dev, int32_t head_dim, float theta,
                                   int32_t max_position);

    /* Copies a whole page within kv_pool, in the order of the calls; between steps, and done
     * before the rows of the next one. */
    void (*copy_page)(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t from,
                      int32_t to);
    /* One page of kv_pool to and from host memory [page_bytes], copied on return. From any
     * thread, also during a step, which does not touch that page. */
    void (*read_page)(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t page,
                      void *to);
    void (*write_page)(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t page,
                       const void *from);

    void (*begin_step)(struct qr_device *dev, const struct qr_batch *batch);
    /* Waits for the step's work; the first failure of any op since begin_step. */
    enum qr_status (*end_step)(struct qr_device *dev, struct qr_error *err);

    /* out[r] = table[token_ids[r]]; table [vocab][dim], out [n_rows][dim] */
    void (*embed)(struct qr_device *dev, const struct qr_tensor *table, void *out);
    /* out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight; x, out [n_rows][dim], weight [dim] */
    void (*rms_norm)(struct qr_device *dev, const void *x, const struct qr_tensor *weight,
                     float eps, int32_t n_rows, void *out);
    /* out[r] = W x[r]; W [n_out][n_in], x [n_rows][n_in], out [n_rows][n_out] */
    void (*matmul)(struct qr_device *dev, const struct qr_tensor *weight, const void *x,
                   int32_t n_rows, void *out);
    /* x += y; both [n_rows][dim] */
    void (*add)(struct qr_device *dev, void *x, const void *y, int32_t n_rows, int32_t dim);
    /* Rotates pairs (i, i + head_dim / 2) of each head by position * theta^(-2i / head_dim), as
     * prepared; x [n_rows][n_heads][head_dim]. RoFormer, Su et al., 2021, half-split pairing. */
    void (*rope)(struct qr_device *dev, void *x, int32_t n_heads, int32_t head_dim);
    /* k, v [n_rows][n_kv_heads][head_dim] into the pages of `layer` */
    void (*kv_write)(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                     const void *k, const void *v, void *kv_pool);
    /* q, out [n_rows][n_heads][head_dim] */
    void (*attend)(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                   int32_t n_heads, float scale, const void *q, const void *kv_pool, void *out);
    /* gate = silu(gate) * up; both [n_rows][dim] */
    void (*swiglu)(struct qr_device *dev, void *gate, const void *up, int32_t n_rows, int32_t dim);
    /* out[i] = x[logit_rows[i]]; x [n_rows][dim], out [n_logit_rows][dim] */
    void (*gather_logit_rows)(struct qr_device *dev, const void *x, int32_t dim, void *out);
    /* Copies logits [n_logit_rows][vocab] to host F32; valid after end_step. */
    void (*read_logits)(struct qr_device *dev, const void *logits, int32_t vocab_size, float *host);

    void (*destroy)(struct qr_device *dev); /* accepts NULL */
};

/* The common head of every backend's device; backends embed it as their first member. */
struct qr_device {
    const struct qr_ops *ops;
    const struct qr_batch *batch; /* of the running step */
};

struct qr_device_config {
    int32_t n_threads; /* CPU threads, the engine's included; 0: one a core */
    const char *isa;   /* NULL or "auto", else a name of qr_isa_parse */
};

QR_BEGIN_DECLS

/* backend: "auto" or "cpu". The one place that knows which backends were built in. */
QR_MUST_CHECK enum qr_status qr_device_open(const char *backend,
                                            const struct qr_device_config *config,
                                            struct qr_device **out, struct qr_error *err);
void qr_device_close(struct qr_device *dev); /* accepts NULL */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_OPS_H */
