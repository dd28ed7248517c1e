/* gguf_names.c - see gguf_names.h for the contract. */
#include "runtime/weights/gguf_names.h"

#include <ctype.h>
#include <string.h>

/*
 * A '*' of `gguf` stands for a number, and each '*' of `hf` for the next of these; a '#' of `hf`
 * for the place in a stack. Names go on with ".weight" or ".bias".
 */
struct name_rule {
    const char *gguf;
    const char *hf;
};

static const struct name_rule decoder[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"blk.*.attn_norm", "model.layers.*.input_layernorm"},
    {"blk.*.attn_q", "model.layers.*.self_attn.q_proj"},
    {"blk.*.attn_k", "model.layers.*.self_attn.k_proj"},
    {"blk.*.attn_v", "model.layers.*.self_attn.v_proj"},
    {"blk.*.attn_qkv", "model.layers.*.self_attn.qkv_proj"},
    {"blk.*.attn_output", "model.layers.*.self_attn.o_proj"},
    {"blk.*.attn_q_norm", "model.layers.*.self_attn.q_norm"},
    {"blk.*.attn_k_norm", "model.layers.*.self_attn.k_norm"},
    {"blk.*.ffn_norm", "model.layers.*.post_attention_layernorm"},
    {"blk.*.ffn_gate", "model.layers.*.mlp.gate_proj"},
    {"blk.*.ffn_up", "model.layers.*.mlp.up_proj"},
    {"blk.*.ffn_down", "model.layers.*.mlp.down_proj"},
    {0},
};

/* Mixtral: the experts of a layer in one tensor, or one by one in older files. */
static const struct name_rule mixtral[] = {
    {"blk.*.ffn_gate_inp", "model.layers.*.block_sparse_moe.gate"},
    {"blk.*.ffn_gate_exps", "model.layers.*.block_sparse_moe.experts.#.w1"},
    {"blk.*.ffn_down_exps", "model.layers.*.block_sparse_moe.experts.#.w2"},
    {"blk.*.ffn_up_exps", "model.layers.*.block_sparse_moe.experts.#.w3"},
    {"blk.*.ffn_gate.*", "model.layers.*.block_sparse_moe.experts.*.w1"},
    {"blk.*.ffn_down.*", "model.layers.*.block_sparse_moe.experts.*.w2"},
    {"blk.*.ffn_up.*", "model.layers.*.block_sparse_moe.experts.*.w3"},
    {0},
};

static const struct name_rule qwen3moe[] = {
    {"blk.*.ffn_gate_inp", "model.layers.*.mlp.gate"},
    {"blk.*.ffn_gate_exps", "model.layers.*.mlp.experts.#.gate_proj"},
    {"blk.*.ffn_down_exps", "model.layers.*.mlp.experts.#.down_proj"},
    {"blk.*.ffn_up_exps", "model.layers.*.mlp.experts.#.up_proj"},
    {0},
};

static const struct name_rule phi3[] = {
    {"blk.*.ffn_up", "model.layers.*.mlp.gate_up_proj"},
    {0},
};

static const struct name_rule gemma2[] = {
    {"blk.*.post_attention_norm", "model.layers.*.post_attention_layernorm"},
    {"blk.*.ffn_norm", "model.layers.*.pre_feedforward_layernorm"},
    {"blk.*.post_ffw_norm", "model.layers.*.post_feedforward_layernorm"},
    {0},
};

static const struct name_rule gpt2[] = {
    {"token_embd", "transformer.wte"},
    {"position_embd", "transformer.wpe"},
    {"output_norm", "transformer.ln_f"},
    {"output", "lm_head"},
    {"blk.*.attn_norm", "transformer.h.*.ln_1"},
    {"blk.*.attn_qkv", "transformer.h.*.attn.c_attn"},
    {"blk.*.attn_output", "transformer.h.*.attn.c_proj"},
    {"blk.*.ffn_norm", "transformer.h.*.ln_2"},
    {"blk.*.ffn_up", "transformer.h.*.mlp.c_fc"},
    {"blk.*.ffn_down", "transformer.h.*.mlp.c_proj"},
    {0},
};

static const struct {
    const char *name;
    const struct name_rule *rules[2]; /* the first that fits counts */
} architectures[] = {
    {"llama", {mixtral, decoder}},
    {"qwen2", {decoder}},
    {"qwen3", {decoder}},
    {"qwen3moe", {qwen3moe, decoder}},
    {"phi3", {phi3, decoder}},
    {"gemma2", {gemma2, decoder}},
    {"gpt2", {gpt2}},
};

enum { MAX_NUMBERS = 2, MAX_DIGITS = 8 };

typedef char numbers_of_name[MAX_NUMBERS][MAX_DIGITS + 1];

static const char *end_of_pattern(const char *name, const char *pattern, numbers_of_name numbers)
{
    int n = 0;

    for (; *pattern != '\0'; pattern++) {
        size_t digits = 0;
        if (*pattern != '*') {
            if (*name++ != *pattern)
                return NULL;
            continue;
        }
        while (isdigit((unsigned char)name[digits]))
            digits++;
        if (digits == 0 || digits > MAX_DIGITS)
            return NULL;
        memcpy(numbers[n], name, digits);
        numbers[n++][digits] = '\0';
        name += digits;
    }
    return strcmp(name, ".weight") == 0 || strcmp(name, ".bias") == 0 ? name : NULL;
}

/* Every name that the rules make is shorter than QR_TENSOR_NAME_MAX. */
static void append(char *to, const char *text, size_t n)
{
    size_t length = strlen(to);
    memcpy(to + length, text, n);
    to[length + n] = '\0';
}

static void write_name(const char *pattern, numbers_of_name numbers, const char *end,
                       struct qr_gguf_name *out)
{
    char *to = out->head;
    int n = 0;

    *out = (struct qr_gguf_name){.is_stack = false};
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '#') {
            out->is_stack = true;
            to = out->tail;
        } else if (*pattern == '*') {
            append(to, numbers[n], strlen(numbers[n]));
            n++;
        } else {
            append(to, pattern, 1);
        }
    }
    append(to, end, strlen(end));
}

/* Matrices of GPT-2, but for the embeddings: its checkpoints hold them as [n_in][n_out]. */
static bool is_conv1d(struct qr_gguf_text architecture, const char *pattern, const char *end)
{
    return qr_gguf_text_is(architecture, "gpt2") && strncmp(pattern, "blk.", 4) == 0 &&
           !qr_tensor_name_ends(pattern, "norm") && strcmp(end, ".weight") == 0;
}

/* What the usual converter does to q and k of its "llama", to GPT-2 and to the norms of Gemma. */
static void describe_change(struct qr_gguf_text architecture, const char *pattern, const char *end,
                            struct qr_gguf_name *out)
{
    bool is_q = qr_tensor_name_ends(pattern, ".attn_q");

    out->is_kv = qr_tensor_name_ends(pattern, ".attn_k");
    if (qr_gguf_text_is(architecture, "llama") && (is_q || out->is_kv))
        out->change = QR_TENSOR_PAIRED_ROWS;
    else if (qr_gguf_text_is(architecture, "gemma2") && qr_tensor_name_ends(pattern, "norm"))
        out->change = QR_TENSOR_PLUS_ONE;
    else if (is_conv1d(architecture, pattern, end))
        out->change = QR_TENSOR_TRANSPOSED;
}

static bool apply(const struct name_rule *rules, struct qr_gguf_text architecture, const char *name,
                  struct qr_gguf_name *out)
{
    for (; rules != NULL && rules->gguf != NULL; rules++) {
        numbers_of_name numbers;
        const char *end = end_of_pattern(name, rules->gguf, numbers);
        if (end != NULL) {
            write_name(rules->hf, numbers, end, out);
            describe_change(architecture, rules->gguf, end, out);
            return true;
        }
    }
    return false;
}

bool qr_gguf_translate(struct qr_gguf_text architecture, const char *name, struct qr_gguf_name *out)
{
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++)
        if (qr_gguf_text_is(architecture, architectures[i].name))
            return apply(architectures[i].rules[0], architecture, name, out) ||
                   apply(architectures[i].rules[1], architecture, name, out);
    return false;
}
