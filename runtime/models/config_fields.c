/* config_fields.c - see config_fields.h for the contract. */
#include "runtime/models/config_fields.h"

#include <stdio.h>
#include <string.h>

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

enum qr_status qr_config_bool(const struct qr_config_file *file, const char *name, bool *out)
{
    const json_t *json = json_object_get(file->root, name);

    *out = json_is_true(json);
    if (json != NULL && !json_is_boolean(json) && !json_is_null(json))
        return qr_fail(file->err, QR_ERR_INVALID, "%s: %s must be true or false", file->path, name);
    return QR_OK;
}

/* The kind of position scaling in `holder`, NULL where it is the plain one. */
static const char *rope_kind(const json_t *holder)
{
    const json_t *type = json_object_get(holder, "rope_type");

    if (type == NULL)
        type = json_object_get(holder, "type");
    if (!json_is_object(holder) || type == NULL)
        return NULL;
    const char *name = json_string_value(type);
    if (name == NULL)
        return "(no string)";
    return strcmp(name, "default") == 0 ? NULL : name;
}

static bool is_set(const json_t *root, const char *name)
{
    const json_t *value = json_object_get(root, name);
    return value != NULL && !json_is_null(value) && !json_is_false(value);
}

static bool has_sliding_window(const json_t *root, int32_t max_position)
{
    const json_t *window = json_object_get(root, "sliding_window");
    return json_is_integer(window) && json_integer_value(window) < max_position &&
           !json_is_false(json_object_get(root, "use_sliding_window"));
}

static const char *activation(const json_t *root)
{
    const char *name = json_string_value(json_object_get(root, "hidden_act"));
    if (name == NULL)
        name = json_string_value(json_object_get(root, "activation_function"));
    return name != NULL ? name : "silu";
}

void qr_config_find_unsupported(const json_t *root, int32_t max_position, char *out,
                                size_t out_size)
{
    static const char *const switches[] = {"attention_bias", "mlp_bias", "quantization_config"};
    const char *scaling = rope_kind(json_object_get(root, "rope_scaling"));
    const json_t *rotary = json_object_get(root, "partial_rotary_factor");

    out[0] = '\0';
    if (scaling == NULL)
        scaling = rope_kind(json_object_get(root, "rope_parameters"));
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]) && out[0] == '\0'; i++)
        if (is_set(root, switches[i]))
            snprintf(out, out_size, "%s is set", switches[i]);
    if (out[0] != '\0')
        return;
    if (strcmp(activation(root), "silu") != 0)
        snprintf(out, out_size, "hidden_act \"%.64s\" (only silu is)", activation(root));
    else if (scaling != NULL)
        snprintf(out, out_size, "rope_scaling of type \"%.64s\"", scaling);
    else if (has_sliding_window(root, max_position))
        snprintf(out, out_size, "sliding_window %lld",
                 (long long)json_integer_value(json_object_get(root, "sliding_window")));
    else if (json_is_number(rotary) && json_number_value(rotary) < 1.0)
        snprintf(out, out_size, "partial_rotary_factor %g", json_number_value(rotary));
}
