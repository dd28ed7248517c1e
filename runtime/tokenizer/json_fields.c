/* json_fields.c - see json_fields.h for the contract. */
#include "runtime/tokenizer/json_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum qr_status qr_json_parse(const char *name, const char *text, size_t n_bytes, bool ints_as_reals,
                             json_t **out, struct qr_error *err)
{
    size_t flags = JSON_ALLOW_NUL | (ints_as_reals ? JSON_DECODE_INT_AS_REAL : 0);
    json_error_t error;

    *out = NULL;
    json_t *root = json_loadb(n_bytes > 0 ? text : "", n_bytes, flags, &error);
    if (root == NULL)
        return qr_fail(err, QR_ERR_INVALID, "%s: is not valid JSON: line %d, column %d: %s", name,
                       error.line, error.column, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return qr_fail(err, QR_ERR_INVALID, "%s: must hold a JSON object", name);
    }
    *out = root;
    return QR_OK;
}

enum qr_status qr_json_fail(const struct qr_json_place *place, enum qr_status status,
                            const char *key, const char *fmt, ...)
{
    char what[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return qr_fail(place->err, status, "%s: %s%s%s: %s", place->name, place->path,
                   place->path[0] != '\0' && key[0] != '\0' ? "." : "", key, what);
}

static const json_t *get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

enum qr_status qr_json_bool(const struct qr_json_place *place, const json_t *object,
                            const char *key, bool *out)
{
    const json_t *value = get(object, key);

    if (value == NULL)
        return QR_OK;
    if (!json_is_boolean(value))
        return qr_json_fail(place, QR_ERR_INVALID, key, "must be true or false");
    *out = json_is_true(value);
    return QR_OK;
}

enum qr_status qr_json_string(const struct qr_json_place *place, const json_t *object,
                              const char *key, const json_t **out)
{
    const json_t *value = get(object, key);

    if (value == NULL)
        return QR_OK;
    if (!json_is_string(value))
        return qr_json_fail(place, QR_ERR_INVALID, key, "must be a string");
    *out = value;
    return QR_OK;
}

enum qr_status qr_json_object(const struct qr_json_place *place, const json_t *object,
                              const char *key, const json_t **out)
{
    const json_t *value = get(object, key);

    if (value == NULL)
        return QR_OK;
    if (!json_is_object(value))
        return qr_json_fail(place, QR_ERR_INVALID, key, "must be an object");
    *out = value;
    return QR_OK;
}

enum qr_status qr_json_array(const struct qr_json_place *place, const json_t *object,
                             const char *key, const json_t **out)
{
    const json_t *value = get(object, key);

    if (value == NULL)
        return QR_OK;
    if (!json_is_array(value))
        return qr_json_fail(place, QR_ERR_INVALID, key, "must be an array");
    *out = value;
    return QR_OK;
}

bool qr_json_is(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL && strcmp(value, text) == 0;
}

const char *qr_json_type_name(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type != NULL ? type : "(none)";
}
