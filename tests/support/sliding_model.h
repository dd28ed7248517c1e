/*
 * sliding_model.h - small models all of whose layers slide: the shapes of
 * tests/runtime/models/data with made-up weights, the vocabulary of bytes and a longer context, so
 * that an engine runs them.
 */
#ifndef QUIRE_TESTS_SUPPORT_SLIDING_MODEL_H
#define QUIRE_TESTS_SUPPORT_SLIDING_MODEL_H

#include <stdint.h>

#include "tests/support/temp_dir.h"

enum { SLIDING_MODEL_PATH_MAX = QR_TEMP_PATH_MAX + 64 };

/* `family` names a folder there. path: what qr_engine_config.model_path is, as long as `dir` is. */
void sliding_model_make(const struct qr_temp_dir *dir, const char *family, int32_t context,
                        char path[SLIDING_MODEL_PATH_MAX]);

#endif /* QUIRE_TESTS_SUPPORT_SLIDING_MODEL_H */
