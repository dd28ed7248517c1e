/* config_changes.h - a small config.json that is accepted, and parsed with some fields changed. */
#ifndef QUIRE_TESTS_SUPPORT_CONFIG_CHANGES_H
#define QUIRE_TESTS_SUPPORT_CONFIG_CHANGES_H

#include "runtime/models/model_config.h"

/*
 * Parses the config of an `architecture` with 4 layers, 8 heads, hidden_size 64, vocab_size 100 and
 * 512 positions, with `changes`, an object whose fields replace the others.
 */
enum qr_status qr_parse_changed_config(const char *architecture, const char *changes,
                                       struct qr_model_config *config, struct qr_error *err);

#endif /* QUIRE_TESTS_SUPPORT_CONFIG_CHANGES_H */
