/*
 * cuda_prepare.c - what a CUDA device takes for a model before its weights come: the types,
 * the memory for weights and workspace, tables, pinned memory and the kernels' own scratch.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/ops/cuda/cuda_device.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

enum { MAX_K = QR_SELECTION_MAX, PIECES = 64 };

static enum qr_status choose_types(struct qr_cuda_device *cuda, const struct qr_device_needs *needs,
                                   struct qr_error *err)
{
    static const enum qr_dtype as_wished[] = {
        [QR_KV_DTYPE_F32] = QR_DTYPE_F32,
        [QR_KV_DTYPE_F16] = QR_DTYPE_F16,
        [QR_KV_DTYPE_BF16] = QR_DTYPE_BF16,
        [QR_KV_DTYPE_FP8] = QR_DTYPE_E4M3,
    };

    cuda->activation = (enum qr_cuda_type)needs->weight_dtype;
    if (needs->weight_dtype >= QR_DTYPE_COUNT ||
        (cuda->activation == QR_CUDA_F32 && cuda->config.weights != QR_WEIGHTS_AUTO))
        cuda->activation = QR_CUDA_BF16; /* what fewer bits become, or are multiplied with */
    cuda->kv_type = (enum qr_dtype)cuda->activation;
    if (needs->kv_dtype != QR_KV_DTYPE_AUTO && as_wished[needs->kv_dtype] != cuda->kv_type) {
        if (needs->kv_dtype != QR_KV_DTYPE_FP8 || cuda->activation == QR_CUDA_F32)
            return qr_fail(err, QR_ERR_UNSUPPORTED,
                           "KV pages of this model are %s%s; choose that, or auto",
                           qr_cuda_type_name(cuda->activation),
                           cuda->activation == QR_CUDA_F32 ? "" : " or FP8");
        cuda->kv_type = QR_DTYPE_E4M3;
    }
    cuda->base.residual_size = sizeof(float);
    cuda->base.activation_size = qr_cuda_type_size(cuda->activation);
    cuda->base.kv_size = qr_dtype_size(cuda->kv_type);
    return QR_OK;
}

static enum qr_status open_attention(struct qr_cuda_device *cuda, struct qr_error *err)
{
    const struct qr_device_needs *needs = &cuda->needs;
    const struct qr_cuda_attention_config config = {
        .kv = {.n_layers = needs->n_layers,
               .n_kv_heads = needs->n_kv_heads,
               .head_dim = needs->head_dim,
               .page_size = needs->page_size},
        .n_heads = needs->n_heads,
        .rotary_dim = needs->rope.rotary_dim,
        .activation = (enum qr_dtype)cuda->activation,
        .kv_type = cuda->kv_type,
        .window = needs->window,
        .max_rows = needs->max_rows,
        .max_seqs = needs->max_seqs,
        .max_blocks = needs->max_blocks,
        .deterministic = cuda->config.deterministic,
    };

    return qr_cuda_attention_open(&cuda->cuda, &config, &cuda->attention, err);
}

/* ---- how much ---- */

/* An estimate, from above where no tensor has fewer bits an element than most have; what does not
 * fit gets memory of its own. */
static size_t weight_bytes(const struct qr_cuda_device *cuda)
{
    const struct qr_device_needs *needs = &cuda->needs;
    size_t n_bytes = (size_t)needs->n_weight_bytes;
    size_t n_elements = n_bytes / qr_dtype_block_bytes(needs->weight_dtype) *
                        (size_t)qr_dtype_block_size(needs->weight_dtype);

    if (needs->weight_dtype >= QR_DTYPE_COUNT)
        n_bytes = n_elements * qr_cuda_type_size(cuda->activation);
    if (cuda->config.weights != QR_WEIGHTS_AUTO) {
        int32_t shortest_row = needs->hidden_size < needs->intermediate_size
                                   ? needs->hidden_size
                                   : needs->intermediate_size;
        if (needs->n_experts > 0 && needs->expert_size < shortest_row)
            shortest_row = needs->expert_size;
        size_t routers =
            (size_t)needs->n_layers * (size_t)needs->n_experts * (size_t)needs->hidden_size;
        n_bytes = n_elements + n_elements / (size_t)shortest_row * sizeof(float) +
                  routers * (qr_cuda_type_size(cuda->activation) - 1);
    }
    /* An expert's six pieces, and its line of the table. */
    size_t experts =
        (size_t)needs->n_experts * (6 * QR_CUDA_ALIGNMENT + sizeof(struct qr_expert_weights));
    return n_bytes + (size_t)(needs->n_layers + 1) * (PIECES * QR_CUDA_ALIGNMENT + experts);
}

static size_t activation_bytes(const struct qr_cuda_device *cuda)
{
    const struct qr_device_needs *needs = &cuda->needs;
    size_t rows = (size_t)needs->max_rows;
    size_t logit_rows = (size_t)needs->max_logit_rows;
    size_t hidden = (size_t)needs->hidden_size;
    size_t heads = (size_t)needs->head_dim * (size_t)(2 * needs->n_heads + 2 * needs->n_kv_heads);
    size_t wide = hidden + heads + 2 * (size_t)needs->intermediate_size;

    return (rows + logit_rows) * hidden * sizeof(float) + rows * wide * cuda->base.activation_size +
           logit_rows * (size_t)needs->vocab_size * sizeof(float);
}

struct scratch_bytes {
    size_t matmul;
    size_t cublaslt;
    size_t select;
    size_t rope;
    size_t answers;
    size_t inputs;
    size_t edits;
    size_t experts; /* 0: there are none */
    size_t sum;     /* of all, the activations and attention's included */
};

static struct qr_cuda_experts_config experts_config(const struct qr_cuda_device *cuda)
{
    const struct qr_device_needs *needs = &cuda->needs;
    return (struct qr_cuda_experts_config){.activation = cuda->activation,
                                           .hidden_size = needs->hidden_size,
                                           .expert_size = needs->expert_size,
                                           .n_experts = needs->n_experts,
                                           .n_used = needs->n_experts_used,
                                           .max_rows = needs->max_rows};
}

static size_t answer_bytes(const struct qr_device_needs *needs)
{
    return qr_cuda_answer_bytes(needs, needs->max_logit_rows, qr_cuda_selected_bytes(MAX_K));
}

static struct scratch_bytes count_scratch(const struct qr_cuda_device *cuda,
                                          const struct qr_cuda_matmul_config *matmul)
{
    const struct qr_device_needs *needs = &cuda->needs;
    const struct qr_cuda_experts_config experts = experts_config(cuda);
    struct scratch_bytes bytes = {
        .matmul = qr_cuda_matmul_workspace_bytes(&cuda->cuda.properties, matmul),
        .cublaslt = cuda->config.deterministic ? 0 : qr_cuda_cublaslt_workspace_bytes(),
        .select = qr_cuda_select_workspace_bytes(needs->vocab_size, needs->max_logit_rows, MAX_K),
        .rope = (size_t)needs->max_position * (size_t)needs->rope.rotary_dim * sizeof(float),
        .answers = answer_bytes(needs),
        .inputs = cuda->input_bytes,
        .edits = qr_cuda_edits_device_bytes(needs),
        .experts = needs->n_experts > 0 ? qr_cuda_experts_workspace_bytes(&experts) : 0,
    };

    bytes.sum = bytes.matmul + bytes.cublaslt + bytes.select + bytes.rope + bytes.answers +
                bytes.inputs + bytes.edits + bytes.experts + cuda->attention.device_bytes +
                activation_bytes(cuda) + PIECES * QR_CUDA_ALIGNMENT;
    return bytes;
}

int64_t qr_cuda_reserve(const struct qr_cuda_device *cuda)
{
    int64_t part = cuda->cuda.properties.total_bytes / 16;
    return part < QR_CUDA_RESERVE_BYTES ? part : QR_CUDA_RESERVE_BYTES;
}

int64_t qr_cuda_kv_memory_available(struct qr_device *dev)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    int64_t left = qr_cuda_free_bytes(&cuda->cuda) - qr_cuda_reserve(cuda);
    return left > 0 ? left : 1; /* 0 would say nothing */
}

static enum qr_status take_memory(struct qr_cuda_device *cuda, size_t scratch, struct qr_error *err)
{
    size_t weights = weight_bytes(cuda);
    size_t page = qr_cuda_kv_page_bytes(&cuda->attention.config.kv, cuda->kv_type);
    int64_t free_bytes = qr_cuda_free_bytes(&cuda->cuda);
    int64_t needed = (int64_t)(weights + scratch + page) + qr_cuda_reserve(cuda);

    if (needed > free_bytes)
        return qr_fail(
            err, QR_ERR_NOMEM,
            "%s has %lld bytes free; weights take %zu, the workspace of %d rows %zu, one "
            "KV page %zu, and %lld stay in reserve: %lld bytes are missing",
            cuda->cuda.properties.name, (long long)free_bytes, weights, cuda->needs.max_rows,
            scratch, page, (long long)qr_cuda_reserve(cuda), (long long)(needed - free_bytes));
    QR_TRY(qr_cuda_arena_open(&cuda->cuda, "weights", weights, &cuda->weights, err));
    return qr_cuda_arena_open(&cuda->cuda, "workspace", scratch, &cuda->workspace, err);
}

/* ---- what is in it ---- */

static enum qr_status make_rope_table(struct qr_cuda_device *cuda, struct qr_error *err)
{
    const struct qr_device_needs *needs = &cuda->needs;
    int32_t row = needs->rope.rotary_dim;
    float *turns = (float *)(void *)cuda->stage;

    if (row == 0)
        return QR_OK;
    int32_t rows_at_a_time = QR_CUDA_STAGE_BYTES / (row * (int32_t)sizeof(float));
    for (int32_t first = 0; first < needs->max_position; first += rows_at_a_time) {
        int32_t n = needs->max_position - first;
        n = n < rows_at_a_time ? n : rows_at_a_time;
        qr_rope_fill(&needs->rope, first, n, turns);
        qr_cuda_copy_to_device(&cuda->cuda, "rotations",
                               qr_cuda_address(cuda->rope_table + (size_t)first * (size_t)row),
                               turns, (size_t)n * (size_t)row * sizeof(float));
        qr_cuda_synchronize(&cuda->cuda);
    }
    return qr_cuda_take_failure(&cuda->cuda, err);
}

static struct qr_cuda_inputs place_inputs(const struct qr_device_needs *needs, void *block)
{
    struct qr_cuda_draw *draws = block;
    int32_t *at = (int32_t *)(void *)(draws + needs->max_draws);
    return (struct qr_cuda_inputs){
        .draws = draws,
        .token_ids = at,
        .positions = at + needs->max_rows,
        .logit_rows = at + 2 * needs->max_rows,
        .asked_ids = at + 2 * needs->max_rows + needs->max_logit_rows,
        .n_rows = at + 2 * needs->max_rows + 2 * needs->max_logit_rows,
    };
}

static enum qr_status take_pinned(struct qr_cuda_device *cuda, size_t n_answer_bytes,
                                  struct qr_error *err)
{
    const struct qr_device_needs *needs = &cuda->needs;
    size_t logit_rows = (size_t)needs->max_logit_rows;
    size_t captured = 2 * (size_t)needs->max_seqs + 1 + (size_t)needs->max_blocks;

    cuda->stage = qr_cuda_host_alloc(&cuda->cuda, QR_CUDA_STAGE_BYTES);
    cuda->attention_host = qr_cuda_host_alloc(&cuda->cuda, cuda->attention.host_bytes);
    void *inputs = qr_cuda_host_alloc(&cuda->cuda, cuda->input_bytes);
    cuda->host.draws = inputs;
    cuda->results.rows =
        qr_cuda_host_alloc(&cuda->cuda, logit_rows * (size_t)needs->vocab_size * sizeof(float));
    cuda->results.answers.host = qr_cuda_host_alloc(&cuda->cuda, n_answer_bytes);
    cuda->results.row_answer =
        qr_calloc(QR_ARENA_ENGINE, logit_rows, sizeof(struct qr_cuda_row_answer));
    cuda->captured_arrays = qr_calloc(QR_ARENA_ENGINE, captured, sizeof(int32_t));
    if (cuda->stage == NULL || cuda->attention_host == NULL || inputs == NULL ||
        cuda->results.rows == NULL || cuda->results.answers.host == NULL ||
        cuda->results.row_answer == NULL || cuda->captured_arrays == NULL)
        return qr_fail(err, QR_ERR_NOMEM,
                       "no pinned host memory for steps of %d rows, %d of them with logits",
                       needs->max_rows, needs->max_logit_rows);
    cuda->host = place_inputs(needs, inputs);
    memset(inputs, 0, cuda->input_bytes);
    return QR_OK;
}

static void open_cublaslt(struct qr_cuda_device *cuda, void *workspace)
{
    struct qr_error err;

    if (!cuda->cuda.platform->has_libraries || cuda->config.deterministic ||
        cuda->activation == QR_CUDA_F32 || workspace == NULL)
        return;
    if (qr_cuda_cublaslt_open(&cuda->cuda, workspace, &cuda->cublaslt, &err) != QR_OK) {
        char quoted[600];
        cuda->cublaslt = NULL;
        qr_log(QR_LOG_INFO, "cublaslt_absent", "reason=%s",
               qr_log_quote(err.message, quoted, sizeof(quoted)));
    }
}

static enum qr_status open_experts(struct qr_cuda_device *cuda, size_t n_bytes,
                                   struct qr_error *err)
{
    const struct qr_cuda_experts_config config = experts_config(cuda);

    if (n_bytes == 0)
        return QR_OK;
    void *workspace = qr_cuda_arena_take(&cuda->workspace, n_bytes);
    if (workspace == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "the device's memory ran out under the workspace");
    return qr_cuda_experts_open(&cuda->cuda, &config, workspace, &cuda->experts, err);
}

static enum qr_status hand_out(struct qr_cuda_device *cuda, struct qr_cuda_matmul_config *matmul,
                               const struct scratch_bytes *bytes, struct qr_error *err)
{
    struct qr_cuda_arena *arena = &cuda->workspace;
    void *attention = qr_cuda_arena_take(arena, cuda->attention.device_bytes);
    void *products = qr_cuda_arena_take(arena, bytes->matmul);
    void *library = bytes->cublaslt > 0 ? qr_cuda_arena_take(arena, bytes->cublaslt) : NULL;
    void *selection = qr_cuda_arena_take(arena, bytes->select);
    void *inputs = qr_cuda_arena_take(arena, bytes->inputs);
    void *edits = qr_cuda_arena_take(arena, bytes->edits);

    if (bytes->rope > 0)
        cuda->rope_table = qr_cuda_arena_take(arena, bytes->rope);
    cuda->results.answers.device = qr_cuda_arena_take(arena, bytes->answers);
    if (attention == NULL || products == NULL || selection == NULL || inputs == NULL ||
        edits == NULL || (bytes->rope > 0 && cuda->rope_table == NULL) ||
        cuda->results.answers.device == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "the device's memory ran out under the workspace");
    cuda->device = place_inputs(&cuda->needs, inputs);
    qr_cuda_attention_set_memory(&cuda->attention, qr_cuda_address(attention),
                                 cuda->attention_host);
    open_cublaslt(cuda, library);
    matmul->cublaslt = cuda->cublaslt;
    QR_TRY(qr_cuda_matmul_open(&cuda->cuda, matmul, products, &cuda->matmul, err));
    QR_TRY(open_experts(cuda, bytes->experts, err));
    QR_TRY(qr_cuda_edits_open(cuda, edits, err));
    return qr_cuda_select_open(&cuda->cuda, cuda->needs.vocab_size, cuda->needs.max_logit_rows,
                               MAX_K, selection, &cuda->select, err);
}

enum qr_status qr_cuda_prepare(struct qr_device *dev, const struct qr_device_needs *needs,
                               struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    cuda->needs = *needs;
    cuda->input_bytes =
        (size_t)needs->max_draws * sizeof(struct qr_cuda_draw) +
        (size_t)(2 * needs->max_rows + 2 * needs->max_logit_rows + 1) * sizeof(int32_t);
    QR_TRY(choose_types(cuda, needs, err));
    QR_TRY(open_attention(cuda, err));
    struct qr_cuda_matmul_config matmul = {.activation = cuda->activation,
                                           .max_rows = needs->max_rows};
    struct scratch_bytes bytes = count_scratch(cuda, &matmul);
    QR_TRY(take_memory(cuda, bytes.sum, err));
    QR_TRY(take_pinned(cuda, bytes.answers, err));
    QR_TRY(qr_cuda_elementwise_open(&cuda->cuda, &cuda->elementwise, err));
    QR_TRY(hand_out(cuda, &matmul, &bytes, err));
    QR_TRY(make_rope_table(cuda, err));
    return qr_cuda_pages_open(cuda, err);
}
