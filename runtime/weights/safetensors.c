/* safetensors.c - see safetensors.h for the contract. */
#include "runtime/weights/safetensors.h"

#include <jansson.h>
#include <string.h>

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER = 100 * 1000 * 1000, /* bytes: the limit of the format's own library */
};

/* Which entry of which file is being read: what every error names. */
struct place {
    const char *path;
    const char *name;
    struct qr_error *err;
};

/* The format's types that Quire does not compute with may stand in a file unused. */
static const struct {
    const char *name;
    int64_t size;
} other_dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2},
    {"U32", 4},  {"I32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8},
};

static enum qr_status parse_dtype(const struct place *at, const json_t *json,
                                  struct qr_tensor_entry *entry, int64_t *element_size)
{
    const char *name = json_string_value(json);

    if (name == NULL)
        return qr_fail(at->err, QR_ERR_INVALID, "%s: tensor %s: dtype is missing or no string",
                       at->path, at->name);
    entry->is_readable = qr_dtype_parse(name, &entry->tensor.dtype);
    if (strcmp(name, "F8_E4M3") == 0) {
        entry->is_readable = true;
        entry->tensor.dtype = QR_DTYPE_E4M3;
    }
    if (entry->is_readable) {
        entry->dtype_name = qr_dtype_name(entry->tensor.dtype);
        *element_size = (int64_t)qr_dtype_size(entry->tensor.dtype);
        return QR_OK;
    }
    for (size_t i = 0; i < sizeof(other_dtypes) / sizeof(other_dtypes[0]); i++) {
        if (strcmp(name, other_dtypes[i].name) == 0) {
            entry->dtype_name = other_dtypes[i].name;
            *element_size = other_dtypes[i].size;
            return QR_OK;
        }
    }
    return qr_fail(at->err, QR_ERR_UNSUPPORTED,
                   "%s: tensor %s: dtype \"%.32s\" is unknown; Quire reads F32, F16, BF16 and "
                   "F8_E4M3",
                   at->path, at->name, name);
}

/* Reads the shape; *n_bytes is the size of a tensor of that shape. */
static enum qr_status parse_shape(const struct place *at, const json_t *json, int64_t element_size,
                                  struct qr_tensor *tensor, int64_t *n_bytes)
{
    if (!json_is_array(json))
        return qr_fail(at->err, QR_ERR_INVALID, "%s: tensor %s: shape is missing or no array",
                       at->path, at->name);
    if (json_array_size(json) > QR_TENSOR_MAX_DIMS)
        return qr_fail(at->err, QR_ERR_UNSUPPORTED,
                       "%s: tensor %s: shape has %zu dimensions; at most %d are read", at->path,
                       at->name, json_array_size(json), QR_TENSOR_MAX_DIMS);

    tensor->n_dims = (int32_t)json_array_size(json);
    *n_bytes = element_size;
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        const json_t *dim = json_array_get(json, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return qr_fail(at->err, QR_ERR_INVALID,
                           "%s: tensor %s: dimension %d of shape is no integer of 0 or more",
                           at->path, at->name, i);
        tensor->dims[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(*n_bytes, tensor->dims[i], n_bytes))
            return qr_fail(at->err, QR_ERR_INVALID,
                           "%s: tensor %s: shape is too large: dimension %d is %lld", at->path,
                           at->name, i, (long long)tensor->dims[i]);
    }
    return QR_OK;
}

static enum qr_status parse_offsets(const struct place *at, const json_t *json, int64_t data_size,
                                    struct qr_tensor_entry *entry)
{
    const json_t *begin = json_array_get(json, 0);
    const json_t *end = json_array_get(json, 1);

    if (json_array_size(json) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return qr_fail(at->err, QR_ERR_INVALID,
                       "%s: tensor %s: data_offsets must be an array of two integers", at->path,
                       at->name);
    entry->begin = json_integer_value(begin);
    entry->end = json_integer_value(end);
    if (entry->begin < 0 || entry->begin > entry->end || entry->end > data_size)
        return qr_fail(at->err, QR_ERR_INVALID,
                       "%s: tensor %s: data_offsets [%lld, %lld] do not lie within the %lld bytes "
                       "of data; the file may be cut short",
                       at->path, at->name, (long long)entry->begin, (long long)entry->end,
                       (long long)data_size);
    return QR_OK;
}

static enum qr_status parse_entry(const struct place *at, const json_t *json, const uint8_t *data,
                                  size_t data_start, int64_t data_size,
                                  struct qr_tensor_entry *entry)
{
    int64_t element_size = 0;
    int64_t n_bytes = 0;

    if (!json_is_object(json))
        return qr_fail(at->err, QR_ERR_INVALID, "%s: tensor %s: its header entry is no object",
                       at->path, at->name);
    QR_TRY(parse_dtype(at, json_object_get(json, "dtype"), entry, &element_size));
    QR_TRY(parse_shape(at, json_object_get(json, "shape"), element_size, &entry->tensor, &n_bytes));
    QR_TRY(parse_offsets(at, json_object_get(json, "data_offsets"), data_size, entry));
    if (entry->end - entry->begin != n_bytes)
        return qr_fail(at->err, QR_ERR_INVALID,
                       "%s: tensor %s: data_offsets [%lld, %lld] hold %lld bytes, but its shape "
                       "and dtype %s make %lld",
                       at->path, at->name, (long long)entry->begin, (long long)entry->end,
                       (long long)(entry->end - entry->begin), entry->dtype_name,
                       (long long)n_bytes);
    size_t position = data_start + (size_t)entry->begin;
    if (entry->is_readable && position % (size_t)element_size != 0)
        return qr_fail(at->err, QR_ERR_UNSUPPORTED,
                       "%s: tensor %s: its data begins at byte %zu, which is not aligned to its "
                       "dtype %s; save the file again with a current safetensors library",
                       at->path, at->name, position, entry->dtype_name);
    entry->tensor.data = data + position;
    return QR_OK;
}

/* The tensors must cover the data section, each byte once. Sorts the entries. */
static enum qr_status check_coverage(const char *path, struct qr_tensor_entry *entries,
                                     size_t count, int64_t data_size, struct qr_error *err)
{
    int64_t covered = 0;

    qr_tensor_entries_sort(entries, count);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].begin < covered)
            return qr_fail(err, QR_ERR_INVALID,
                           "%s: tensor %s overlaps tensor %s: it begins at byte %lld of the data, "
                           "before byte %lld",
                           path, entries[i].name, entries[i - 1].name, (long long)entries[i].begin,
                           (long long)covered);
        if (entries[i].begin > covered)
            break;
        covered = entries[i].end;
    }
    if (covered != data_size)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: from byte %lld on, data (%lld bytes) belongs to no tensor; the format "
                       "allows no holes",
                       path, (long long)covered, (long long)data_size);
    return QR_OK;
}

static enum qr_status load_header(const char *path, const uint8_t *data, size_t size, json_t **out,
                                  size_t *data_start, struct qr_error *err)
{
    uint64_t length = 0;

    if (size < LENGTH_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "%s: %zu bytes are too few for a safetensors file",
                       path, size);
    for (int i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (length > MAX_HEADER || length > size - LENGTH_BYTES)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: header length %llu is beyond the file's %zu bytes or the limit of %d; "
                       "this is no safetensors file, or it is cut short",
                       path, (unsigned long long)length, size, MAX_HEADER);

    json_error_t json_error;
    *out = json_loadb((const char *)data + LENGTH_BYTES, (size_t)length, JSON_REJECT_DUPLICATES,
                      &json_error);
    if (*out == NULL)
        return qr_fail(err, QR_ERR_INVALID, "%s: header is no valid JSON: %s at byte %d", path,
                       json_error.text, json_error.position);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return qr_fail(err, QR_ERR_INVALID, "%s: header is no JSON object", path);
    }
    *data_start = LENGTH_BYTES + (size_t)length;
    return QR_OK;
}

enum qr_status qr_safetensors_parse(const char *path, const uint8_t *data, size_t size,
                                    struct qr_tensor_list *list, struct qr_error *err)
{
    enum qr_status status = QR_OK;
    size_t first = list->count;
    size_t data_start = 0;
    json_t *header = NULL;
    const char *name;
    json_t *value;

    QR_TRY(load_header(path, data, size, &header, &data_start, err));
    int64_t data_size = (int64_t)(size - data_start);
    json_object_foreach(header, name, value)
    {
        struct place at = {.path = path, .name = name, .err = err};
        struct qr_tensor_entry *entry = NULL;
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if ((status = qr_tensor_list_append(list, at.path, at.name, &entry, at.err)) != QR_OK ||
            (status = parse_entry(&at, value, data, data_start, data_size, entry)) != QR_OK)
            goto done;
    }
    if (list->count == first)
        status = qr_fail(err, QR_ERR_INVALID, "%s: holds no tensor", path);
    else
        status = check_coverage(path, list->entries + first, list->count - first, data_size, err);

done:
    json_decref(header);
    return status;
}
