/* config_fields.c - see config_fields.h for the contract. */
#include "runtime/models/config_fields.h"

/* The first of `names` that is there and not null, into *name; NULL when none is. */
static const json_t *find_field(const struct qr_config_file *file, const char *const *names,
                                const char **name)
{
    for (; *names != NULL; names++) {
        const json_t *value = json_object_get(file->root, *names);
        if (value != NULL && !json_is_null(value)) {
            *name = *names;
            return value;
        }
    }
    return NULL;
}

enum qr_status qr_config_int(const struct qr_config_file *file, const char *const *names,
                             int32_t min, int32_t max, int32_t default_value, int32_t *out)
{
    const char *name = names[0];
    const json_t *json = find_field(file, names, &name);

    if (json == NULL && default_value == QR_CONFIG_REQUIRED)
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s is missing", file->path, name);
    if (json == NULL) {
        *out = default_value;
        return QR_OK;
    }
    if (!json_is_integer(json))
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s must be an integer in [%d, %d]",
                       file->path, name, min, max);
    json_int_t value = json_integer_value(json);
    if (value < min || value > max)
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s is %lld; it must be in [%d, %d]",
                       file->path, name, (long long)value, min, max);
    *out = (int32_t)value;
    return QR_OK;
}

enum qr_status qr_config_float(const struct qr_config_file *file, const char *const *names,
                               double min, double max, double default_value, float *out)
{
    const char *name = names[0];
    const json_t *json = find_field(file, names, &name);

    if (json == NULL) {
        *out = (float)default_value;
        return QR_OK;
    }
    double value = json_number_value(json);
    if (!json_is_number(json) || value < min || value > max)
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s is %g; it must be a number in [%g, %g]",
                       file->path, name, value, min, max);
    *out = (float)value;
    return QR_OK;
}

enum qr_status qr_config_bool(const struct qr_config_file *file, const char *name,
                              bool default_value, bool *out)
{
    const json_t *json = json_object_get(file->root, name);

    *out = json == NULL || json_is_null(json) ? default_value : json_is_true(json);
    if (json != NULL && !json_is_boolean(json) && !json_is_null(json))
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s must be true or false", file->path, name);
    return QR_OK;
}

enum qr_status qr_config_soft_cap(const struct qr_config_file *file, const char *name,
                                  double default_value, float *out)
{
    const json_t *json = json_object_get(file->root, name);

    *out = 0.0f;
    if (json != NULL && json_is_null(json))
        return QR_OK;
    return qr_config_float(file, (const char *[]){name, NULL}, 1e-3, 1e6, default_value, out);
}
