/* model_config.c - see model_config.h for the contract. */
#include "runtime/models/model_config.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "attention/attention.h"
#include "runtime/models/config_fields.h"
#include "runtime/models/family_config.h"
#include "runtime/models/rope_config.h"

/* GPT-2's files have names of their own for the same things. */
static enum qr_status parse_shape(const struct qr_config_file *file, struct qr_model_config *config)
{
    QR_TRY(qr_config_int(file, (const char *[]){"vocab_size", NULL}, 1, 1 << 24, QR_CONFIG_REQUIRED,
                         &config->vocab_size));
    QR_TRY(qr_config_int(file, (const char *[]){"hidden_size", "n_embd", NULL}, 1, 1 << 17,
                         QR_CONFIG_REQUIRED, &config->hidden_size));
    QR_TRY(qr_config_int(file, (const char *[]){"num_hidden_layers", "n_layer", NULL}, 1, 1024,
                         QR_CONFIG_REQUIRED, &config->n_layers));
    QR_TRY(qr_config_int(file, (const char *[]){"num_attention_heads", "n_head", NULL}, 1, 1024,
                         QR_CONFIG_REQUIRED, &config->n_heads));
    QR_TRY(qr_config_int(file, (const char *[]){"num_key_value_heads", NULL}, 1, config->n_heads,
                         config->n_heads, &config->n_kv_heads));
    QR_TRY(qr_config_int(file, (const char *[]){"intermediate_size", "n_inner", NULL}, 1, 1 << 20,
                         4 * config->hidden_size, &config->intermediate_size));
    QR_TRY(qr_config_int(file,
                         (const char *[]){"max_position_embeddings", "n_positions", "n_ctx", NULL},
                         1, 1 << 24, QR_CONFIG_REQUIRED, &config->max_position));
    QR_TRY(qr_config_int(file, (const char *[]){"head_dim", NULL}, 2, QR_ATTENTION_MAX_HEAD_DIM, 0,
                         &config->head_dim));
    return QR_OK;
}

/* What the numbers must be to one another. */
static enum qr_status check_shape(const struct qr_config_file *file, struct qr_model_config *config)
{
    if (config->n_heads % config->n_kv_heads != 0)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: num_attention_heads %d is no multiple of num_key_value_heads %d",
                       file->path, config->n_heads, config->n_kv_heads);
    if (config->head_dim == 0)
        config->head_dim = qr_family_head_dim(config->architecture);
    if (config->head_dim == 0) {
        if (config->hidden_size % config->n_heads != 0)
            return qr_fail(file->err, QR_ERR_INVALID,
                           "%s: hidden_size %d is no multiple of num_attention_heads %d, and "
                           "there is no head_dim",
                           file->path, config->hidden_size, config->n_heads);
        config->head_dim = config->hidden_size / config->n_heads;
    }
    if (config->head_dim % 2 != 0 || config->head_dim > QR_ATTENTION_MAX_HEAD_DIM)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: head_dim (or hidden_size / num_attention_heads) is %d; it must be an "
                       "even number of at most %d",
                       file->path, config->head_dim, QR_ATTENTION_MAX_HEAD_DIM);
    return QR_OK;
}

static enum qr_status add_eos(const struct qr_config_file *file, const json_t *id,
                              struct qr_model_config *config)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= config->vocab_size)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: eos_token_id must be token ids in [0, %d], the vocabulary", file->path,
                       config->vocab_size - 1);
    int32_t value = (int32_t)json_integer_value(id);
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_ids[i] == value)
            return QR_OK;
    if (config->n_eos == QR_MODEL_MAX_EOS)
        return qr_fail(file->err, QR_ERR_UNSUPPORTED, "%s: more than %d ids in eos_token_id",
                       file->path, QR_MODEL_MAX_EOS);
    config->eos_ids[config->n_eos++] = value;
    return QR_OK;
}

/* eos_token_id: absent, null, one id or an array of ids. */
static enum qr_status parse_eos(const struct qr_config_file *file, struct qr_model_config *config)
{
    const json_t *eos = json_object_get(file->root, "eos_token_id");

    if (eos == NULL || json_is_null(eos))
        return QR_OK;
    if (!json_is_array(eos))
        return add_eos(file, eos, config);
    for (size_t i = 0; i < json_array_size(eos); i++)
        QR_TRY(add_eos(file, json_array_get(eos, i), config));
    return QR_OK;
}

static enum qr_status parse_names(const struct qr_config_file *file, struct qr_model_config *config)
{
    const json_t *architectures = json_object_get(file->root, "architectures");
    const char *name = json_string_value(json_array_get(architectures, 0));
    const char *dtype = json_string_value(json_object_get(file->root, "torch_dtype"));

    if (dtype == NULL)
        dtype = json_string_value(json_object_get(file->root, "dtype"));
    if (name == NULL || strlen(name) >= sizeof(config->architecture))
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: architectures must be an array that begins with the architecture's "
                       "name, such as [\"LlamaForCausalLM\"]",
                       file->path);
    snprintf(config->architecture, sizeof(config->architecture), "%s", name);
    snprintf(config->weight_dtype, sizeof(config->weight_dtype), "%s", dtype != NULL ? dtype : "");
    return QR_OK;
}

static json_t *load_object(const char *path, const char *text, size_t n_bytes, struct qr_error *err)
{
    json_error_t json_error;
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &json_error);

    if (root == NULL) {
        qr_fail(err, QR_ERR_INVALID, "%s: no valid JSON: %s at line %d", path, json_error.text,
                json_error.line);
    } else if (!json_is_object(root)) {
        qr_fail(err, QR_ERR_INVALID, "%s: no JSON object", path);
        json_decref(root);
        root = NULL;
    }
    return root;
}

enum qr_status qr_model_config_from_json(const char *path, const json_t *root,
                                         struct qr_model_config *config, struct qr_error *err)
{
    const struct qr_config_file file = {.path = path, .root = root, .err = err};

    *config = (struct qr_model_config){0};
    QR_TRY(parse_names(&file, config));
    QR_TRY(parse_shape(&file, config));
    QR_TRY(check_shape(&file, config));
    if (!qr_family_learns_positions(config->architecture))
        QR_TRY(qr_rope_config_parse(&file, config));
    QR_TRY(qr_family_config_parse(&file, config));
    QR_TRY(qr_config_int(&file, (const char *[]){"bos_token_id", NULL}, 0, config->vocab_size - 1,
                         -1, &config->bos_id));
    return parse_eos(&file, config);
}

enum qr_status qr_model_config_parse(const char *path, const char *text, size_t n_bytes,
                                     struct qr_model_config *config, struct qr_error *err)
{
    json_t *root = load_object(path, text, n_bytes, err);

    *config = (struct qr_model_config){0};
    if (root == NULL)
        return QR_ERR_INVALID;
    enum qr_status status = qr_model_config_from_json(path, root, config, err);
    json_decref(root);
    return status;
}

enum qr_status qr_model_config_parse_generation(const char *path, const char *text, size_t n_bytes,
                                                struct qr_model_config *config,
                                                struct qr_error *err)
{
    json_t *root = load_object(path, text, n_bytes, err);
    if (root == NULL)
        return QR_ERR_INVALID;

    struct qr_config_file file = {.path = path, .root = root, .err = err};
    enum qr_status status = parse_eos(&file, config);
    json_decref(root);
    return status;
}

int64_t qr_model_config_kv_bytes_per_token(const struct qr_model_config *config,
                                           int64_t element_size)
{
    return 2 * (int64_t)config->n_layers * config->n_kv_heads * config->head_dim * element_size;
}

int32_t qr_model_config_kv_window(const struct qr_model_config *config)
{
    for (int32_t layer = 0; layer < config->n_layers; layer++) {
        if (!qr_layer_set_has(&config->sliding, layer))
            return 0;
    }
    return config->window;
}
