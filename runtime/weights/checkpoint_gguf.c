/* checkpoint_gguf.c - the tensors of a GGUF file, or of one that was split, by their usual names.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/weights/checkpoint_internal.h"
#include "runtime/weights/gguf_names.h"

enum { MAX_SPLITS = 99999, MAX_HEADS = 1024 };

/* What the first file of a model says of all. */
struct gguf_model {
    struct qr_gguf_text architecture;
    int32_t n_heads;
    int32_t n_kv_heads;
};

/* The number at <architecture>.`key`. */
static enum qr_status get_count(const struct qr_gguf *gguf, struct qr_gguf_text architecture,
                                const char *key, int64_t default_value, int32_t *out,
                                struct qr_error *err)
{
    char full[QR_GGUF_KEY_SIZE];
    int64_t count = 0;

    qr_gguf_architecture_key(architecture, key, full);
    QR_TRY(qr_gguf_get_int(gguf, full, 1, MAX_HEADS, default_value, &count, err));
    *out = (int32_t)count;
    return QR_OK;
}

static enum qr_status read_model(const struct qr_gguf *gguf, struct gguf_model *model,
                                 struct qr_error *err)
{
    QR_TRY(qr_gguf_get_architecture(gguf, &model->architecture, err));
    QR_TRY(get_count(gguf, model->architecture, "attention.head_count", 1, &model->n_heads, err));
    return get_count(gguf, model->architecture, "attention.head_count_kv", model->n_heads,
                     &model->n_kv_heads, err);
}

/* `from` under the name `name`, whole or its part `index` of dims[0]. */
static enum qr_status add_tensor(struct qr_checkpoint *checkpoint,
                                 const struct qr_tensor_entry *from, const char *name,
                                 int64_t index, bool is_part, struct qr_error *err)
{
    struct qr_tensor_entry *entry;

    QR_TRY(qr_tensor_list_append(&checkpoint->tensors, from->path, name, &entry, err));
    char *own_name = entry->name;
    *entry = *from;
    entry->name = own_name;
    if (is_part) {
        struct qr_tensor *tensor = &entry->tensor;
        int64_t part_bytes = (from->end - from->begin) / tensor->dims[0];
        tensor->data = (const char *)tensor->data + index * part_bytes;
        tensor->n_dims--;
        memmove(tensor->dims, tensor->dims + 1, (size_t)tensor->n_dims * sizeof(*tensor->dims));
        entry->begin += index * part_bytes;
        entry->end = entry->begin + part_bytes;
    }
    return QR_OK;
}

static enum qr_status add_stack(struct qr_checkpoint *checkpoint,
                                const struct qr_tensor_entry *from, const struct qr_gguf_name *name,
                                struct qr_error *err)
{
    char part[2 * QR_TENSOR_NAME_MAX + 24];

    if (from->tensor.n_dims < 2 || from->tensor.dims[0] > QR_STACK_MAX)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: tensor %s holds experts: it must have 2 dimensions or more, the "
                       "outermost of at most %d",
                       from->path, from->name, QR_STACK_MAX);
    for (int64_t i = 0; i < from->tensor.dims[0]; i++) {
        snprintf(part, sizeof(part), "%s%lld%s", name->head, (long long)i, name->tail);
        QR_TRY(add_tensor(checkpoint, from, part, i, true, err));
    }
    return QR_OK;
}

enum qr_status qr_checkpoint_add_gguf(struct qr_checkpoint *checkpoint, const struct qr_gguf *first,
                                      const struct qr_gguf *gguf, struct qr_error *err)
{
    struct gguf_model model = {.n_heads = 1};

    QR_TRY(read_model(first, &model, err));
    for (size_t i = 0; i < gguf->tensors.count; i++) {
        struct qr_tensor_entry entry = gguf->tensors.entries[i];
        struct qr_gguf_name name;
        if (!qr_gguf_translate(model.architecture, entry.name, &name)) {
            QR_TRY(add_tensor(checkpoint, &entry, entry.name, 0, false, err));
            continue;
        }
        entry.change = name.change;
        entry.n_heads = name.is_kv ? model.n_kv_heads : model.n_heads;
        if (name.is_stack)
            QR_TRY(add_stack(checkpoint, &entry, &name, err));
        else
            QR_TRY(add_tensor(checkpoint, &entry, name.head, 0, false, err));
    }
    return QR_OK;
}

const struct qr_gguf *qr_checkpoint_gguf(const struct qr_checkpoint *checkpoint)
{
    return checkpoint->n_gguf_files > 0 ? &checkpoint->gguf_files[0].gguf : NULL;
}

/* ---- files ---- */

/* The path of part `index` of `count`, of which checkpoint->dir is the first. */
static enum qr_status part_path(const struct qr_checkpoint *checkpoint, int64_t index,
                                int64_t count, char *path, size_t size, struct qr_error *err)
{
    char end[32];
    size_t length = strlen(checkpoint->dir);
    size_t end_length =
        (size_t)snprintf(end, sizeof(end), "-00001-of-%05lld.gguf", (long long)count);

    if (length < end_length || strcmp(checkpoint->dir + length - end_length, end) != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: the first of %lld parts of a model; its name must end in %s, so that "
                       "the others can be found",
                       checkpoint->dir, (long long)count, end);
    int n = snprintf(path, size, "%.*s-%05lld-of-%05lld.gguf", (int)(length - end_length),
                     checkpoint->dir, (long long)(index + 1), (long long)count);
    return n > 0 && (size_t)n < size
               ? QR_OK
               : qr_fail(err, QR_ERR_INVALID, "%s: the path is too long", checkpoint->dir);
}

static enum qr_status open_part(struct qr_checkpoint *checkpoint, int64_t index, int64_t count,
                                struct qr_error *err)
{
    char path[4096];
    int64_t number = 0;
    struct qr_gguf_file *file = &checkpoint->gguf_files[index];

    QR_TRY(part_path(checkpoint, index, count, path, sizeof(path), err));
    QR_TRY(qr_gguf_open(path, file, err));
    checkpoint->n_gguf_files++;
    QR_TRY(qr_gguf_get_int(&file->gguf, "split.no", 0, MAX_SPLITS, 0, &number, err));
    if (number != index)
        return qr_fail(err, QR_ERR_INVALID, "%s: split.no is %lld; by its name it is %lld", path,
                       (long long)number, (long long)index);
    return QR_OK;
}

/* Moves the first file to its place and opens the others. */
static enum qr_status open_parts(struct qr_checkpoint *checkpoint, struct qr_gguf_file *first,
                                 struct qr_error *err)
{
    int64_t count = 0;
    int64_t number = 0;

    QR_TRY(qr_gguf_get_int(&first->gguf, "split.count", 0, MAX_SPLITS, 1, &count, err));
    QR_TRY(qr_gguf_get_int(&first->gguf, "split.no", 0, MAX_SPLITS, 0, &number, err));
    if (number != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: part %lld of a model; name its first part, ...-00001-of-%05lld.gguf",
                       checkpoint->dir, (long long)number + 1, (long long)count);
    count = count > 0 ? count : 1;
    checkpoint->gguf_files =
        qr_calloc(QR_ARENA_ENGINE, (size_t)count, sizeof(*checkpoint->gguf_files));
    if (checkpoint->gguf_files == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    checkpoint->gguf_files[0] = *first;
    checkpoint->n_gguf_files = 1;
    *first = (struct qr_gguf_file){0};
    for (int64_t i = 1; i < count; i++)
        QR_TRY(open_part(checkpoint, i, count, err));
    return QR_OK;
}

enum qr_status qr_checkpoint_load_gguf(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    struct qr_gguf_file first;

    QR_TRY(qr_gguf_open(checkpoint->dir, &first, err));
    enum qr_status status = open_parts(checkpoint, &first, err);
    qr_gguf_close(&first);
    QR_TRY(status);
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        QR_TRY(qr_checkpoint_add_gguf(checkpoint, qr_checkpoint_gguf(checkpoint),
                                      &checkpoint->gguf_files[i].gguf, err));
    return QR_OK;
}
