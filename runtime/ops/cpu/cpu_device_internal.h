/* cpu_device_internal.h - the CPU device's state, shared by the files that fill its ops. */
#ifndef QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_INTERNAL_H
#define QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_INTERNAL_H

#include "attention/attention.h"
#include "base/mapped_file.h"
#include "base/region.h"
#include "base/thread_pool.h"
#include "runtime/ops/cpu/kernels.h"
#include "runtime/ops/cpu/packed_kernels.h"
#include "runtime/ops/cpu/tile_writer.h"
#include "runtime/ops/ops.h"

/* Scratch of a mixture of experts. */
struct qr_cpu_experts {
    float *scores;   /* [max_rows][n_experts] the router's, then the weights; 0: not chosen */
    int32_t *rows;   /* [max_rows] that one expert gets */
    float *gathered; /* [max_rows][hidden_size] */
    float *gate;     /* [max_rows][expert_size] */
    float *up;       /* [max_rows][expert_size] */
};

/* How a product wants its activations: as they are, or rounded. */
enum qr_cpu_rounding { QR_CPU_FLOATS, QR_CPU_BYTES, QR_CPU_BF16, QR_CPU_ROUNDINGS };

/* Packed matrices, and the activations that they are multiplied with. */
struct qr_cpu_packed {
    const struct qr_packed_kernels *kernels;
    struct qr_region *regions; /* [n_regions] tiles of matrices, and vectors; most likely one */
    int32_t n_regions;
    int32_t capacity;
    struct qr_packed_rows rows;         /* max_rows of max_n_in */
    int64_t max_n_in[QR_CPU_ROUNDINGS]; /* of the matrices so far that want them so */
    /* Matrices of a format that is not packed become tiles of F32 as they are multiplied. */
    uint8_t *widened; /* [n_threads][widened_bytes]: a tile, and the rows that it is made of */
    size_t widened_bytes;
};

/* Tiles that are kept on disk. */
struct qr_cpu_weights_cache {
    char *dir; /* NULL: none are */
    char *path;
    uint8_t key[QR_TILE_KEY_BYTES];
    struct qr_mapped_file file; /* of an earlier start, with its index */
    struct qr_tile_index index;
    int32_t next; /* entry that is likely to be asked for */
    struct qr_tile_writer *writer;
    bool is_writing; /* matrices go to the writer */
};

/* What --quantize has come to. */
struct qr_cpu_quantized {
    int32_t n_asked; /* matrices in the format that was asked for */
    int32_t n_heads; /* in that of heads */
    int32_t n_other; /* in another format, or none, as their columns are no whole blocks */
};

/* Of the last step. */
struct qr_cpu_selections {
    struct qr_selection *of_row;   /* [max_logit_rows]; n 0: there is none */
    struct qr_token_logit *tokens; /* [max_logit_rows][QR_SELECTION_MAX] */
};

/* Where a row's drawn tokens and saved logits stand, one row's after another's. */
struct qr_cpu_row_place {
    int32_t first_draw;
    int32_t first_edit;
};

struct qr_cpu_logits {
    float *rows; /* [n_logit_rows][vocab_size] */
    size_t vocab_size;
    bool has_wishes;                 /* else all rows are wanted whole */
    struct qr_cpu_selections raw;    /* of rows as they came; none: the row is wanted whole */
    struct qr_cpu_selections edited; /* of those that are edited */
    float *unedited;                 /* [max_logit_rows][QR_SELECTION_MAX] of their tokens */
    struct qr_drawn_token *drawn;    /* [max_draws] of all rows */
    float *saved;                    /* [max_edits] what the edits of all rows have changed */
    struct qr_cpu_row_place *places; /* [max_logit_rows] */
    int32_t max_draws;
    int32_t max_edits;
};

struct qr_cpu_device {
    struct qr_device base; /* first: ops are handed this */
    struct qr_ops ops;     /* with this device's own name */
    char name[32];
    enum qr_isa isa;
    uint64_t nodes; /* that memory is spread over (numa.h); 0: there is one */
    enum qr_quantize quantize;
    struct qr_cpu_quantized quantized;
    struct qr_cpu_weights_cache weights_cache;
    size_t n_weight_bytes;  /* of the model's files, at most */
    enum qr_dtype kv_dtype; /* F32, F16 or BF16 */
    const struct qr_cpu_kernels *kernels;
    struct qr_thread_pool *pool;
    int32_t rotary_dim;
    float *rope_table; /* [max_position][rotary_dim / 2][2 (cos, sin)]; NULL: nothing turns */
    float *sums;       /* [max_rows][hidden_size] before they are added */
    size_t n_sums;
    int32_t max_rows; /* of a step */
    struct qr_attention_workspace *attention;
    struct qr_cpu_packed packed;
    struct qr_cpu_experts experts;
    struct qr_cpu_logits logits;
};

static inline struct qr_cpu_device *qr_cpu_device_of(struct qr_device *dev)
{
    return (struct qr_cpu_device *)dev;
}

/* What tiles and vectors of the model take at most, as a rule: padding can be more than the rest.
 */
static inline size_t qr_cpu_most_weight_bytes(const struct qr_cpu_device *cpu)
{
    return 2 * cpu->n_weight_bytes + ((size_t)64 << 20);
}

enum { QR_CPU_FLOATS_PER_ITEM = 8192 }; /* of an elementwise op: less is not worth a thread */

/* Rows of `dim` elements that make an item worth handing out. */
static inline int64_t qr_cpu_rows_per_item(int32_t dim)
{
    return QR_CPU_FLOATS_PER_ITEM / (dim > 0 ? dim : 1) + 1;
}

QR_BEGIN_DECLS

/* Over all nodes that have memory: what all threads read; before it is written to. */
void qr_cpu_spread(const struct qr_cpu_device *cpu, void *ptr, size_t n_bytes);
void qr_cpu_run(struct qr_device *dev, int64_t n_items, int64_t grain, qr_work_fn fn, void *arg);

/* cpu_rows.c */
void qr_cpu_embed(struct qr_device *dev, const struct qr_tensor *table, float factor, void *out);
void qr_cpu_add_positions(struct qr_device *dev, const struct qr_tensor *table, void *x);
void qr_cpu_norm(struct qr_device *dev, const struct qr_norm *norm, const void *x, int32_t n_rows,
                 void *out);
void qr_cpu_norm_add(struct qr_device *dev, const struct qr_norm *norm, const void *x,
                     int32_t n_rows, void *residual);
void qr_cpu_norm_heads(struct qr_device *dev, const struct qr_norm *norm, int32_t n_rows,
                       int32_t n_heads, void *x);
void qr_cpu_activate(struct qr_device *dev, enum qr_activation activation, void *gate,
                     const void *up, int32_t n_rows, int32_t dim);
void qr_cpu_gather_logit_rows(struct qr_device *dev, const void *x, int32_t dim, void *out);

/* Whether the kernels take weights of this format as they are. */
static inline bool qr_cpu_kernels_read(enum qr_dtype dtype)
{
    return dtype < QR_DTYPE_COUNT;
}

/* What matrices are multiplied with; one for all that share it. */
struct qr_cpu_input {
    const float *x; /* [n_rows][n_in] */
    int32_t n_rows;
    /* device->packed.rows are these; set by the first matrix that wants them so */
    bool is_rounded[QR_CPU_ROUNDINGS];
};

/* cpu_matmul.c */
void qr_cpu_matmul(struct qr_device *dev, int32_t n, const struct qr_linear *const *maps,
                   const void *x, int32_t n_rows, void *const *outs);
void qr_cpu_matmul_add(struct qr_device *dev, const struct qr_linear *map, const void *x,
                       int32_t n_rows, void *residual);
void qr_cpu_logits(struct qr_device *dev, const struct qr_tensor *weight, float soft_cap,
                   const void *x, int32_t n_rows, float *out);

/* cpu_logits.c */
enum qr_status qr_cpu_logits_open(struct qr_cpu_device *cpu, const struct qr_device_needs *needs,
                                  struct qr_error *err);
void qr_cpu_logits_close(struct qr_cpu_device *cpu);
void qr_cpu_read_logits(struct qr_device *dev, float *rows, int32_t vocab_size);
struct qr_logit_row qr_cpu_logit_row(struct qr_device *dev, int32_t i);
const float *qr_cpu_whole_logit_row(struct qr_device *dev, int32_t i);

/* cpu_packed.c */
/* The format of the tiles that a matrix gets; its own where it gets none. */
enum qr_dtype qr_cpu_dtype_to_be(const struct qr_cpu_device *cpu, const struct qr_tensor *weight);
/* Makes tiles of a matrix, which the device owns; before the first step. One of a format that is
 * not packed stays as it is, and gets memory to be widened in. */
enum qr_status qr_cpu_load_matrix(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  struct qr_error *err);
/* Copies a vector, which every step reads: in a mapped file megabytes around it would stay in
 * memory.
 */
enum qr_status qr_cpu_load_vector(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  struct qr_error *err);
/* Makes these tiles, which outlive the device's steps, the matrix's data. */
enum qr_status qr_cpu_adopt_tiles(struct qr_cpu_device *cpu, struct qr_tensor *weight,
                                  enum qr_dtype dtype, const uint8_t *tiles, struct qr_error *err);
/* out[r] = W x[r]; W [n_out][n_in] as loaded, out [n_rows][n_out] */
void qr_cpu_multiply(struct qr_cpu_device *cpu, const struct qr_tensor *weight,
                     struct qr_cpu_input *input, float *out);
void qr_cpu_packed_close(struct qr_cpu_device *cpu);

/* cpu_weights_cache.c */
void qr_cpu_begin_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint);
bool qr_cpu_find_weight(struct qr_device *dev, struct qr_tensor *tensor);
void qr_cpu_end_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint);
/* Room for a matrix's tiles in the file that is being written; NULL: there is none. */
uint8_t *qr_cpu_weights_cache_take(struct qr_cpu_device *cpu, const struct qr_tensor *weight,
                                   enum qr_dtype dtype);
void qr_cpu_weights_cache_close(struct qr_cpu_weights_cache *cache);

/* cpu_experts.c */
enum qr_status qr_cpu_experts_open(struct qr_cpu_device *cpu, const struct qr_device_needs *needs,
                                   struct qr_error *err);
void qr_cpu_experts_close(struct qr_cpu_device *cpu);
void qr_cpu_experts_add(struct qr_device *dev, const struct qr_experts *experts, const void *x,
                        int32_t n_rows, void *residual);

/* cpu_attention.c */
void qr_cpu_rope_and_write_kv(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                              int32_t n_heads, void *q, void *k, const void *v, void *kv_pool);
void qr_cpu_attend(struct qr_device *dev, const struct qr_kv_geometry *kv,
                   const struct qr_attend_spec *spec, const void *q, const void *kv_pool,
                   void *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_CPU_DEVICE_INTERNAL_H */
