/* rope_config.c - see rope_config.h for the contract. */
#include "runtime/models/rope_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static enum qr_status parse_number(const struct qr_config_file *file, const char *name, double min,
                                   double max, double default_value, float *out)
{
    return qr_config_float(file, (const char *[]){name, NULL}, min, max, default_value, out);
}

/* The kind's name in `scaling`; NULL: the plain one. */
static const char *kind_name(const json_t *scaling)
{
    const json_t *type = json_object_get(scaling, "rope_type");

    if (type == NULL)
        type = json_object_get(scaling, "type");
    if (type == NULL)
        return NULL;
    const char *name = json_string_value(type);
    if (name == NULL)
        return "(no string)";
    return strcmp(name, "default") == 0 ? NULL : name;
}

static bool find_kind(const char *name, enum qr_rope_kind *kind)
{
    static const struct {
        const char *name;
        enum qr_rope_kind kind;
    } kinds[] = {
        {"linear", QR_ROPE_LINEAR}, {"dynamic", QR_ROPE_DYNAMIC}, {"yarn", QR_ROPE_YARN},
        {"llama3", QR_ROPE_LLAMA3}, {"longrope", QR_ROPE_LONG},   {"su", QR_ROPE_LONG},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    }
    return false;
}

static double yarn_attention(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static enum qr_status parse_yarn(const struct qr_config_file *scaling, struct qr_rope *rope)
{
    float mscale, mscale_all_dim, attention_factor;
    bool truncates;

    QR_TRY(parse_number(scaling, "beta_fast", 1e-3, 1e6, 32.0, &rope->beta_fast));
    QR_TRY(parse_number(scaling, "beta_slow", 1e-3, 1e6, 1.0, &rope->beta_slow));
    QR_TRY(parse_number(scaling, "mscale", 0.0, 1e3, 0.0, &mscale));
    QR_TRY(parse_number(scaling, "mscale_all_dim", 0.0, 1e3, 0.0, &mscale_all_dim));
    QR_TRY(qr_config_bool(scaling, "truncate", true, &truncates));
    rope->untruncated = !truncates;
    double attention = yarn_attention((double)rope->factor, 1.0);
    if (mscale != 0.0f && mscale_all_dim != 0.0f)
        attention = yarn_attention((double)rope->factor, (double)mscale) /
                    yarn_attention((double)rope->factor, (double)mscale_all_dim);
    QR_TRY(parse_number(scaling, "attention_factor", 1e-3, 1e3, attention, &attention_factor));
    rope->attention_factor = attention_factor;
    return QR_OK;
}

static enum qr_status parse_factors(const struct qr_config_file *scaling, const char *name,
                                    int32_t n_pairs, float *out)
{
    const json_t *array = json_object_get(scaling->root, name);

    if (json_array_size(array) != (size_t)n_pairs || n_pairs > QR_ROPE_MAX_PAIRS)
        return qr_fail(scaling->err, QR_ERR_INVALID,
                       "%s: rope scaling: %s must be an array of %d numbers, one for each pair of "
                       "a head",
                       scaling->path, name, n_pairs);
    for (int32_t i = 0; i < n_pairs; i++) {
        double value = json_number_value(json_array_get(array, (size_t)i));
        if (!(value > 1e-6 && value < 1e9))
            return qr_fail(scaling->err, QR_ERR_INVALID, "%s: rope scaling: %s[%d] is %g",
                           scaling->path, name, i, value);
        out[i] = (float)value;
    }
    return QR_OK;
}

static enum qr_status parse_long(const struct qr_config_file *scaling, int32_t max_position,
                                 struct qr_rope *rope)
{
    double ratio = (double)max_position / rope->original_max_position;
    double attention = 1.0;

    QR_TRY(parse_number(scaling, "factor", 1e-3, 1e6, ratio, &rope->factor));
    if (rope->factor > 1.0f && rope->original_max_position > 1)
        attention = sqrt(1.0 + log((double)rope->factor) / log(rope->original_max_position));
    QR_TRY(
        parse_number(scaling, "attention_factor", 1e-3, 1e3, attention, &rope->attention_factor));
    rope->is_long = max_position > rope->original_max_position;
    QR_TRY(parse_factors(scaling, "short_factor", rope->rotary_dim / 2, rope->short_factors));
    return parse_factors(scaling, "long_factor", rope->rotary_dim / 2, rope->long_factors);
}

static enum qr_status parse_llama3(const struct qr_config_file *scaling, struct qr_rope *rope)
{
    QR_TRY(parse_number(scaling, "low_freq_factor", 1e-3, 1e6, 1.0, &rope->low_freq_factor));
    QR_TRY(parse_number(scaling, "high_freq_factor", 1e-3, 1e6, 4.0, &rope->high_freq_factor));
    if (rope->low_freq_factor >= rope->high_freq_factor)
        return qr_fail(scaling->err, QR_ERR_INVALID,
                       "%s: rope scaling: low_freq_factor %g must be below high_freq_factor %g",
                       scaling->path, (double)rope->low_freq_factor,
                       (double)rope->high_freq_factor);
    return QR_OK;
}

/* How long sequences may get with this scaling: the file may state the length before or after. */
static void lengthen(struct qr_model_config *config)
{
    const struct qr_rope *rope = &config->rope;
    double longest = (double)rope->factor * rope->original_max_position;

    if (rope->kind != QR_ROPE_LLAMA3 && rope->kind != QR_ROPE_LONG &&
        longest > config->max_position && longest <= 1 << 24)
        config->max_position = (int32_t)longest;
}

static enum qr_status parse_scaling(const struct qr_config_file *scaling,
                                    struct qr_model_config *config)
{
    struct qr_rope *rope = &config->rope;

    QR_TRY(qr_config_int(scaling, (const char *[]){"original_max_position_embeddings", NULL}, 1,
                         1 << 24, rope->original_max_position, &rope->original_max_position));
    if (rope->kind == QR_ROPE_LONG)
        return parse_long(scaling, config->max_position, rope);
    QR_TRY(parse_number(scaling, "factor", 1.0, 1e6,
                        (double)config->max_position / rope->original_max_position, &rope->factor));
    if (rope->kind == QR_ROPE_YARN)
        QR_TRY(parse_yarn(scaling, rope));
    if (rope->kind == QR_ROPE_LLAMA3)
        QR_TRY(parse_llama3(scaling, rope));
    if (rope->kind == QR_ROPE_DYNAMIC)
        rope->original_max_position = config->max_position;
    lengthen(config);
    return QR_OK;
}

static enum qr_status parse_plain(const struct qr_config_file *file,
                                  const struct qr_config_file *newer,
                                  struct qr_model_config *config)
{
    struct qr_rope *rope = &config->rope;
    float part;

    QR_TRY(parse_number(file, "rope_theta", 1.0, 1e12, 10000.0, &rope->theta));
    QR_TRY(parse_number(newer, "rope_theta", 1.0, 1e12, (double)rope->theta, &rope->theta));
    QR_TRY(parse_number(file, "partial_rotary_factor", 1e-3, 1.0, 1.0, &part));
    QR_TRY(parse_number(newer, "partial_rotary_factor", 1e-3, 1.0, (double)part, &part));
    rope->attention_factor = 1.0f;
    rope->rotary_dim = (int32_t)((double)config->head_dim * (double)part);
    if (rope->rotary_dim % 2 != 0 || rope->rotary_dim == 0)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: partial_rotary_factor %g of head_dim %d is %d; it must be an even "
                       "number",
                       file->path, (double)part, config->head_dim, rope->rotary_dim);
    return qr_config_int(file, (const char *[]){"original_max_position_embeddings", NULL}, 1,
                         1 << 24, config->max_position, &rope->original_max_position);
}

enum qr_status qr_rope_config_parse(const struct qr_config_file *file,
                                    struct qr_model_config *config)
{
    struct qr_config_file scaling = *file;
    struct qr_config_file newer = *file;

    newer.root = json_object_get(file->root, "rope_parameters");
    scaling.root = json_object_get(file->root, "rope_scaling");
    if (!json_is_object(scaling.root))
        scaling.root = newer.root;
    QR_TRY(parse_plain(file, &newer, config));
    const char *name = kind_name(scaling.root);
    if (name == NULL)
        return QR_OK;
    if (!find_kind(name, &config->rope.kind)) {
        snprintf(config->unsupported, sizeof(config->unsupported), "rope scaling of type \"%.64s\"",
                 name);
        return QR_OK;
    }
    return parse_scaling(&scaling, config);
}
