/* quantization_config.c - see quantization_config.h for the contract. */
#include "runtime/models/quantization_config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SCALE_BLOCK = 128 };

static bool is_text(const json_t *json, const char *words)
{
    return json_is_string(json) && strcmp(json_string_value(json), words) == 0;
}

/* Sizes other than 128 times 128 are not what checkpoints are read with. */
static bool has_other_blocks(const json_t *quantization)
{
    const json_t *size = json_object_get(quantization, "weight_block_size");

    return json_is_array(size) && (json_integer_value(json_array_get(size, 0)) != SCALE_BLOCK ||
                                   json_integer_value(json_array_get(size, 1)) != SCALE_BLOCK);
}

/* Of "compressed-tensors": each group of layers has floats of 8 bits. */
static bool has_float8_groups(const json_t *quantization)
{
    json_t *groups = json_object_get(quantization, "config_groups");
    const char *name;
    json_t *group;

    json_object_foreach(groups, name, group)
    {
        const json_t *weights = json_object_get(group, "weights");
        if (!is_text(json_object_get(weights, "type"), "float") ||
            json_integer_value(json_object_get(weights, "num_bits")) != 8)
            return false;
    }
    return json_object_size(groups) > 0;
}

void qr_quantization_find_unsupported(const json_t *root, char *out, size_t out_size)
{
    const json_t *quantization = json_object_get(root, "quantization_config");
    const json_t *method = json_object_get(quantization, "quant_method");
    const char *name = json_string_value(method);

    if (quantization == NULL || json_is_null(quantization))
        return;
    if (is_text(method, "fp8") || is_text(method, "fbgemm_fp8")) {
        if (has_other_blocks(quantization))
            snprintf(out, out_size,
                     "quantization_config with a weight_block_size that is not "
                     "[128, 128]");
        return;
    }
    if (!is_text(method, "compressed-tensors") || !has_float8_groups(quantization))
        snprintf(out, out_size, "quantization_config of method \"%.64s\" (FP8 weights are read)",
                 name != NULL ? name : "");
}
