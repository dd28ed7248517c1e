/* sliding_model.c - see sliding_model.h. */
#include "tests/support/sliding_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

enum { BYTE_VOCABULARY = 320 };

void sliding_model_make(const struct qr_temp_dir *dir, const char *family, int32_t context,
                        char path[SLIDING_MODEL_PATH_MAX])
{
    char name[64];
    char source[512];
    json_error_t err;

    snprintf(source, sizeof(source), "%s/tests/runtime/models/data/%s/config.json",
             getenv("QUIRE_SOURCE_DIR"), family);
    json_t *config = json_load_file(source, 0, &err);
    assert_non_null(config);
    json_object_set_new(config, "vocab_size", json_integer(BYTE_VOCABULARY));
    json_object_set_new(config, "max_position_embeddings", json_integer(context));
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    snprintf(name, sizeof(name), "%s.json", family);
    qr_temp_dir_write(dir, name, text, strlen(text));
    snprintf(path, SLIDING_MODEL_PATH_MAX, "synthetic:%s/%s,f32", dir->path, name);
    free(text);
    json_decref(config);
}
