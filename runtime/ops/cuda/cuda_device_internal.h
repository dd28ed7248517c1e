/* cuda_device_internal.h - the CUDA device's state, shared by the files that fill its ops. */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_INTERNAL_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_INTERNAL_H

#include <pthread.h>

#include "attention/cuda/cuda_attention.h"
#include "base/cuda/cuda.h"
#include "runtime/ops/cuda/cuda_arena.h"
#include "runtime/ops/cuda/cuda_cublaslt.h"
#include "runtime/ops/cuda/cuda_elementwise.h"
#include "runtime/ops/cuda/cuda_experts.h"
#include "runtime/ops/cuda/cuda_matmul.h"
#include "runtime/ops/cuda/cuda_select.h"
#include "runtime/ops/ops.h"

enum { QR_CUDA_STAGE_BYTES = 16 << 20 }; /* pinned memory that weights pass through */

/* Sizes of captured steps: a step runs as the next larger one. */
enum { QR_CUDA_N_STEP_SIZES = 13, QR_CUDA_N_STEP_VARIANTS = 2 };

/* A step's small inputs: one copy to the device. */
struct qr_cuda_inputs {
    struct qr_cuda_draw *draws; /* [max_draws]; first */
    int32_t *token_ids;         /* [max_rows] */
    int32_t *positions;         /* [max_rows] */
    int32_t *logit_rows;        /* [max_logit_rows] */
    int32_t *asked_ids;         /* [max_logit_rows] whose logit a selection tells; -1: none */
    int32_t *n_rows;            /* [1] of the step, also where it runs as a captured one of more */
};

/* What comes back of rows of logits, in one copy: the tokens drawn, then struct qr_cuda_selected of
 * each row. */
struct qr_cuda_answers {
    unsigned char *host;   /* pinned */
    unsigned char *device; /* the same there */
    struct qr_cuda_selection_sizes sizes;
    int32_t n_draws;
};

/* Inputs of the rows that penalties, bias or bans change. */
struct qr_cuda_edit_block {
    struct qr_cuda_draw *draws;      /* [max_draws]; first */
    struct qr_cuda_edited_row *rows; /* [max_seqs] */
    struct qr_logit_edit *edits;     /* [max_edits], one row's after another's */
};

/* Where a row's answer is. */
struct qr_cuda_row_answer {
    int32_t n_told; /* tokens of its selection that the host is told; 0: the row comes whole */
    int32_t first_draw;
    int32_t n_draws;
};

/* Those rows of a step: a sequence has one at most (cuda_edits.c). */
struct qr_cuda_edited {
    struct qr_cuda_edit_block host;   /* pinned */
    struct qr_cuda_edit_block device; /* the same there */
    float *saved;                     /* device, for each edit: the logit before it */
    struct qr_cuda_answers answers;
    struct qr_cuda_row_answer *rows; /* [max_seqs] */
    int32_t *row_of;                 /* [max_logit_rows] its place here; -1: it is not edited */
    int32_t n_edits;
};

/* A step that decodes, captured for `n_rows` rows. */
struct qr_cuda_step {
    qr_cu_graph_exec exec; /* NULL: not captured */
    int32_t n_rows;
    uint32_t launches; /* kernels of attention that it has: QR_ATTENTION_LAUNCHES_* */
};

/* What the host gets of a step's logits. */
struct qr_cuda_results {
    float *rows;                    /* pinned [max_logit_rows][vocab_size], if wanted whole */
    struct qr_cuda_answers answers; /* of all rows, also of those that come whole */
    struct qr_cuda_row_answer *row_answer; /* [max_logit_rows] */
    float *logits; /* device [n_rows][vocab_size]: where the model puts them */
};

enum qr_cuda_page_way { QR_CUDA_BY_COPIES, QR_CUDA_BY_KERNEL, QR_CUDA_PAGE_WAYS };

/* What the ways of moving pages have taken, in one direction. */
struct qr_cuda_page_speed {
    int64_t n_moves;
    double page_ns[QR_CUDA_PAGE_WAYS]; /* moving averages */
};

/* Pages on their way to and from the host, on a stream of their own. */
/* Host memory that the device reaches directly. */
enum { QR_CUDA_MAX_PINNED = 64 };
struct qr_cuda_pinned {
    unsigned char *memory;
    size_t n_bytes;
};

struct qr_cuda_pages {
    pthread_mutex_t mutex;
    qr_cu_stream stream;
    qr_cu_event copies_done; /* of the step's stream: page copies up to the last one */
    unsigned char *bounce;   /* pinned [n_bounce][page bytes] */
    int32_t n_bounce;
    struct qr_cuda_page_speed speed[2]; /* from the host, to the host */
    struct qr_cuda_pinned pinned[QR_CUDA_MAX_PINNED];
    int32_t n_pinned;
};

struct qr_cuda_device {
    struct qr_device base; /* first: ops are handed this */
    struct qr_ops ops;     /* with this device's own name */
    char name[64];
    struct qr_cuda cuda;
    struct qr_device_config config;
    struct qr_device_needs needs;
    enum qr_cuda_type activation;
    enum qr_dtype kv_type;

    struct qr_cuda_arena weights;
    struct qr_cuda_arena workspace;
    unsigned char *stage; /* pinned: weights pass through it */

    struct qr_cuda_attention attention;
    struct qr_cuda_matmul matmul;
    struct qr_cuda_cublaslt *cublaslt; /* NULL: own kernels only */
    struct qr_cuda_elementwise elementwise;
    struct qr_cuda_experts experts; /* of a model that has any */
    struct qr_cuda_select select;
    void *attention_host; /* pinned */
    float *rope_table;    /* device [max_position][rotary_dim / 2][2 (cos, sin)]; NULL: none */

    struct qr_cuda_inputs host;   /* pinned, one block from token_ids on */
    struct qr_cuda_inputs device; /* the same in device memory */
    size_t input_bytes;
    struct qr_cuda_results results;
    struct qr_cuda_edited edited;
    struct qr_cuda_step steps[QR_CUDA_N_STEP_VARIANTS][QR_CUDA_N_STEP_SIZES];
    int32_t n_considered;           /* steps that begin_capture has been through */
    struct qr_cuda_step *capturing; /* NULL: ops are enqueued to run */
    struct qr_batch captured_batch; /* what begin_capture gives, with these arrays: */
    int32_t *captured_arrays;       /* query_start, context_length, zeros as block tables */
    struct qr_cuda_pages pages;
};

static inline struct qr_cuda_device *qr_cuda_device_of(struct qr_device *dev)
{
    return (struct qr_cuda_device *)dev;
}

static inline qr_cu_address qr_cuda_address(const void *pointer)
{
    return (qr_cu_address)(uintptr_t)pointer;
}

QR_BEGIN_DECLS

/* cuda_prepare.c */
enum qr_status qr_cuda_prepare(struct qr_device *dev, const struct qr_device_needs *needs,
                               struct qr_error *err);
int64_t qr_cuda_kv_memory_available(struct qr_device *dev);
int64_t qr_cuda_reserve(const struct qr_cuda_device *cuda);

/* cuda_weights.c */
enum qr_status qr_cuda_load_weight(struct qr_device *dev, struct qr_tensor *tensor,
                                   struct qr_error *err);
enum qr_status qr_cuda_load_experts(struct qr_device *dev, struct qr_experts *experts,
                                    struct qr_error *err);
/* What was loaded, as the kernels want it. */
struct qr_cuda_matrix qr_cuda_matrix_of(const struct qr_tensor *tensor);
struct qr_cuda_vector qr_cuda_vector_of(const struct qr_tensor *tensor);
struct qr_cuda_expert_layer qr_cuda_expert_layer_of(const struct qr_experts *experts);

/* cuda_step.c */
const struct qr_batch *qr_cuda_begin_capture(struct qr_device *dev);
enum qr_status qr_cuda_end_capture(struct qr_device *dev, struct qr_error *err);
bool qr_cuda_begin_step(struct qr_device *dev, const struct qr_batch *batch);
enum qr_status qr_cuda_end_step(struct qr_device *dev, struct qr_error *err);
void qr_cuda_destroy_steps(struct qr_cuda_device *cuda);

/* cuda_edits.c */
size_t qr_cuda_edits_device_bytes(const struct qr_device_needs *needs);
/* memory: device, of so many bytes. What has been made on failure, too, is the device's to close.
 */
enum qr_status qr_cuda_edits_open(struct qr_cuda_device *cuda, void *memory, struct qr_error *err);
void qr_cuda_edits_close(struct qr_cuda_device *cuda);
/* Of a step: none yet; those of logit row i, if any; to the device; what is selected by them. */
void qr_cuda_edits_begin(struct qr_cuda_device *cuda);
void qr_cuda_edits_note(struct qr_cuda_device *cuda, int32_t i, const struct qr_logit_wish *wish);
void qr_cuda_edits_send(struct qr_cuda_device *cuda);
void qr_cuda_edits_select(struct qr_cuda_device *cuda, float *logits);
/* n 0: the row was not edited. */
struct qr_selection qr_cuda_edited_selection(const struct qr_cuda_device *cuda, int32_t i);

/* cuda_logits.c */
size_t qr_cuda_answer_bytes(const struct qr_device_needs *needs, int32_t max_rows,
                            size_t selected_bytes);
/* No rows yet. */
void qr_cuda_answers_begin(struct qr_cuda_answers *answers);
/* One more row, of which the host is told n_told tokens, with the draws of its wish, which are put
 * down in `draws`. */
struct qr_cuda_row_answer qr_cuda_answers_add(struct qr_cuda_answers *answers,
                                              const struct qr_cuda_device *cuda,
                                              const struct qr_logit_wish *wish, int32_t n_told,
                                              struct qr_cuda_draw *draws);
/* Where the kernels put them. */
struct qr_cuda_draws qr_cuda_answers_draws(const struct qr_cuda_answers *answers,
                                           const struct qr_cuda_draw *device_draws);
void *qr_cuda_answers_selected(const struct qr_cuda_answers *answers);
void qr_cuda_answers_fetch(const struct qr_cuda_answers *answers, struct qr_cuda_device *cuda,
                           size_t selected_bytes, const char *what);
/* What the host is told of the row-th; *selected: its place in what was fetched. */
struct qr_selection qr_cuda_answer(const struct qr_cuda_answers *answers, int32_t row,
                                   const struct qr_cuda_row_answer *of_row, size_t selected_bytes,
                                   int32_t vocab_size, const struct qr_cuda_selected **selected);
void qr_cuda_note_wishes(struct qr_cuda_device *cuda, const struct qr_batch *batch);
void qr_cuda_fetch_logits(struct qr_cuda_device *cuda);
void qr_cuda_read_logits(struct qr_device *dev, float *logits, int32_t vocab_size);
struct qr_logit_row qr_cuda_logit_row(struct qr_device *dev, int32_t i);

/* cuda_pages.c */
enum qr_status qr_cuda_pages_open(struct qr_cuda_device *cuda, struct qr_error *err);
void qr_cuda_pages_close(struct qr_cuda_device *cuda);
void qr_cuda_copy_page(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t from,
                       int32_t to);
bool qr_cuda_read_pages(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t n,
                        const int32_t *pages, void *const *to);
bool qr_cuda_write_pages(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t n,
                         const int32_t *pages, const void *const *from);
bool qr_cuda_pin_memory(struct qr_device *dev, void *memory, size_t n_bytes);
void qr_cuda_unpin_memory(struct qr_device *dev, void *memory);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_DEVICE_INTERNAL_H */
