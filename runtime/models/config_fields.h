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

enum { QR_CONFIG_REQUIRED = INT32_MIN }; /* as a default: the field must be there */

struct qr_config_file {
    const char *path;
    const json_t *root;   /* borrowed */
    struct qr_error *err; /* may be NULL */
};

QR_BEGIN_DECLS

/* names: NULL-terminated. The value must be an integer in [min, max]. */
QR_MUST_CHECK enum qr_status qr_config_int(const struct qr_config_file *file,
                                           const char *const *names, int32_t min, int32_t max,
                                           int32_t default_value, int32_t *out);
QR_MUST_CHECK enum qr_status qr_config_float(const struct qr_config_file *file,
                                             const char *const *names, double min, double max,
                                             double default_value, float *out);
/* Absent: false. */
QR_MUST_CHECK enum qr_status qr_config_bool(const struct qr_config_file *file, const char *name,
                                            bool *out);

/*
 * Writes to `out` the first setting that would change the results and that Quire does
 * not implement, with its value; "" when there is none.
 */
void qr_config_find_unsupported(const json_t *root, int32_t max_position, char *out,
                                size_t out_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_CONFIG_FIELDS_H */
