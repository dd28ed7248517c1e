/* rope_config.h - what a config.json says of rotary positions. Private to runtime/models/. */
#ifndef QUIRE_RUNTIME_MODELS_ROPE_CONFIG_H
#define QUIRE_RUNTIME_MODELS_ROPE_CONFIG_H

#include "runtime/models/config_fields.h"
#include "runtime/models/model_config.h"

QR_BEGIN_DECLS

/*
 * Reads rope_theta, partial_rotary_factor and the scaling (rope_scaling, or rope_parameters of
 * newer files) into config->rope, and lengthens config->max_position where the scaling does. The
 * shape has been read. A scaling that Quire does not know goes to config->unsupported.
 */
QR_MUST_CHECK enum qr_status qr_rope_config_parse(const struct qr_config_file *file,
                                                  struct qr_model_config *config);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_ROPE_CONFIG_H */
