/* gguf_model.c - see gguf_model.h. */
#include "tests/support/gguf_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/models/model_config.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf_names.h"

struct source {
    struct qr_model_config config;
    struct qr_checkpoint *checkpoint;
    struct qr_gguf_text architecture;
    struct gguf_builder *gguf;
};

static const char *const names_outside[] = {"token_embd.weight", "position_embd.weight",
                                            "output_norm.weight", "output_norm.bias",
                                            "output.weight"};
static const char *const parts_of_layer[] = {
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "attn_q_norm",
    "attn_k_norm",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
    "post_attention_norm",
    "post_ffw_norm",
};

static const char *architecture_of(const char *hugging_face)
{
    static const char *const names[][2] = {
        {"LlamaForCausalLM", "llama"},   {"MistralForCausalLM", "llama"},
        {"MixtralForCausalLM", "llama"}, {"Qwen2ForCausalLM", "qwen2"},
        {"Qwen3ForCausalLM", "qwen3"},   {"Qwen3MoeForCausalLM", "qwen3moe"},
        {"Phi3ForCausalLM", "phi3"},     {"Gemma2ForCausalLM", "gemma2"},
        {"GPT2LMHeadModel", "gpt2"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i][0], hugging_face) == 0)
            return names[i][1];
    fail_msg("no GGUF name for %s", hugging_face);
    return "";
}

/* ---- settings ---- */

static void key_of(const struct source *source, const char *key, char out[128])
{
    snprintf(out, 128, "%s.%s", source->architecture.bytes, key);
}

static void put_int(const struct source *source, const char *key, int32_t value)
{
    char full[128];
    key_of(source, key, full);
    gguf_add_u32(source->gguf, full, (uint32_t)value);
}

static void put_float(const struct source *source, const char *key, float value)
{
    char full[128];
    key_of(source, key, full);
    gguf_add_f32(source->gguf, full, value);
}

static void put_vector(const struct source *source, const char *name, const float *values,
                       int32_t n)
{
    const int64_t dims[] = {n};
    gguf_add_tensor(source->gguf, name, gguf_type_of(QR_DTYPE_F32), 1, dims, values,
                    (size_t)n * sizeof(*values));
}

/* Llama 3's factors: what its angles at position 1 are short of the plain ones. */
static void put_llama3_factors(const struct source *source, const struct qr_rope *rope)
{
    float factors[QR_ROPE_MAX_PAIRS];
    int32_t half = rope->rotary_dim / 2;

    for (int32_t i = 0; i < half; i++) {
        double plain = pow((double)rope->theta, -2.0 * i / rope->rotary_dim);
        double length = 2.0 * 3.14159265358979323846 / plain;
        double original = rope->original_max_position;
        double low = original / (double)rope->low_freq_factor;
        double high = original / (double)rope->high_freq_factor;
        double smooth = (original / length - (double)rope->low_freq_factor) /
                        ((double)rope->high_freq_factor - (double)rope->low_freq_factor);
        factors[i] = length < high ? 1.0f
                     : length > low
                         ? rope->factor
                         : (float)(1.0 / ((1.0 - smooth) / (double)rope->factor + smooth));
    }
    put_vector(source, "rope_freqs.weight", factors, half);
}

static void put_rope(const struct source *source)
{
    const struct qr_rope *rope = &source->config.rope;
    char key[128];

    if (rope->rotary_dim == 0)
        return;
    put_int(source, "rope.dimension_count", rope->rotary_dim);
    put_float(source, "rope.freq_base", rope->theta);
    key_of(source, "rope.scaling.type", key);
    if (rope->kind == QR_ROPE_LINEAR || rope->kind == QR_ROPE_YARN) {
        gguf_add_string(source->gguf, key, rope->kind == QR_ROPE_YARN ? "yarn" : "linear");
        put_float(source, "rope.scaling.factor", rope->factor);
        put_int(source, "rope.scaling.original_context_length", rope->original_max_position);
    } else if (rope->kind == QR_ROPE_LLAMA3) {
        put_llama3_factors(source, rope);
    } else if (rope->kind == QR_ROPE_LONG) {
        put_int(source, "rope.scaling.original_context_length", rope->original_max_position);
        put_float(source, "rope.scaling.attn_factor", rope->attention_factor);
        put_vector(source, "rope_factors_long.weight", rope->long_factors, rope->rotary_dim / 2);
        put_vector(source, "rope_factors_short.weight", rope->short_factors, rope->rotary_dim / 2);
    } else {
        assert_int_equal(rope->kind, QR_ROPE_PLAIN);
    }
}

static void put_windows(const struct source *source)
{
    uint8_t slides[QR_MODEL_MAX_LAYERS];
    int32_t n_layers = source->config.n_layers;
    char key[128];

    put_int(source, "attention.sliding_window", source->config.window);
    for (int32_t layer = 0; layer < n_layers; layer++)
        slides[layer] = qr_layer_set_has(&source->config.sliding, layer);
    key_of(source, "attention.sliding_window_pattern", key);
    gguf_add_array(source->gguf, key, QR_GGUF_BOOL, (uint64_t)n_layers, slides, (size_t)n_layers);
}

static void put_settings(const struct source *source)
{
    const struct qr_model_config *config = &source->config;
    bool is_gpt2 = strcmp(source->architecture.bytes, "gpt2") == 0;

    gguf_add_string(source->gguf, "general.architecture", source->architecture.bytes);
    put_int(source, "context_length", config->max_position);
    put_int(source, "embedding_length", config->hidden_size);
    put_int(source, "block_count", config->n_layers);
    put_int(source, "feed_forward_length", config->intermediate_size);
    put_int(source, "attention.head_count", config->n_heads);
    put_int(source, "attention.head_count_kv", config->n_kv_heads);
    put_int(source, "attention.key_length", config->head_dim);
    put_float(source, is_gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
              config->norm_eps);
    if (config->window > 0)
        put_windows(source);
    if (config->attention_soft_cap > 0.0f)
        put_float(source, "attn_logit_softcapping", config->attention_soft_cap);
    if (config->logit_soft_cap > 0.0f)
        put_float(source, "final_logit_softcapping", config->logit_soft_cap);
    if (strcmp(source->architecture.bytes, "gemma2") == 0)
        put_float(source, "attention.scale", config->attention_scale);
    if (config->n_experts > 0) {
        put_int(source, "expert_count", config->n_experts);
        put_int(source, "expert_used_count", config->n_experts_used);
        put_int(source, "expert_feed_forward_length", config->expert_size);
    }
    put_rope(source);
}

/* ---- tensors ---- */

/* The row of a Hugging Face tensor that is row `row` of the file. */
static int64_t source_row(const struct source *source, const struct qr_gguf_name *name,
                          int64_t n_rows, int64_t row)
{
    int64_t n_heads = name->is_kv ? source->config.n_kv_heads : source->config.n_heads;
    int64_t head_rows = n_rows / n_heads;

    if (name->change != QR_TENSOR_PAIRED_ROWS)
        return row;
    int64_t in_head = row % head_rows;
    return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}

/* The tensor's bytes as a converter changes them, appended to `bytes`; its dims may change too. */
static void append_changed(const struct source *source, const struct qr_gguf_name *name,
                           struct qr_tensor *tensor, struct qr_buffer *bytes)
{
    int64_t rows = tensor->dims[0];
    int64_t columns = tensor->n_dims > 1 ? tensor->dims[1] : 1;
    size_t size = qr_dtype_size(tensor->dtype);
    const char *data = tensor->data;

    if (name->change == QR_TENSOR_TRANSPOSED) {
        tensor->dims[0] = columns;
        tensor->dims[1] = rows;
        for (int64_t i = 0; i < rows * columns; i++) {
            int64_t from = i % rows * columns + i / rows;
            assert_int_equal(qr_buffer_append(bytes, data + (size_t)from * size, size), QR_OK);
        }
        return;
    }
    for (int64_t row = 0; row < rows; row++) {
        size_t row_bytes = (size_t)columns * size;
        const char *from = data + (size_t)source_row(source, name, rows, row) * row_bytes;
        float plus_one;
        if (name->change == QR_TENSOR_PLUS_ONE) { /* a vector of F32 */
            memcpy(&plus_one, from, sizeof(plus_one));
            plus_one += 1.0f;
            from = (const char *)&plus_one;
        }
        assert_int_equal(qr_buffer_append(bytes, from, row_bytes), QR_OK);
    }
}

/* The tensor or the stack of tensors that the file calls `gguf_name`, where the model has it. */
static void put_tensor(const struct source *source, const char *gguf_name)
{
    struct qr_gguf_name name;
    struct qr_buffer bytes = {0};
    struct qr_tensor first = {0};
    char hf_name[2 * QR_TENSOR_NAME_MAX + 16];
    int64_t dims[QR_TENSOR_MAX_DIMS];
    int32_t n_parts = 0;

    if (!qr_gguf_translate(source->architecture, gguf_name, &name))
        return;
    for (;; n_parts++) {
        snprintf(hf_name, sizeof(hf_name), name.is_stack ? "%s%d%s" : "%s", name.head, n_parts,
                 name.tail);
        const struct qr_tensor *tensor = qr_checkpoint_find(source->checkpoint, hf_name);
        if (tensor == NULL && strncmp(hf_name, "transformer.", 12) == 0)
            tensor = qr_checkpoint_find(source->checkpoint, hf_name + 12);
        if (tensor == NULL || (n_parts > 0 && !name.is_stack))
            break;
        first = *tensor;
        append_changed(source, &name, &first, &bytes);
    }
    if (n_parts > 0) {
        dims[0] = n_parts;
        memcpy(dims + name.is_stack, first.dims, (size_t)first.n_dims * sizeof(*dims));
        gguf_add_tensor(source->gguf, gguf_name, gguf_type_of(first.dtype),
                        first.n_dims + name.is_stack, dims, bytes.data, bytes.length);
    }
    qr_buffer_free(&bytes);
}

void gguf_from_model(const char *dir, struct gguf_builder *gguf)
{
    struct source source = {.gguf = gguf};
    struct qr_error err = {""};
    char name[128];

    if (qr_model_config_load(dir, &source.config, &err) != QR_OK ||
        qr_checkpoint_open(dir, &source.checkpoint, &err) != QR_OK)
        fail_msg("%s", err.message);
    source.architecture.bytes = architecture_of(source.config.architecture);
    source.architecture.n_bytes = strlen(source.architecture.bytes);
    put_settings(&source);
    for (size_t i = 0; i < sizeof(names_outside) / sizeof(names_outside[0]); i++)
        put_tensor(&source, names_outside[i]);
    for (int32_t layer = 0; layer < source.config.n_layers; layer++) {
        for (size_t i = 0; i < sizeof(parts_of_layer) / sizeof(parts_of_layer[0]); i++) {
            snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, parts_of_layer[i]);
            put_tensor(&source, name);
            snprintf(name, sizeof(name), "blk.%d.%s.bias", layer, parts_of_layer[i]);
            put_tensor(&source, name);
        }
    }
    qr_checkpoint_close(source.checkpoint);
}
