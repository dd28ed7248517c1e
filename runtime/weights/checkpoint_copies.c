/*
 * checkpoint_copies.c - tensors that a file has in another form than a model wants: rows in
 * another order, another offset, scales beside them. What is copied is small, or a part.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/dequantize.h"
#include "runtime/weights/checkpoint_internal.h"

enum { SCALE_BLOCK = 128 }; /* rows and columns that share a scale in block-wise FP8 checkpoints */

void *qr_checkpoint_take(struct qr_checkpoint *checkpoint, size_t n_bytes)
{
    struct qr_checkpoint_copy *grown =
        qr_array_grow(QR_ARENA_ENGINE, checkpoint->copies, checkpoint->n_copies,
                      &checkpoint->copies_capacity, sizeof(*grown));
    if (grown == NULL)
        return NULL;
    checkpoint->copies = grown;
    void *copy = qr_aligned_alloc(QR_ARENA_ENGINE, 64, (n_bytes + 63) / 64 * 64);
    if (copy != NULL)
        grown[checkpoint->n_copies++] = (struct qr_checkpoint_copy){copy, n_bytes};
    return copy;
}

/* The tensor as F32, in `out` [all its elements]; of no FP8 with scales. */
static void widen(const struct qr_tensor *tensor, float *out)
{
    qr_dequantize(tensor->dtype, tensor->data, qr_tensor_n_elements(tensor), out);
}

static enum qr_status become_f32(struct qr_checkpoint *checkpoint, struct qr_tensor *tensor,
                                 float offset, struct qr_error *err)
{
    int64_t n = qr_tensor_n_elements(tensor);
    float *copy = qr_checkpoint_take(checkpoint, (size_t)n * sizeof(*copy));

    if (copy == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    widen(tensor, copy);
    for (int64_t i = 0; i < n && offset != 0.0f; i++)
        copy[i] += offset;
    tensor->data = copy;
    tensor->dtype = QR_DTYPE_F32;
    return QR_OK;
}

/*
 * RoPE turns pairs of rows of q and k. Files of ggml's "llama" pair neighbours, 2i and 2i + 1;
 * Hugging Face's, and so ours, pair i and i + half of the head.
 */
static enum qr_status pair_halves(struct qr_checkpoint *checkpoint, struct qr_tensor_entry *entry,
                                  struct qr_error *err)
{
    struct qr_tensor *tensor = &entry->tensor;
    int64_t head_rows = tensor->dims[0] / entry->n_heads;
    int64_t half = head_rows / 2;
    size_t row_bytes = (size_t)(qr_tensor_n_bytes(tensor) / tensor->dims[0]);

    if (tensor->dims[0] % (2 * (int64_t)entry->n_heads) != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: tensor %s has %lld rows, no multiple of 2 for each of %d heads",
                       entry->path, entry->name, (long long)tensor->dims[0], entry->n_heads);
    char *copy = qr_checkpoint_take(checkpoint, (size_t)qr_tensor_n_bytes(tensor));
    if (copy == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    for (int64_t row = 0; row < tensor->dims[0]; row++) {
        int64_t in_head = row % head_rows;
        int64_t from = row - in_head + in_head % half * 2 + in_head / half;
        memcpy(copy + (size_t)row * row_bytes,
               (const char *)tensor->data + (size_t)from * row_bytes, row_bytes);
    }
    qr_checkpoint_forget(checkpoint, tensor->data, (size_t)qr_tensor_n_bytes(tensor));
    tensor->data = copy;
    return QR_OK;
}

/* ---- FP8 ---- */

bool qr_checkpoint_is_parameter(const char *name)
{
    return strncmp(name, "rope_", 5) != 0 && !qr_tensor_name_ends(name, ".weight_scale") &&
           !qr_tensor_name_ends(name, ".weight_scale_inv") &&
           !qr_tensor_name_ends(name, ".input_scale");
}

/* NULL: there is none. "_inv" is a name from one writer; both are factors of the weights. */
static struct qr_tensor_entry *find_scales(const struct qr_checkpoint *checkpoint, const char *name)
{
    static const char *const ends[] = {"_scale", "_scale_inv"};
    struct qr_tensor_entry *found = NULL;
    char scale_name[QR_TENSOR_NAME_MAX + 16];

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]) && found == NULL; i++) {
        int n = snprintf(scale_name, sizeof(scale_name), "%s%s", name, ends[i]);
        if (n > 0 && (size_t)n < sizeof(scale_name))
            found = qr_checkpoint_find_entry(checkpoint, scale_name);
    }
    return found;
}

static int64_t blocks_of(int64_t n)
{
    return (n + SCALE_BLOCK - 1) / SCALE_BLOCK;
}

/* What the shape of the scales says they belong to. */
static bool fit_scales(const struct qr_tensor *scales, struct qr_tensor *matrix)
{
    int64_t rows = scales->n_dims > 0 ? scales->dims[0] : 1;
    int64_t columns = scales->n_dims > 1 ? scales->dims[1] : 1;

    matrix->scale_rows = 1;
    matrix->scale_columns = (int32_t)matrix->dims[1];
    if (scales->n_dims > 2)
        return false;
    if (rows == 1 && columns == 1)
        matrix->scale_rows = (int32_t)matrix->dims[0];
    else if (rows == blocks_of(matrix->dims[0]) && columns == blocks_of(matrix->dims[1]))
        matrix->scale_rows = matrix->scale_columns = SCALE_BLOCK;
    else if (rows != matrix->dims[0] || columns != 1)
        return false;
    return true;
}

static enum qr_status attach_scales(struct qr_checkpoint *checkpoint, struct qr_tensor_entry *entry,
                                    struct qr_error *err)
{
    struct qr_tensor *matrix = &entry->tensor;
    struct qr_tensor_entry *scales = find_scales(checkpoint, entry->name);

    if (scales == NULL)
        return QR_OK; /* the codes are the weights */
    if (!scales->is_readable || !fit_scales(&scales->tensor, matrix))
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%s: tensor %s: a matrix [%lld, %lld] has one scale, one for each row, or "
                       "one for each block of %d times %d, as F32, F16 or BF16",
                       scales->path, scales->name, (long long)matrix->dims[0],
                       (long long)matrix->dims[1], SCALE_BLOCK, SCALE_BLOCK);
    if (scales->tensor.dtype != QR_DTYPE_F32)
        QR_TRY(become_f32(checkpoint, &scales->tensor, 0.0f, err));
    matrix->scales = scales->tensor.data;
    return QR_OK;
}

enum qr_status qr_checkpoint_finish(struct qr_checkpoint *checkpoint, struct qr_tensor_entry *entry,
                                    struct qr_error *err)
{
    struct qr_tensor *tensor = &entry->tensor;
    enum qr_tensor_change change = entry->change;

    if (change != QR_TENSOR_TRANSPOSED)
        entry->change = QR_TENSOR_SAME;
    if (tensor->n_dims < 2 && tensor->dtype >= QR_DTYPE_COUNT)
        QR_TRY(become_f32(checkpoint, tensor, 0.0f, err));
    if (tensor->dtype == QR_DTYPE_E4M3 && tensor->n_dims == 2 && tensor->scales == NULL)
        QR_TRY(attach_scales(checkpoint, entry, err));
    if (change == QR_TENSOR_PAIRED_ROWS)
        return pair_halves(checkpoint, entry, err);
    return change == QR_TENSOR_PLUS_ONE ? become_f32(checkpoint, tensor, -1.0f, err) : QR_OK;
}
