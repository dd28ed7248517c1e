/* config_changes.c - see config_changes.h. */
#include "tests/support/config_changes.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const base_config =
    "{\"vocab_size\":100,\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":8,"
    "\"intermediate_size\":172,\"max_position_embeddings\":512}";

enum qr_status qr_parse_changed_config(const char *architecture, const char *changes,
                                       struct qr_model_config *config, struct qr_error *err)
{
    json_t *root = json_loads(base_config, 0, NULL);
    json_t *change = json_loads(changes, 0, NULL);

    assert_true(root != NULL && change != NULL);
    json_object_set_new(root, "architectures", json_pack("[s]", architecture));
    json_object_update(root, change);
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    err->message[0] = '\0';
    enum qr_status status = qr_model_config_parse("config.json", text, strlen(text), config, err);
    free(text);
    json_decref(root);
    json_decref(change);
    return status;
}
