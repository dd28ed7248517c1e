/*
 * family_config.h - what the architectures of a config.json have beside the shape that all of them
 * have: biases, norms, activation, windows, experts. Private to runtime/models/.
 */
#ifndef QUIRE_RUNTIME_MODELS_FAMILY_CONFIG_H
#define QUIRE_RUNTIME_MODELS_FAMILY_CONFIG_H

#include "runtime/models/config_fields.h"
#include "runtime/models/model_config.h"

QR_BEGIN_DECLS

/*
 * Fills the fields of `config` from `norm_eps` on, but for the rope, by its architecture, with the
 * defaults that transformers gives them; of an unknown architecture as of LLaMA. The shape has been
 * read. What Quire cannot run goes to config->unsupported.
 */
QR_MUST_CHECK enum qr_status qr_family_config_parse(const struct qr_config_file *file,
                                                    struct qr_model_config *config);
/* head_dim where the file has none; 0: hidden_size / num_attention_heads. */
int32_t qr_family_head_dim(const char *architecture);
/* Positions are learned, not rotary. */
bool qr_family_learns_positions(const char *architecture);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_FAMILY_CONFIG_H */
