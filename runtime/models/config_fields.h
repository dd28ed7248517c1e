/*
 * config_fields.h - single fields of a config.json, each checked for type and range.
 * Private to runtime/models/.
 *
 * A field that is absent or null takes the default; the first of several names that
 * the file has is used.
 */
#ifndef QUIRE_RUNTIME_MODELS_CONFIG_FIELDS_H
#define QUIRE_RUNTIME_MODELS_CONFIG_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/models/model_config.h"

enum { QR_CONFIG_REQUIRED = INT32_MIN }; /* as a default: the field must be there */

struct qr_config_file {
    const char *path;
    const json_t *root;   /* borrowed */
    struct qr_error *err; /* may be NULL */
};

QR_BEGIN_DECLS

/* qr_model_config_load's reader, of a config.json that has been parsed, or made up. */
QR_MUST_CHECK enum qr_status qr_model_config_from_json(const char *path, const json_t *root,
                                                       struct qr_model_config *config,
                                                       struct qr_error *err);

/* names: NULL-terminated. The value must be an integer in [min, max]. */
QR_MUST_CHECK enum qr_status qr_config_int(const struct qr_config_file *file,
                                           const char *const *names, int32_t min, int32_t max,
                                           int32_t default_value, int32_t *out);
QR_MUST_CHECK enum qr_status qr_config_float(const struct qr_config_file *file,
                                             const char *const *names, double min, double max,
                                             double default_value, float *out);
QR_MUST_CHECK enum qr_status qr_config_bool(const struct qr_config_file *file, const char *name,
                                            bool default_value, bool *out);
/* A soft cap: null is none, which is 0. */
QR_MUST_CHECK enum qr_status qr_config_soft_cap(const struct qr_config_file *file, const char *name,
                                                double default_value, float *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_CONFIG_FIELDS_H */
