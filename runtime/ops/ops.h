/*
 * ops.h - the operations a model is written against, one table for each backend.
 *
 * Tensors of a step are `void *`: memory of the device, row-major, one row a token. They have
 * one of three element types, which the device chooses when it learns of the model: the
 * residual stream has the residual type, everything else between two ops the activation type,
 * KV pages the KV type (struct qr_device; all F32 on the CPU). Logits are F32 everywhere.
 *
 * Life of a device: open, prepare once, load_weight for each weight, load_experts for the experts
 * of each layer, alloc, then steps. In a step ops only enqueue work; the first failure is latched
 * in the device and read once a step by `end_step`. Engine thread only, but for read_pages and
 * write_pages. Every op keeps decision 4 of the design: the result of a row depends on that row
 * alone, and reductions run in one order whatever n_rows is.
 */
#ifndef QUIRE_RUNTIME_OPS_OPS_H
#define QUIRE_RUNTIME_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attention/attention.h"
#include "base/status.h"
#include "runtime/ops/op_types.h"
#include "runtime/ops/rope.h"
#include "runtime/sampling/selection.h"
#include "runtime/weights/checkpoint.h"

enum { QR_MATMUL_MAX = 3 }; /* matrices of one matmul */

/* A row of logits on the host. */
struct qr_logit_row {
    const float *logits;           /* [vocab_size]; NULL: there is the selection instead */
    struct qr_selection selection; /* at least what was wished for. Of a whole row: largest and
                                      sum_exp, or a sum_exp of 0, and NaN of an invalid row. */
    struct qr_selection edited;    /* where the wish has edits: of the row as they make it, and
                                      `selection` of it as it came; n 0: there are none */
};

/* One step's rows. All arrays are host memory, valid until end_step. */
struct qr_batch {
    int32_t n_rows;
    const int32_t *token_ids; /* [n_rows] */
    const int32_t *positions; /* [n_rows] */
    struct qr_attention_batch attention;
    int32_t n_logit_rows;
    const int32_t *logit_rows; /* [n_logit_rows] rows whose logits are wanted, ascending */
    const struct qr_logit_wish *logit_wishes; /* [n_logit_rows]; NULL: whole rows */
};

/* What KV pages hold. A device that cannot have what is asked for refuses it in prepare. */
enum qr_kv_dtype {
    QR_KV_DTYPE_AUTO, /* the device's choice for the weights */
    QR_KV_DTYPE_F32,
    QR_KV_DTYPE_F16,
    QR_KV_DTYPE_BF16,
    QR_KV_DTYPE_FP8, /* E4M3 */
};

/* What a device must know of a model and its steps before it takes memory for them. */
struct qr_device_needs {
    enum qr_dtype weight_dtype; /* that most bytes of the checkpoint have */
    int64_t n_weight_bytes;     /* at least those of all tensors that load_weight will get */
    enum qr_kv_dtype kv_dtype;
    int32_t hidden_size;
    int32_t intermediate_size;
    int32_t vocab_size;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    struct qr_rope rope;
    int32_t window;    /* of the layers whose attention slides; 0: none does */
    int32_t n_experts; /* of a layer; 0: the model is dense */
    int32_t n_experts_used;
    int32_t expert_size;    /* an expert's intermediate size */
    int32_t max_position;   /* tokens of the longest sequence that will be run */
    int32_t page_size;      /* tokens of a KV page */
    int32_t max_blocks;     /* pages of the longest sequence: the largest block_table_stride */
    int32_t max_rows;       /* of one step */
    int32_t max_logit_rows; /* of one step */
    int32_t max_seqs;       /* of one step */
    int32_t max_draws;      /* tokens drawn in one step, by all its wishes */
    int32_t max_edits;      /* of logits in one step, by all its wishes */
};

/* What memory is for: a device may take all of a kind in one piece. */
enum qr_memory_kind {
    QR_MEMORY_WEIGHTS,   /* what load_weight takes */
    QR_MEMORY_KV,        /* the pool of pages, one allocation */
    QR_MEMORY_WORKSPACE, /* activations and logits */
    QR_MEMORY_KINDS,
};

struct qr_device;

struct qr_ops {
    const char *name; /* "cpu/avx2", "cuda" */

    /*
     * Makes the device ready for a model: element sizes, tables, scratch memory. Once, before
     * all that follows. QR_ERR_NOMEM says how much is missing, also where weights and
     * workspace would leave nothing for KV pages.
     */
    enum qr_status (*prepare)(struct qr_device *dev, const struct qr_device_needs *needs,
                              struct qr_error *err);
    /*
     * Takes over a weight, each once, before the first step. The device may leave it where it
     * is, or set data, dtype and scales to a copy, converted or quantised, that it owns until
     * it is closed. A `synthetic` tensor, which comes only to a device that fills_synthetic, is
     * filled here.
     */
    enum qr_status (*load_weight)(struct qr_device *dev, struct qr_tensor *tensor,
                                  struct qr_error *err);
    /*
     * A device may keep what it has made of matrices for the next start (--weights-cache).
     * begin_weights comes before the first weight, end_weights after the last one, both with where
     * they are from. In between, find_weight takes over a matrix of which name, use, dtype and dims
     * are set, from what was kept, like load_weight; false: it was not, and load_weight is to get
     * it.
     */
    void (*begin_weights)(struct qr_device *dev, const struct qr_checkpoint *checkpoint);
    bool (*find_weight)(struct qr_device *dev, struct qr_tensor *tensor);
    void (*end_weights)(struct qr_device *dev, const struct qr_checkpoint *checkpoint);
    /* Once for each layer's experts, when load_weight has taken their tensors, of which gate, up
     * and down have one type then. */
    enum qr_status (*load_experts)(struct qr_device *dev, struct qr_experts *experts,
                                   struct qr_error *err);
    /* Bytes left for the KV pool when all weights are loaded, less the device's stated reserve;
     * 0: the device does not say. */
    int64_t (*kv_memory_available)(struct qr_device *dev);
    /* Device memory, zeroed; NULL when exhausted. Only before the first step. */
    void *(*alloc)(struct qr_device *dev, size_t n_bytes, enum qr_memory_kind kind);
    void (*free)(struct qr_device *dev, void *ptr);

    /* Copies a whole page within kv_pool, in the order of the calls; between steps, and done
     * before the rows of the next one. */
    void (*copy_page)(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t from,
                      int32_t to);
    /* Pages of kv_pool to and from host memory, pages[i] [page_bytes] to to[i]; i in [0, n);
     * copied on return. From any thread, also during a step, which touches none of them. False:
     * the device failed, what was to be written is undefined. */
    bool (*read_pages)(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t n,
                       const int32_t *pages, void *const *to);
    bool (*write_pages)(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t n,
                        const int32_t *pages, const void *const *from);
    /* Host memory [n_bytes], from the start of a page of the system on, that those two are often
     * given: the device reaches it directly until unpin_memory, which comes before it is freed.
     * From the thread that moves pages. False: not so, they go on as with other memory. NULL: all
     * memory is alike. */
    bool (*pin_memory)(struct qr_device *dev, void *memory, size_t n_bytes);
    void (*unpin_memory)(struct qr_device *dev, void *memory);

    /*
     * Shapes of steps that the device wants to capture and run again without the model (CUDA
     * graphs): each begin_capture gives a batch whose ops the model then enqueues once, up to
     * end_capture; NULL after the last shape. After the KV pool was allocated, before the first
     * step. The batch computes nothing: what is captured runs later.
     */
    const struct qr_batch *(*begin_capture)(struct qr_device *dev);
    enum qr_status (*end_capture)(struct qr_device *dev, struct qr_error *err);
    /* False: the step has been captured and is under way; the model enqueues nothing. */
    bool (*begin_step)(struct qr_device *dev, const struct qr_batch *batch);
    /* Waits for the step's work; the first failure of any op since begin_step. */
    enum qr_status (*end_step)(struct qr_device *dev, struct qr_error *err);

    /* out[r] = table[token_ids[r]] * factor; table [vocab][dim], out residual [n_rows][dim] */
    void (*embed)(struct qr_device *dev, const struct qr_tensor *table, float factor, void *out);
    /* x[r] += table[positions[r]]; table [max_position][dim], x residual [n_rows][dim] */
    void (*add_positions)(struct qr_device *dev, const struct qr_tensor *table, void *x);
    /* out[r] = norm(x[r]); x residual [n_rows][dim], out activation [n_rows][dim] */
    void (*norm)(struct qr_device *dev, const struct qr_norm *norm, const void *x, int32_t n_rows,
                 void *out);
    /* residual[r] += norm(x[r]); x activation [n_rows][dim], residual [n_rows][dim] */
    void (*norm_add)(struct qr_device *dev, const struct qr_norm *norm, const void *x,
                     int32_t n_rows, void *residual);
    /* x[r][h] = norm(x[r][h]); x activation [n_rows][n_heads][dim] */
    void (*norm_heads)(struct qr_device *dev, const struct qr_norm *norm, int32_t n_rows,
                       int32_t n_heads, void *x);
    /* outs[i][r] = W x[r] + b with W, b = maps[i], i in [0, n), n at most QR_MATMUL_MAX;
     * W [n_out][n_in], all of one n_in, x activation [n_rows][n_in], outs[i] activation
     * [n_rows][n_out], apart from x and from one another */
    void (*matmul)(struct qr_device *dev, int32_t n, const struct qr_linear *const *maps,
                   const void *x, int32_t n_rows, void *const *outs);
    /* residual[r] += W x[r] + b; W [hidden_size][n_in], x activation [n_rows][n_in],
     * residual [n_rows][hidden_size] */
    void (*matmul_add)(struct qr_device *dev, const struct qr_linear *map, const void *x,
                       int32_t n_rows, void *residual);
    /* residual[r] += sum over the chosen experts e of weight_e * down_e(act(gate_e x[r]) * up_e
     * x[r]), in ascending e; x activation [n_rows][hidden], residual [n_rows][hidden]. `experts` as
     * loaded, of the sizes prepared. A row of NaN chooses some experts. */
    void (*experts_add)(struct qr_device *dev, const struct qr_experts *experts, const void *x,
                        int32_t n_rows, void *residual);
    /*
     * Rotates pairs (i, i + rotary_dim / 2) of each head of q and k by the angles of `rope` as
     * prepared (RoFormer, Su et al., 2021, half-split pairing), and writes k and v into the pages
     * of `layer`. All activation: q [n_rows][n_heads][head_dim], rotated on return;
     * k [n_rows][n_kv_heads][head_dim], of undefined content on return;
     * v [n_rows][n_kv_heads][head_dim].
     */
    void (*rope_and_write_kv)(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                              int32_t n_heads, void *q, void *k, const void *v, void *kv_pool);
    /* q, out activation [n_rows][n_heads][head_dim]; a window is 0 or as prepared */
    void (*attend)(struct qr_device *dev, const struct qr_kv_geometry *kv,
                   const struct qr_attend_spec *spec, const void *q, const void *kv_pool,
                   void *out);
    /* gate = act(gate) * up, or act(gate) where up is NULL; both activation [n_rows][dim] */
    void (*activate)(struct qr_device *dev, enum qr_activation activation, void *gate,
                     const void *up, int32_t n_rows, int32_t dim);
    /* out[i] = x[logit_rows[i]]; x residual [n_rows][dim], out residual [n_logit_rows][dim] */
    void (*gather_logit_rows)(struct qr_device *dev, const void *x, int32_t dim, void *out);
    /* out[r] = W x[r], then cap * tanh(out / cap) where soft_cap is not 0; W [vocab][n_in],
     * x activation [n_rows][n_in], out [n_rows][vocab] in device memory */
    void (*logits)(struct qr_device *dev, const struct qr_tensor *weight, float soft_cap,
                   const void *x, int32_t n_rows, float *out);
    /* Fetches what the batch wishes for of logits [n_logit_rows][vocab], device memory, which is
     * edited meanwhile where the wish says so. */
    void (*read_logits)(struct qr_device *dev, float *logits, int32_t vocab_size);
    /* The i-th row of the last step's logits, from end_step to the next begin_step. */
    struct qr_logit_row (*logit_row)(struct qr_device *dev, int32_t i);
    /* That row [vocab], where its selection turned out not to be enough for a draw. NULL: the
     * device draws all tokens itself. */
    const float *(*whole_logit_row)(struct qr_device *dev, int32_t i);

    void (*destroy)(struct qr_device *dev); /* accepts NULL */
};

/* The common head of every backend's device; backends embed it as their first member. */
struct qr_device {
    const struct qr_ops *ops;
    bool fills_synthetic; /* load_weight makes synthetic weights, the host need not; from open on */
    bool computes_beside; /* ops return before their work is done, which end_step waits for */
    /* Bytes of an element, from prepare on. */
    size_t residual_size;
    size_t activation_size;
    size_t kv_size;
    const struct qr_batch *batch; /* of the running step */
};

/* Bytes of one page of a prepared device's KV pool. */
static inline size_t qr_kv_page_bytes(const struct qr_device *dev, const struct qr_kv_geometry *kv)
{
    return qr_kv_page_elements(kv) * dev->kv_size;
}

/* What matrices of weights become when they are loaded. */
enum qr_weight_format {
    QR_WEIGHTS_AUTO, /* what they are, or the device's choice of 16 bits */
    QR_WEIGHTS_FP8,  /* E4M3 with a scale for each row, the embedding's included */
    QR_WEIGHTS_INT8, /* the same of integers */
};

/* What the CPU makes of matrices of F32, F16 and BF16 when they are loaded (docs/models.md). */
enum qr_quantize {
    QR_QUANTIZE_NONE,
    QR_QUANTIZE_Q8_0,
    QR_QUANTIZE_Q4_0,
    QR_QUANTIZE_Q4_K,
};

struct qr_device_config {
    int32_t n_threads;             /* CPU threads, the engine's included; 0: one a core */
    const char *isa;               /* CPU: NULL or "auto", else a name of qr_isa_parse */
    int32_t device;                /* GPU, by its number from 0 on; -1: the backend's choice */
    enum qr_weight_format weights; /* of a GPU */
    enum qr_quantize quantize;     /* of the CPU */
    const char *weights_cache;     /* the CPU's folder for packed matrices; NULL: none */
    bool deterministic;            /* bit-identical rows also where that costs more than 5 % */
};

QR_BEGIN_DECLS

/*
 * backend: "cpu", "cuda" or "auto", which is CUDA where a device can be used; NULL is "auto". Where
 * the emulator of base/cuda is linked, also "cuda-emulated". The one place that knows which
 * backends were built in. QR_ERR_INVALID: no such backend; QR_ERR_UNSUPPORTED, QR_ERR_NOT_FOUND:
 * not in this build, or not what this machine can run.
 */
QR_MUST_CHECK enum qr_status qr_device_open(const char *backend,
                                            const struct qr_device_config *config,
                                            struct qr_device **out, struct qr_error *err);
void qr_device_close(struct qr_device *dev); /* accepts NULL */

/* The processor's own kernel for a row of logits that a device has fetched. */
qr_select_row qr_host_select_row(void);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_OPS_H */
