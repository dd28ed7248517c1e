/*
 * cuda_weights.c - weights on their way to the device: copied through pinned memory, converted to
 * the activation type or quantised there, or made there where they are synthetic; and the tables of
 * experts' weights.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

static enum qr_cuda_type type_of(const struct qr_tensor *tensor)
{
    return (enum qr_cuda_type)tensor->dtype; /* the same numbers */
}

struct qr_cuda_matrix qr_cuda_matrix_of(const struct qr_tensor *tensor)
{
    return (struct qr_cuda_matrix){.type = type_of(tensor),
                                   .n_out = (int32_t)tensor->dims[0],
                                   .n_in = (int32_t)tensor->dims[1],
                                   .data = tensor->data,
                                   .scales = tensor->scales};
}

struct qr_cuda_vector qr_cuda_vector_of(const struct qr_tensor *tensor)
{
    return (struct qr_cuda_vector){.type = type_of(tensor), .data = tensor->data};
}

/* Formats that no kernel here reads are widened on the host, to the type of the activations. */
static bool is_widened(const struct qr_tensor *tensor)
{
    return tensor->dtype >= QR_DTYPE_COUNT;
}

/* What comes to the device. */
static enum qr_cuda_type source_type(const struct qr_cuda_device *cuda,
                                     const struct qr_tensor *tensor)
{
    return is_widened(tensor) ? cuda->activation : type_of(tensor);
}

/* Vectors stay as they are; a router's few weights decide between experts and are not quantised. */
static enum qr_cuda_type wanted_type(const struct qr_cuda_device *cuda,
                                     const struct qr_tensor *tensor)
{
    if (tensor->n_dims < 2)
        return type_of(tensor);
    if (cuda->config.weights == QR_WEIGHTS_AUTO || tensor->use == QR_USE_ROUTER)
        return cuda->activation;
    return cuda->config.weights == QR_WEIGHTS_FP8 ? QR_CUDA_E4M3 : QR_CUDA_INT8;
}

/* What is in the stage goes to the device, waited for: loading is bound by where the weights come
 * from. */
static void send_stage(struct qr_cuda_device *cuda, size_t n_bytes, qr_cu_address to)
{
    qr_cuda_copy_to_device(&cuda->cuda, "a weight", to, cuda->stage, n_bytes);
    qr_cuda_synchronize(&cuda->cuda);
}

static void upload(struct qr_cuda_device *cuda, const struct qr_tensor *tensor, size_t n_bytes,
                   qr_cu_address to)
{
    for (size_t at = 0; at < n_bytes; at += QR_CUDA_STAGE_BYTES) {
        size_t n = n_bytes - at < QR_CUDA_STAGE_BYTES ? n_bytes - at : QR_CUDA_STAGE_BYTES;
        memcpy(cuda->stage, (const char *)tensor->data + at, n);
        send_stage(cuda, n, to + at);
    }
}

static void narrow(enum qr_cuda_type type, const float *row, int64_t n, void *out)
{
    uint16_t *half = out;

    if (type == QR_CUDA_F32)
        memcpy(out, row, (size_t)n * sizeof(*row));
    for (int64_t i = 0; i < n && type == QR_CUDA_F16; i++)
        half[i] = qr_f32_to_f16(row[i]);
    for (int64_t i = 0; i < n && type == QR_CUDA_BF16; i++)
        half[i] = qr_f32_to_bf16(row[i]);
}

/* Row by row, as many as the stage holds. */
static enum qr_status upload_widened(struct qr_cuda_device *cuda, const struct qr_tensor *matrix,
                                     qr_cu_address to, struct qr_error *err)
{
    size_t row_bytes = (size_t)matrix->dims[1] * qr_cuda_type_size(cuda->activation);
    int64_t per_stage = (int64_t)(QR_CUDA_STAGE_BYTES / row_bytes);
    float *row = qr_malloc(QR_ARENA_ENGINE, (size_t)matrix->dims[1] * sizeof(*row));

    if (row == NULL || per_stage == 0) {
        qr_free(row);
        return qr_fail(err, QR_ERR_NOMEM, "no memory to widen rows of %zu bytes", row_bytes);
    }
    for (int64_t first = 0; first < matrix->dims[0]; first += per_stage) {
        int64_t n = matrix->dims[0] - first < per_stage ? matrix->dims[0] - first : per_stage;
        for (int64_t i = 0; i < n; i++) {
            qr_tensor_widen_rows(matrix, first + i, 1, row);
            narrow(cuda->activation, row, matrix->dims[1],
                   (char *)cuda->stage + (size_t)i * row_bytes);
        }
        send_stage(cuda, (size_t)n * row_bytes, to + (size_t)first * row_bytes);
    }
    qr_free(row);
    return QR_OK;
}

/* The tensor in its source type, at `to`. */
static enum qr_status bring(struct qr_cuda_device *cuda, const struct qr_tensor *tensor, void *to,
                            struct qr_error *err)
{
    int64_t n = qr_tensor_n_elements(tensor);

    if (is_widened(tensor))
        return upload_widened(cuda, tensor, qr_cuda_address(to), err);
    if (tensor->synthetic)
        qr_cuda_fill_synthetic(&cuda->elementwise, type_of(tensor), tensor->synthetic_key,
                               tensor->synthetic_bound, n, to);
    else
        upload(cuda, tensor, (size_t)qr_tensor_n_bytes(tensor), qr_cuda_address(to));
    return QR_OK;
}

static void change_type(struct qr_cuda_device *cuda, const struct qr_tensor *tensor,
                        const void *from, enum qr_cuda_type type, void *to, float *scales)
{
    enum qr_cuda_type source = source_type(cuda, tensor);

    if (scales == NULL)
        qr_cuda_convert(&cuda->elementwise, source, from, qr_tensor_n_elements(tensor), type, to);
    else
        qr_cuda_quantize(&cuda->elementwise, source, from, (int32_t)tensor->dims[0],
                         (int32_t)tensor->dims[1], type, to, scales);
}

/* Through memory of its own, for the time of the conversion. */
static enum qr_status bring_as(struct qr_cuda_device *cuda, const struct qr_tensor *tensor,
                               enum qr_cuda_type type, void *to, float *scales,
                               struct qr_error *err)
{
    size_t n_bytes =
        (size_t)qr_tensor_n_elements(tensor) * qr_cuda_type_size(source_type(cuda, tensor));
    qr_cu_address whole = qr_cuda_alloc(&cuda->cuda, n_bytes);

    if (whole == 0)
        return qr_fail(err, QR_ERR_NOMEM, "no %zu bytes of device memory to convert %s to %s",
                       n_bytes, qr_dtype_name(tensor->dtype), qr_cuda_type_name(type));
    enum qr_status status = bring(cuda, tensor, (void *)(uintptr_t)whole, err);
    if (status == QR_OK)
        change_type(cuda, tensor, (const void *)(uintptr_t)whole, type, to, scales);
    qr_cuda_synchronize(&cuda->cuda);
    qr_cuda_free(&cuda->cuda, whole);
    return status;
}

static size_t bytes_as(const struct qr_tensor *tensor, enum qr_cuda_type type)
{
    int64_t n_in = tensor->dims[tensor->n_dims - 1];
    return (size_t)(qr_tensor_n_elements(tensor) / n_in) * qr_cuda_row_bytes(type, (int32_t)n_in);
}

enum qr_status qr_cuda_load_weight(struct qr_device *dev, struct qr_tensor *tensor,
                                   struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    enum qr_cuda_type type = wanted_type(cuda, tensor);
    bool quantized = type == QR_CUDA_E4M3 || type == QR_CUDA_INT8;
    size_t n_bytes = bytes_as(tensor, type);
    float *scales = NULL;

    void *to = qr_cuda_arena_take(&cuda->weights, n_bytes);
    if (quantized)
        scales = qr_cuda_arena_take(&cuda->weights, (size_t)tensor->dims[0] * sizeof(*scales));
    if (to == NULL || (quantized && scales == NULL))
        return qr_fail(err, QR_ERR_NOMEM, "no %zu bytes of device memory, %lld are free", n_bytes,
                       (long long)qr_cuda_free_bytes(&cuda->cuda));
    if (type == source_type(cuda, tensor))
        QR_TRY(bring(cuda, tensor, to, err));
    else
        QR_TRY(bring_as(cuda, tensor, type, to, scales, err));
    qr_cuda_synchronize(&cuda->cuda);
    tensor->dtype = (enum qr_dtype)type;
    tensor->data = to;
    tensor->scales = scales;
    tensor->synthetic = false;
    return qr_cuda_take_failure(&cuda->cuda, err);
}

struct qr_cuda_expert_layer qr_cuda_expert_layer_of(const struct qr_experts *experts)
{
    return (struct qr_cuda_expert_layer){.router = qr_cuda_matrix_of(&experts->router),
                                         .table = experts->device_table,
                                         .type = type_of(&experts->gate[0]),
                                         .renormalizes = experts->renormalizes,
                                         .activation = experts->activation};
}

enum qr_status qr_cuda_load_experts(struct qr_device *dev, struct qr_experts *experts,
                                    struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_expert_weights *table = (struct qr_expert_weights *)(void *)cuda->stage;
    size_t n_bytes = (size_t)experts->n_experts * sizeof(*table);
    void *to = qr_cuda_arena_take(&cuda->weights, n_bytes);

    QR_ASSERT(n_bytes <= QR_CUDA_STAGE_BYTES);
    if (to == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no %zu bytes of device memory for a table of experts",
                       n_bytes);
    for (int32_t e = 0; e < experts->n_experts; e++) {
        table[e] = (struct qr_expert_weights){.gate = experts->gate[e].data,
                                              .up = experts->up[e].data,
                                              .down = experts->down[e].data,
                                              .gate_scales = experts->gate[e].scales,
                                              .up_scales = experts->up[e].scales,
                                              .down_scales = experts->down[e].scales};
        QR_ASSERT(experts->up[e].dtype == experts->gate[0].dtype &&
                  experts->gate[e].dtype == experts->gate[0].dtype &&
                  experts->down[e].dtype == experts->gate[0].dtype);
    }
    qr_cuda_copy_to_device(&cuda->cuda, "a table of experts", qr_cuda_address(to), table, n_bytes);
    qr_cuda_synchronize(&cuda->cuda);
    experts->device_table = to;
    return qr_cuda_take_failure(&cuda->cuda, err);
}
