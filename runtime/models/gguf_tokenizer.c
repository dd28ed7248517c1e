/*
 * gguf_tokenizer.c - the vocabulary in a GGUF file's metadata (tokenizer.ggml.*), with the
 * defaults of llama.cpp where a file is silent.
 */
#include <string.h>

#include "base/alloc.h"
#include "runtime/models/model_tokenizer.h"
#include "runtime/tokenizer/tokenizer_build.h"

enum { MAX_TOKENS = 1 << 24 };

#define KEY(name) "tokenizer.ggml." name

/* What the metadata says, in the arrays that builders take. */
struct vocabulary {
    const struct qr_gguf *gguf;
    struct qr_error *err;
    struct qr_token_text *tokens; /* [n_tokens] */
    float *scores;                /* [n_tokens]; NULL: there are none */
    int32_t *types;               /* [n_tokens]; NULL: there are none */
    size_t n_tokens;
    struct qr_token_text *merges; /* [n_merges] */
    size_t n_merges;
};

static void free_vocabulary(struct vocabulary *vocabulary)
{
    qr_free(vocabulary->tokens);
    qr_free(vocabulary->scores);
    qr_free(vocabulary->types);
    qr_free(vocabulary->merges);
}

static enum qr_status no_memory(const struct vocabulary *vocabulary)
{
    return qr_fail(vocabulary->err, QR_ERR_NOMEM, "%s: out of memory for its vocabulary",
                   vocabulary->gguf->path);
}

/* The array of strings at `key`; absent: none of them. */
static enum qr_status read_texts(struct vocabulary *vocabulary, const char *key,
                                 struct qr_token_text **texts, size_t *n)
{
    const struct qr_gguf_value *value = qr_gguf_get_array(vocabulary->gguf, key, QR_GGUF_STRING);

    if (value == NULL || value->count == 0)
        return QR_OK;
    if (value->count > MAX_TOKENS)
        return qr_fail(vocabulary->err, QR_ERR_INVALID, "%s: %s has %llu entries, more than %d",
                       vocabulary->gguf->path, key, (unsigned long long)value->count, MAX_TOKENS);
    *texts = qr_calloc(QR_ARENA_ENGINE, (size_t)value->count, sizeof(**texts));
    if (*texts == NULL)
        return no_memory(vocabulary);
    const uint8_t *cursor = value->data;
    for (uint64_t i = 0; i < value->count; i++) {
        struct qr_gguf_text text = qr_gguf_next_string(&cursor);
        (*texts)[i] = (struct qr_token_text){text.bytes, text.n_bytes};
    }
    *n = (size_t)value->count;
    return QR_OK;
}

/* A copy, aligned, of the array of one number of 4 bytes a token at `key`; absent: *out is left
 * alone. */
static enum qr_status read_numbers(const struct vocabulary *vocabulary, const char *key,
                                   enum qr_gguf_type type, void **out)
{
    const struct qr_gguf_value *value = qr_gguf_get_array(vocabulary->gguf, key, type);

    if (value == NULL)
        return QR_OK;
    if (value->count != vocabulary->n_tokens)
        return qr_fail(vocabulary->err, QR_ERR_INVALID, "%s: %s has %llu entries for %zu tokens",
                       vocabulary->gguf->path, key, (unsigned long long)value->count,
                       vocabulary->n_tokens);
    *out = qr_malloc(QR_ARENA_ENGINE, vocabulary->n_tokens * sizeof(uint32_t));
    if (*out == NULL)
        return no_memory(vocabulary);
    memcpy(*out, value->data, vocabulary->n_tokens * sizeof(uint32_t));
    return QR_OK;
}

static enum qr_status read_vocabulary(struct vocabulary *vocabulary)
{
    void *scores = NULL;
    void *types = NULL;

    QR_TRY(read_texts(vocabulary, KEY("tokens"), &vocabulary->tokens, &vocabulary->n_tokens));
    if (vocabulary->n_tokens == 0)
        return qr_fail(vocabulary->err, QR_ERR_INVALID,
                       "%s: " KEY("tokens") " is missing, empty or no array of strings",
                       vocabulary->gguf->path);
    QR_TRY(read_texts(vocabulary, KEY("merges"), &vocabulary->merges, &vocabulary->n_merges));
    QR_TRY(read_numbers(vocabulary, KEY("scores"), QR_GGUF_FLOAT32, &scores));
    vocabulary->scores = scores;
    QR_TRY(read_numbers(vocabulary, KEY("token_type"), QR_GGUF_INT32, &types));
    vocabulary->types = types;
    return QR_OK;
}

/* The token at `key`, -1: none, which some writers put as 2^32 - 1. */
static enum qr_status read_id(const struct vocabulary *vocabulary, const char *key,
                              int32_t default_id, int32_t *out)
{
    int64_t id = 0;

    QR_TRY(
        qr_gguf_get_int(vocabulary->gguf, key, -1, UINT32_MAX, default_id, &id, vocabulary->err));
    if (id == UINT32_MAX)
        id = -1;
    if (id >= (int64_t)vocabulary->n_tokens)
        return qr_fail(vocabulary->err, QR_ERR_INVALID, "%s: %s is %lld; there are %zu tokens",
                       vocabulary->gguf->path, key, (long long)id, vocabulary->n_tokens);
    *out = (int32_t)id;
    return QR_OK;
}

/* What stands around a text. *bos_id: -1 also where it is not to be put before a text. */
static enum qr_status read_ends(const struct vocabulary *vocabulary, bool adds_bos,
                                const int32_t defaults[2], int32_t *bos_id, int32_t *eos_id,
                                bool *adds_eos)
{
    QR_TRY(read_id(vocabulary, KEY("bos_token_id"), defaults[0], bos_id));
    QR_TRY(read_id(vocabulary, KEY("eos_token_id"), defaults[1], eos_id));
    QR_TRY(qr_gguf_get_bool(vocabulary->gguf, KEY("add_bos_token"), adds_bos, &adds_bos,
                            vocabulary->err));
    if (!adds_bos)
        *bos_id = -1;
    return qr_gguf_get_bool(vocabulary->gguf, KEY("add_eos_token"), false, adds_eos,
                            vocabulary->err);
}

static enum qr_status build_sentencepiece(const struct vocabulary *vocabulary,
                                          struct qr_tokenizer **out)
{
    static const int32_t defaults[2] = {1, 2};
    struct qr_sentencepiece_spec spec = {
        .pieces = vocabulary->tokens,
        .scores = vocabulary->scores,
        .types = vocabulary->types,
        .n_pieces = vocabulary->n_tokens,
        .byte_fallback = true,
        .escape_whitespaces = true,
    };

    if (spec.scores == NULL || spec.types == NULL)
        return qr_fail(vocabulary->err, QR_ERR_INVALID,
                       "%s: tokenizer \"llama\" needs " KEY("scores") " and " KEY("token_type"),
                       vocabulary->gguf->path);
    QR_TRY(read_ends(vocabulary, true, defaults, &spec.bos_id, &spec.eos_id, &spec.add_eos));
    QR_TRY(qr_gguf_get_bool(vocabulary->gguf, KEY("add_space_prefix"), true, &spec.add_dummy_prefix,
                            vocabulary->err));
    QR_TRY(qr_gguf_get_bool(vocabulary->gguf, KEY("remove_extra_whitespaces"), false,
                            &spec.remove_extra_whitespaces, vocabulary->err));
    return qr_tokenizer_build_sentencepiece(vocabulary->gguf->path, &spec, out, vocabulary->err);
}

/* Pre-tokenizers whose models expect a BOS, also where a file does not say so. */
static bool pattern_adds_bos(struct qr_gguf_text pattern)
{
    static const char *const names[] = {"llama-bpe", "llama3", "llama-v3", "tekken"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (qr_gguf_text_is(pattern, names[i]))
            return true;
    return false;
}

static enum qr_status build_byte_level(const struct vocabulary *vocabulary,
                                       struct qr_tokenizer **out)
{
    static const int32_t defaults[2] = {-1, -1};
    char pattern[64] = "";
    struct qr_gguf_text name;
    struct qr_byte_level_spec spec = {
        .tokens = vocabulary->tokens,
        .types = vocabulary->types,
        .n_tokens = vocabulary->n_tokens,
        .merges = vocabulary->merges,
        .n_merges = vocabulary->n_merges,
    };

    QR_TRY(qr_gguf_get_string(vocabulary->gguf, KEY("pre"), &name, vocabulary->err));
    if (name.bytes != NULL) {
        size_t n = name.n_bytes < sizeof(pattern) ? name.n_bytes : sizeof(pattern) - 1;
        memcpy(pattern, name.bytes, n);
        spec.pattern = pattern;
    }
    QR_TRY(read_ends(vocabulary, pattern_adds_bos(name), defaults, &spec.bos_id, &spec.eos_id,
                     &spec.add_eos));
    return qr_tokenizer_build_byte_level(vocabulary->gguf->path, &spec, out, vocabulary->err);
}

enum qr_status qr_tokenizer_from_gguf(const struct qr_gguf *gguf, struct qr_tokenizer **out,
                                      struct qr_error *err)
{
    struct vocabulary vocabulary = {.gguf = gguf, .err = err};
    struct qr_gguf_text model;

    *out = NULL;
    QR_TRY(qr_gguf_get_string(gguf, KEY("model"), &model, err));
    if (!qr_gguf_text_is(model, "llama") && !qr_gguf_text_is(model, "gpt2"))
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%s: " KEY("model") " is \"%.*s\"; \"llama\" and \"gpt2\" are supported",
                       gguf->path, model.n_bytes < 64 ? (int)model.n_bytes : 64,
                       model.bytes != NULL ? model.bytes : "");
    enum qr_status status = read_vocabulary(&vocabulary);
    if (status == QR_OK)
        status = qr_gguf_text_is(model, "llama") ? build_sentencepiece(&vocabulary, out)
                                                 : build_byte_level(&vocabulary, out);
    free_vocabulary(&vocabulary);
    return status;
}
