/* gguf_config.c - the metadata of a GGUF file in the fields of a config.json; see gguf_config.h. */
#include "runtime/models/gguf_config.h"

#include <stdio.h>

/* Metadata on its way to the fields of a config.json. */
struct conversion {
    const struct qr_gguf *gguf;
    const struct qr_checkpoint *checkpoint;
    struct qr_error *err;
    struct qr_gguf_text architecture;
    json_t *root;
};

enum { GEMMA2_27B_LAYERS = 46 };

/* ---- single values ---- */

/* The integer at <architecture>.`key`; absent: the default. */
static enum qr_status get_int(const struct conversion *conversion, const char *key,
                              int64_t default_value, int64_t *out)
{
    char full[QR_GGUF_KEY_SIZE];

    qr_gguf_architecture_key(conversion->architecture, key, full);
    return qr_gguf_get_int(conversion->gguf, full, 0, INT32_MAX, default_value, out,
                           conversion->err);
}

/* An integer that is there goes to `field` of `object`. */
static enum qr_status copy_int(const struct conversion *conversion, const char *key, json_t *object,
                               const char *field)
{
    int64_t value = 0;

    QR_TRY(get_int(conversion, key, -1, &value));
    if (value >= 0)
        json_object_set_new(object, field, json_integer(value));
    return QR_OK;
}

static enum qr_status copy_number(const struct conversion *conversion, const char *key,
                                  json_t *object, const char *field)
{
    char full[QR_GGUF_KEY_SIZE];
    double value = 0.0;

    qr_gguf_architecture_key(conversion->architecture, key, full);
    if (qr_gguf_find(conversion->gguf, full) == NULL)
        return QR_OK;
    QR_TRY(qr_gguf_get_number(conversion->gguf, full, -1e12, 1e12, 0.0, &value, conversion->err));
    json_object_set_new(object, field, json_real(value));
    return QR_OK;
}

/* ---- RoPE ---- */

/* Factors of frequencies, which stand in a tensor; absent: nothing. */
static enum qr_status copy_factors(const struct conversion *conversion, const char *tensor_name,
                                   json_t *object, const char *field)
{
    const struct qr_tensor *factors = qr_checkpoint_find(conversion->checkpoint, tensor_name);
    json_t *array = json_array();

    json_object_set_new(object, field, array);
    if (factors == NULL || factors->dtype != QR_DTYPE_F32 || factors->n_dims != 1)
        return qr_fail(conversion->err, QR_ERR_INVALID,
                       "%s: tensor %s is missing or no vector of F32", conversion->gguf->path,
                       tensor_name);
    for (int64_t i = 0; i < factors->dims[0]; i++)
        json_array_append_new(array, json_real((double)((const float *)factors->data)[i]));
    return QR_OK;
}

/*
 * Llama 3's stretch comes as finished factors, one for each frequency, which is what LongRoPE
 * has: the same ones for short and for long sequences.
 */
static enum qr_status convert_frequencies(const struct conversion *conversion, json_t *scaling)
{
    json_object_set_new(scaling, "rope_type", json_string("longrope"));
    json_object_set_new(scaling, "attention_factor", json_real(1.0));
    QR_TRY(copy_factors(conversion, "rope_freqs.weight", scaling, "short_factor"));
    return copy_factors(conversion, "rope_freqs.weight", scaling, "long_factor");
}

static enum qr_status convert_scaling(const struct conversion *conversion, json_t *scaling)
{
    char key[QR_GGUF_KEY_SIZE];
    struct qr_gguf_text type;

    if (qr_checkpoint_find(conversion->checkpoint, "rope_freqs.weight") != NULL)
        return convert_frequencies(conversion, scaling);
    QR_TRY(copy_number(conversion, "rope.scale_linear", scaling, "factor"));
    QR_TRY(copy_number(conversion, "rope.scaling.factor", scaling, "factor"));
    if (json_object_size(scaling) > 0)
        json_object_set_new(scaling, "rope_type", json_string("linear"));
    qr_gguf_architecture_key(conversion->architecture, "rope.scaling.type", key);
    QR_TRY(qr_gguf_get_string(conversion->gguf, key, &type, conversion->err));
    if (type.bytes != NULL)
        json_object_set_new(scaling, "rope_type",
                            qr_gguf_text_is(type, "none")
                                ? json_string("default")
                                : json_stringn_nocheck(type.bytes, type.n_bytes));
    if (qr_checkpoint_find(conversion->checkpoint, "rope_factors_long.weight") != NULL) {
        json_object_set_new(scaling, "rope_type", json_string("longrope"));
        QR_TRY(copy_factors(conversion, "rope_factors_long.weight", scaling, "long_factor"));
        QR_TRY(copy_factors(conversion, "rope_factors_short.weight", scaling, "short_factor"));
        QR_TRY(copy_number(conversion, "rope.scaling.attn_factor", scaling, "attention_factor"));
    }
    QR_TRY(copy_number(conversion, "rope.scaling.yarn_beta_fast", scaling, "beta_fast"));
    QR_TRY(copy_number(conversion, "rope.scaling.yarn_beta_slow", scaling, "beta_slow"));
    return copy_int(conversion, "rope.scaling.original_context_length", scaling,
                    "original_max_position_embeddings");
}

static enum qr_status convert_rope(const struct conversion *conversion, int64_t head_dim)
{
    json_t *scaling = json_object();
    int64_t rotary = 0;

    json_object_set_new(conversion->root, "rope_scaling", scaling);
    QR_TRY(copy_number(conversion, "rope.freq_base", conversion->root, "rope_theta"));
    QR_TRY(get_int(conversion, "rope.dimension_count", head_dim, &rotary));
    if (rotary < head_dim)
        json_object_set_new(conversion->root, "partial_rotary_factor",
                            json_real((double)rotary / (double)head_dim));
    QR_TRY(convert_scaling(conversion, scaling));
    if (json_object_get(scaling, "rope_type") == NULL)
        json_object_del(conversion->root, "rope_scaling");
    return QR_OK;
}

/* ---- architectures ---- */

/* NULL: none of those that are known. */
static const char *hugging_face_name(const struct conversion *conversion, bool has_experts,
                                     bool has_window)
{
    static const struct {
        const char *gguf;
        const char *name;
    } names[] = {
        {"gpt2", "GPT2LMHeadModel"},   {"qwen2", "Qwen2ForCausalLM"},
        {"qwen3", "Qwen3ForCausalLM"}, {"qwen3moe", "Qwen3MoeForCausalLM"},
        {"phi3", "Phi3ForCausalLM"},   {"gemma2", "Gemma2ForCausalLM"},
    };

    if (qr_gguf_text_is(conversion->architecture, "llama"))
        return has_experts  ? "MixtralForCausalLM"
               : has_window ? "MistralForCausalLM"
                            : "LlamaForCausalLM";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (qr_gguf_text_is(conversion->architecture, names[i].gguf))
            return names[i].name;
    return NULL;
}

/* Which layers slide, where the file says it of each. */
static enum qr_status convert_window(const struct conversion *conversion, int64_t window)
{
    char key[QR_GGUF_KEY_SIZE];
    json_t *types;

    if (window == 0)
        return QR_OK;
    json_object_set_new(conversion->root, "sliding_window", json_integer(window));
    json_object_set_new(conversion->root, "use_sliding_window", json_true());
    qr_gguf_architecture_key(conversion->architecture, "attention.sliding_window_pattern", key);
    const struct qr_gguf_value *slides = qr_gguf_get_array(conversion->gguf, key, QR_GGUF_BOOL);
    if (slides == NULL || slides->count > QR_MODEL_MAX_LAYERS)
        return QR_OK;
    types = json_array();
    for (uint64_t i = 0; i < slides->count; i++)
        json_array_append_new(
            types, json_string(slides->data[i] != 0 ? "sliding_attention" : "full_attention"));
    json_object_set_new(conversion->root, "layer_types", types);
    return QR_OK;
}

static enum qr_status convert_names(const struct conversion *conversion)
{
    int64_t n_experts = 0;
    int64_t window = 0;
    char unknown[QR_GGUF_ARCHITECTURE_MAX + 1];

    QR_TRY(get_int(conversion, "expert_count", 0, &n_experts));
    QR_TRY(get_int(conversion, "attention.sliding_window", 0, &window));
    const char *name = hugging_face_name(conversion, n_experts > 0, window > 0);
    if (name == NULL)
        snprintf(unknown, sizeof(unknown), "%.*s", (int)conversion->architecture.n_bytes,
                 conversion->architecture.bytes);
    json_object_set_new(conversion->root, "architectures",
                        json_pack("[s]", name != NULL ? name : unknown));
    QR_TRY(convert_window(conversion, window));
    if (n_experts == 0)
        return QR_OK;
    json_object_set_new(conversion->root, "num_local_experts", json_integer(n_experts));
    json_object_set_new(conversion->root, "norm_topk_prob", json_true());
    QR_TRY(copy_int(conversion, "expert_used_count", conversion->root, "num_experts_per_tok"));
    return copy_int(conversion, "expert_feed_forward_length", conversion->root,
                    "moe_intermediate_size");
}

/*
 * Gemma 2 scales q . k by 1 / sqrt(a number of its own), which writers leave out: head_dim, but in
 * the largest of its models.
 */
static enum qr_status convert_gemma2(const struct conversion *conversion, int64_t head_dim)
{
    int64_t n_layers = 0;
    int64_t hidden = 0;
    int64_t n_heads = 1;
    char key[QR_GGUF_KEY_SIZE];
    double scale = 0.0;
    double scalar = (double)head_dim;

    QR_TRY(get_int(conversion, "block_count", 0, &n_layers));
    QR_TRY(get_int(conversion, "embedding_length", 0, &hidden));
    QR_TRY(get_int(conversion, "attention.head_count", 1, &n_heads));
    qr_gguf_architecture_key(conversion->architecture, "attention.scale", key);
    QR_TRY(qr_gguf_get_number(conversion->gguf, key, 0.0, 1e3, 0.0, &scale, conversion->err));
    if (scale > 0.0)
        scalar = 1.0 / (scale * scale);
    else if (n_layers == GEMMA2_27B_LAYERS && n_heads > 0)
        scalar = (double)hidden / (double)n_heads;
    json_object_set_new(conversion->root, "query_pre_attn_scalar", json_real(scalar));
    QR_TRY(copy_number(conversion, "attn_logit_softcapping", conversion->root,
                       "attn_logit_softcapping"));
    return copy_number(conversion, "final_logit_softcapping", conversion->root,
                       "final_logit_softcapping");
}

/* ---- shape ---- */

static enum qr_status convert_shape(const struct conversion *conversion, int64_t *head_dim)
{
    static const struct {
        const char *key;
        const char *field;
    } fields[] = {
        {"embedding_length", "hidden_size"},
        {"block_count", "num_hidden_layers"},
        {"feed_forward_length", "intermediate_size"},
        {"attention.head_count", "num_attention_heads"},
        {"attention.head_count_kv", "num_key_value_heads"},
        {"context_length", "max_position_embeddings"},
    };
    int64_t hidden = 0;
    int64_t n_heads = 0;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        QR_TRY(copy_int(conversion, fields[i].key, conversion->root, fields[i].field));
    QR_TRY(get_int(conversion, "embedding_length", 0, &hidden));
    QR_TRY(get_int(conversion, "attention.head_count", 0, &n_heads));
    QR_TRY(
        get_int(conversion, "attention.key_length", n_heads > 0 ? hidden / n_heads : 0, head_dim));
    if (*head_dim > 0)
        json_object_set_new(conversion->root, "head_dim", json_integer(*head_dim));
    QR_TRY(copy_number(conversion, "attention.layer_norm_rms_epsilon", conversion->root,
                       "rms_norm_eps"));
    return copy_number(conversion, "attention.layer_norm_epsilon", conversion->root,
                       "layer_norm_epsilon");
}

static int64_t embedding_rows(const struct qr_checkpoint *checkpoint)
{
    const struct qr_tensor *table = qr_checkpoint_find(checkpoint, "model.embed_tokens.weight");

    if (table == NULL)
        table = qr_checkpoint_find(checkpoint, "transformer.wte.weight");
    return table != NULL ? table->dims[0] : 0;
}

static enum qr_status convert_vocabulary(const struct conversion *conversion)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const struct qr_gguf_value *tokens =
        qr_gguf_get_array(conversion->gguf, "tokenizer.ggml.tokens", QR_GGUF_STRING);
    json_t *eos = json_array();
    int64_t vocab_size = embedding_rows(conversion->checkpoint);
    int64_t id = 0;

    json_object_set_new(conversion->root, "eos_token_id", eos);
    if (vocab_size == 0)
        QR_TRY(get_int(conversion, "vocab_size",
                       tokens != NULL && tokens->count <= INT32_MAX ? (int64_t)tokens->count : 0,
                       &vocab_size));
    json_object_set_new(conversion->root, "vocab_size", json_integer(vocab_size));
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        QR_TRY(
            qr_gguf_get_int(conversion->gguf, ends[i], -1, UINT32_MAX, -1, &id, conversion->err));
        if (id >= 0 && id != UINT32_MAX)
            json_array_append_new(eos, json_integer(id));
    }
    QR_TRY(qr_gguf_get_int(conversion->gguf, "tokenizer.ggml.bos_token_id", -1, UINT32_MAX, -1, &id,
                           conversion->err));
    if (id >= 0 && id != UINT32_MAX)
        json_object_set_new(conversion->root, "bos_token_id", json_integer(id));
    return QR_OK;
}

static enum qr_status convert(const struct conversion *conversion)
{
    int64_t head_dim = 0;

    QR_TRY(convert_names(conversion));
    QR_TRY(convert_shape(conversion, &head_dim));
    QR_TRY(convert_vocabulary(conversion));
    if (qr_gguf_text_is(conversion->architecture, "gemma2"))
        QR_TRY(convert_gemma2(conversion, head_dim));
    return convert_rope(conversion, head_dim);
}

enum qr_status qr_gguf_config_to_json(const struct qr_gguf *gguf,
                                      const struct qr_checkpoint *checkpoint, json_t **out,
                                      struct qr_error *err)
{
    struct conversion conversion = {
        .gguf = gguf, .checkpoint = checkpoint, .err = err, .root = json_object()};

    *out = NULL;
    enum qr_status status = qr_gguf_get_architecture(gguf, &conversion.architecture, err);
    if (status == QR_OK)
        status = convert(&conversion);
    if (status != QR_OK)
        json_decref(conversion.root);
    else
        *out = conversion.root;
    return status;
}
