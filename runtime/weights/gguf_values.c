/* gguf_values.c - looks up what a GGUF file says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/weights/gguf_internal.h"

bool qr_gguf_is_path(const char *path)
{
    size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".gguf") == 0;
}

static int by_key(const void *a, const void *b)
{
    return qr_gguf_compare(*(const struct qr_gguf_text *)a, ((const struct qr_gguf_value *)b)->key);
}

const struct qr_gguf_value *qr_gguf_find(const struct qr_gguf *gguf, const char *key)
{
    struct qr_gguf_text text = {.bytes = key, .n_bytes = strlen(key)};

    if (gguf->n_values == 0)
        return NULL;
    return bsearch(&text, gguf->values, gguf->n_values, sizeof(*gguf->values), by_key);
}

static bool is_int(enum qr_gguf_type type)
{
    return type != QR_GGUF_FLOAT32 && type != QR_GGUF_FLOAT64 && type != QR_GGUF_BOOL &&
           type != QR_GGUF_STRING;
}

static bool is_number(enum qr_gguf_type type)
{
    return is_int(type) || type == QR_GGUF_FLOAT32 || type == QR_GGUF_FLOAT64;
}

int64_t qr_gguf_int_at(const struct qr_gguf_value *value, uint64_t i)
{
    size_t n_bytes = qr_gguf_type_bytes(value->type);
    uint64_t bits = qr_gguf_little_endian(value->data + i * n_bytes, n_bytes);

    switch (value->type) {
    case QR_GGUF_INT8:
        return (int8_t)bits;
    case QR_GGUF_INT16:
        return (int16_t)bits;
    case QR_GGUF_INT32:
        return (int32_t)bits;
    case QR_GGUF_UINT64:
        return bits > INT64_MAX ? INT64_MAX : (int64_t)bits; /* in no range that is asked for */
    default:
        return (int64_t)bits;
    }
}

double qr_gguf_number_at(const struct qr_gguf_value *value, uint64_t i)
{
    if (value->type == QR_GGUF_FLOAT32) {
        float number;
        memcpy(&number, value->data + i * sizeof(number), sizeof(number));
        return (double)number;
    }
    if (value->type == QR_GGUF_FLOAT64) {
        double number;
        memcpy(&number, value->data + i * sizeof(number), sizeof(number));
        return number;
    }
    return (double)qr_gguf_int_at(value, i);
}

/* One number: a value, or an array of equal ones. */
static bool is_single(const struct qr_gguf_value *value)
{
    for (uint64_t i = 1; i < value->count; i++)
        if (qr_gguf_number_at(value, i) != qr_gguf_number_at(value, 0))
            return false;
    return value->count > 0;
}

enum qr_status qr_gguf_get_int(const struct qr_gguf *gguf, const char *key, int64_t min,
                               int64_t max, int64_t default_value, int64_t *out,
                               struct qr_error *err)
{
    const struct qr_gguf_value *value = qr_gguf_find(gguf, key);

    *out = default_value;
    if (value == NULL)
        return QR_OK;
    if (!is_int(value->type) || !is_single(value))
        return qr_fail(err, QR_ERR_INVALID, "%s: %s must be an integer in [%lld, %lld]", gguf->path,
                       key, (long long)min, (long long)max);
    *out = qr_gguf_int_at(value, 0);
    if (*out < min || *out > max)
        return qr_fail(err, QR_ERR_INVALID, "%s: %s is %lld; it must be in [%lld, %lld]",
                       gguf->path, key, (long long)*out, (long long)min, (long long)max);
    return QR_OK;
}

enum qr_status qr_gguf_get_number(const struct qr_gguf *gguf, const char *key, double min,
                                  double max, double default_value, double *out,
                                  struct qr_error *err)
{
    const struct qr_gguf_value *value = qr_gguf_find(gguf, key);

    *out = default_value;
    if (value == NULL)
        return QR_OK;
    if (!is_number(value->type) || !is_single(value))
        return qr_fail(err, QR_ERR_INVALID, "%s: %s must be a number in [%g, %g]", gguf->path, key,
                       min, max);
    *out = qr_gguf_number_at(value, 0);
    if (!(*out >= min && *out <= max))
        return qr_fail(err, QR_ERR_INVALID, "%s: %s is %g; it must be in [%g, %g]", gguf->path, key,
                       *out, min, max);
    return QR_OK;
}

enum qr_status qr_gguf_get_bool(const struct qr_gguf *gguf, const char *key, bool default_value,
                                bool *out, struct qr_error *err)
{
    const struct qr_gguf_value *value = qr_gguf_find(gguf, key);

    *out = default_value;
    if (value == NULL)
        return QR_OK;
    if (value->type != QR_GGUF_BOOL || value->is_array)
        return qr_fail(err, QR_ERR_INVALID, "%s: %s must be true or false", gguf->path, key);
    *out = value->data[0] != 0;
    return QR_OK;
}

enum qr_status qr_gguf_get_string(const struct qr_gguf *gguf, const char *key,
                                  struct qr_gguf_text *out, struct qr_error *err)
{
    const struct qr_gguf_value *value = qr_gguf_find(gguf, key);

    *out = (struct qr_gguf_text){0};
    if (value == NULL)
        return QR_OK;
    if (value->type != QR_GGUF_STRING || value->is_array)
        return qr_fail(err, QR_ERR_INVALID, "%s: %s must be a string", gguf->path, key);
    const uint8_t *cursor = value->data;
    *out = qr_gguf_next_string(&cursor);
    return QR_OK;
}

enum qr_status qr_gguf_get_architecture(const struct qr_gguf *gguf, struct qr_gguf_text *out,
                                        struct qr_error *err)
{
    QR_TRY(qr_gguf_get_string(gguf, "general.architecture", out, err));
    if (out->n_bytes == 0 || out->n_bytes > QR_GGUF_ARCHITECTURE_MAX)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: general.architecture is missing, empty or longer than %d bytes",
                       gguf->path, QR_GGUF_ARCHITECTURE_MAX);
    return QR_OK;
}

void qr_gguf_architecture_key(struct qr_gguf_text architecture, const char *name,
                              char out[QR_GGUF_KEY_SIZE])
{
    snprintf(out, QR_GGUF_KEY_SIZE, "%.*s.%s", (int)architecture.n_bytes, architecture.bytes, name);
}

const struct qr_gguf_value *qr_gguf_get_array(const struct qr_gguf *gguf, const char *key,
                                              enum qr_gguf_type type)
{
    const struct qr_gguf_value *value = qr_gguf_find(gguf, key);
    return value != NULL && value->is_array && value->type == type ? value : NULL;
}

struct qr_gguf_text qr_gguf_next_string(const uint8_t **cursor)
{
    size_t length = (size_t)qr_gguf_little_endian(*cursor, sizeof(uint64_t));
    const uint8_t *bytes = *cursor + sizeof(uint64_t);

    *cursor = bytes + length;
    return (struct qr_gguf_text){.bytes = (const char *)bytes, .n_bytes = length};
}

bool qr_gguf_text_is(struct qr_gguf_text text, const char *words)
{
    return text.bytes != NULL && text.n_bytes == strlen(words) &&
           memcmp(text.bytes, words, text.n_bytes) == 0;
}
