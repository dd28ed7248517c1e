/* tiktoken_reader.c - tiktoken's rank files; see vocabulary_files.h. */
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "runtime/tokenizer/base64.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/byte_level_build.h"
#include "runtime/tokenizer/patterns.h"
#include "runtime/tokenizer/tokenizer_json.h"
#include "runtime/tokenizer/vocabulary_files.h"

enum {
    MAX_TOKEN_BYTES = 1024, /* longer ones are taken for a broken file */
};

struct special {
    int32_t id; /* 0: no more */
    const char *text;
};

/* What is known of a file by its number of ranks. */
struct family {
    size_t n_ranks;
    const char *pattern;
    struct special specials[14];
    const char *reserved; /* format of further special tokens; NULL: none */
    int32_t first_reserved;
    int32_t first_number; /* the reserved tokens' own numbering */
    int32_t n_reserved;
    const char *bos; /* NULL: none */
    const char *eos;
};

static const struct family families[] = {
    {
        .n_ranks = 50256,
        .pattern = "gpt-2",
        .specials = {{50256, "<|endoftext|>"}},
        .eos = "<|endoftext|>",
    },
    {
        .n_ranks = 50280, /* the rank 50256 is left out for the special token */
        .pattern = "p50k",
        .specials = {{50256, "<|endoftext|>"}},
        .eos = "<|endoftext|>",
    },
    {
        .n_ranks = 100256,
        .pattern = "cl100k",
        .specials = {{100257, "<|endoftext|>"},
                     {100258, "<|fim_prefix|>"},
                     {100259, "<|fim_middle|>"},
                     {100260, "<|fim_suffix|>"},
                     {100276, "<|endofprompt|>"}},
        .eos = "<|endoftext|>",
    },
    {
        .n_ranks = 199998,
        .pattern = "o200k",
        .specials = {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}},
        .eos = "<|endoftext|>",
    },
    {
        .n_ranks = 128000,
        .pattern = "llama-bpe",
        .specials = {{128000, "<|begin_of_text|>"},
                     {128001, "<|end_of_text|>"},
                     {128002, "<|reserved_special_token_0|>"},
                     {128003, "<|reserved_special_token_1|>"},
                     {128004, "<|finetune_right_pad_id|>"},
                     {128005, "<|reserved_special_token_2|>"},
                     {128006, "<|start_header_id|>"},
                     {128007, "<|end_header_id|>"},
                     {128008, "<|eom_id|>"},
                     {128009, "<|eot_id|>"},
                     {128010, "<|python_tag|>"}},
        .reserved = "<|reserved_special_token_%d|>",
        .first_reserved = 128011,
        .first_number = 3,
        .n_reserved = 245,
        .bos = "<|begin_of_text|>",
        .eos = "<|end_of_text|>",
    },
    {
        .n_ranks = 151643,
        .pattern = "qwen2",
        .specials = {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}},
        .reserved = "<|extra_%d|>",
        .first_reserved = 151646,
        .n_reserved = 205,
        .eos = "<|endoftext|>",
    },
};

enum { N_FAMILIES = sizeof(families) / sizeof(families[0]) };

struct reader {
    const struct qr_file_text *file;
    struct qr_error *err;
    struct qr_string_table tokens; /* as bytes */
    int32_t *ids;                  /* [tokens.count] */
    int32_t ids_capacity;
    struct qr_merge_slot *merges; /* [n_merges] */
    int32_t n_merges;
    int32_t merges_capacity;
    struct qr_buffer scratch;
    struct qr_tokenizer *tok;
};

bool qr_next_line(const char *text, size_t n_bytes, size_t *at, const char **line, size_t *length)
{
    if (*at >= n_bytes)
        return false;
    *line = text + *at;
    const char *end = memchr(*line, '\n', n_bytes - *at);
    *length = end != NULL ? (size_t)(end - *line) : n_bytes - *at;
    *at += *length + 1;
    while (*length > 0 && (*line)[*length - 1] == '\r')
        --*length;
    return true;
}

/* Cuts "BASE64 RANK"; false when the line is something else. */
static bool split_line(const char *line, size_t length, size_t *n_base64, int64_t *rank)
{
    const char *space = length > 0 ? memchr(line, ' ', length) : NULL;

    if (space == NULL || space == line || space + 1 == line + length)
        return false;
    *n_base64 = (size_t)(space - line);
    *rank = 0;
    for (const char *p = space + 1; p < line + length; p++) {
        if (*p < '0' || *p > '9' || *rank >= QR_MAX_VOCAB)
            return false;
        *rank = *rank * 10 + (*p - '0');
    }
    return *rank < QR_MAX_VOCAB;
}

bool qr_looks_like_tiktoken(const void *data, size_t n_bytes)
{
    struct qr_buffer bytes = {.arena = QR_ARENA_ENGINE};
    const char *line;
    size_t length;
    size_t at = 0;
    size_t n_base64;
    int64_t rank;

    bool looks = qr_next_line(data, n_bytes, &at, &line, &length) &&
                 split_line(line, length, &n_base64, &rank) &&
                 qr_base64_decode(line, n_base64, &bytes) == QR_OK;
    qr_buffer_free(&bytes);
    return looks;
}

static enum qr_status add_rank(struct reader *reader, int64_t rank)
{
    const struct qr_buffer *bytes = &reader->scratch;
    int32_t index;

    int32_t count = reader->tokens.count;
    void *grown = qr_array_grow(QR_ARENA_ENGINE, reader->ids, count, &reader->ids_capacity,
                                sizeof(*reader->ids));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    reader->ids = grown;
    QR_TRY(qr_string_table_add(&reader->tokens, bytes->data, bytes->length, &index));
    if (index != count)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: the token of rank %d is there twice, the first time with rank %d",
                       reader->file->name, (int)rank, reader->ids[index]);
    reader->ids[index] = (int32_t)rank;
    return QR_OK;
}

static enum qr_status read_lines(struct reader *reader)
{
    const char *line;
    size_t length;
    size_t at = 0;

    for (int number = 1;
         qr_next_line(reader->file->text, reader->file->n_bytes, &at, &line, &length); number++) {
        size_t n_base64;
        int64_t rank;
        if (length == 0)
            continue;
        qr_buffer_clear(&reader->scratch);
        enum qr_status status = split_line(line, length, &n_base64, &rank)
                                    ? qr_base64_decode(line, n_base64, &reader->scratch)
                                    : QR_ERR_INVALID;
        if (status == QR_ERR_NOMEM)
            return status;
        if (status != QR_OK || reader->scratch.length > MAX_TOKEN_BYTES)
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s: line %d: must be a token of up to %d bytes in base64, a space and "
                           "its rank in [0, %d)",
                           reader->file->name, number, MAX_TOKEN_BYTES, QR_MAX_VOCAB);
        QR_TRY(add_rank(reader, rank));
    }
    return QR_OK;
}

static enum qr_status add_tokens(struct reader *reader, struct qr_byte_level_builder *builder)
{
    char text[MAX_TOKEN_BYTES * QR_BYTE_CHAR_MAX];

    QR_TRY(qr_byte_level_reserve_tokens(builder, (size_t)reader->tokens.count));
    for (int32_t i = 0; i < reader->tokens.count; i++) {
        const char *bytes = qr_string_table_text(&reader->tokens, i);
        size_t length = 0;
        for (size_t k = 0; k < qr_string_table_length(&reader->tokens, i); k++)
            length += qr_byte_to_char((uint8_t)bytes[k], text + length);
        const struct qr_token_text token = {text, length};
        QR_TRY(qr_byte_level_add_token(builder, reader->ids[i], token));
    }
    return QR_OK;
}

/* The file does not hold merges: any two tokens join that are a token together. */
static enum qr_status list_merges_of(struct reader *reader, int32_t index)
{
    const char *text = qr_string_table_text(&reader->tokens, index);
    size_t n = qr_string_table_length(&reader->tokens, index);

    for (size_t cut = 1; cut < n; cut++) {
        int32_t left = qr_string_table_find(&reader->tokens, text, cut);
        int32_t right = left < 0 ? -1 : qr_string_table_find(&reader->tokens, text + cut, n - cut);
        if (right < 0)
            continue;
        void *grown = qr_array_grow(QR_ARENA_ENGINE, reader->merges, reader->n_merges,
                                    &reader->merges_capacity, sizeof(*reader->merges));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        reader->merges = grown;
        reader->merges[reader->n_merges++] = (struct qr_merge_slot){
            .left = reader->ids[left],
            .right = reader->ids[right],
            .rank = reader->ids[index],
            .id = reader->ids[index],
        };
    }
    return QR_OK;
}

static enum qr_status add_merges(struct reader *reader, struct qr_byte_level *model)
{
    for (int32_t i = 0; i < reader->tokens.count; i++)
        QR_TRY(list_merges_of(reader, i));
    QR_TRY(qr_byte_level_reserve_merges(model, (size_t)reader->n_merges));
    for (int32_t i = 0; i < reader->n_merges; i++)
        qr_byte_level_add_merge(model, reader->merges[i]);
    return QR_OK;
}

/* By the number of ranks; of others the tokenizer_config.json may say at least the pattern. */
static enum qr_status find_family(const struct reader *reader, const json_t *config,
                                  struct family *family)
{
    const json_t *class_name = json_object_get(config, "tokenizer_class");

    for (int i = 0; i < N_FAMILIES; i++) {
        *family = families[i];
        if (family->n_ranks == (size_t)reader->tokens.count)
            return QR_OK;
    }
    *family = (struct family){0};
    if (class_name != NULL)
        return qr_pattern_of_class(class_name, &family->pattern, reader->err);
    return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                   "%s: which pattern goes with %d ranks is not known; it is for 50256 (gpt2), "
                   "50280 (p50k), 100256 (cl100k), 128000 (llama 3), 151643 (qwen) and 199998 "
                   "(o200k). A tokenizer.json says it",
                   reader->file->name, reader->tokens.count);
}

static enum qr_status add_special(struct reader *reader, int32_t id, const char *text)
{
    const struct qr_added_token added = {.id = id, .is_special = true};

    if (qr_token_table_has(&reader->tok->tokens, id))
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: the rank %d should be the token \"%s\"",
                       reader->file->name, id, text);
    QR_TRY(qr_token_table_set(&reader->tok->tokens, id, text, strlen(text), QR_TOKEN_SPECIAL));
    return qr_added_tokens_add(&reader->tok->added, &added, text, strlen(text));
}

static enum qr_status add_specials(struct reader *reader, const struct family *family)
{
    int n_named = (int)(sizeof(family->specials) / sizeof(family->specials[0]));
    char text[64];

    for (int i = 0; i < n_named && family->specials[i].id != 0; i++)
        QR_TRY(add_special(reader, family->specials[i].id, family->specials[i].text));
    for (int32_t i = 0; i < family->n_reserved; i++) {
        snprintf(text, sizeof(text), family->reserved, family->first_number + i);
        QR_TRY(add_special(reader, family->first_reserved + i, text));
    }
    return QR_OK;
}

static int32_t find(const struct reader *reader, const char *text)
{
    return text == NULL ? -1 : qr_tokenizer_find_special(reader->tok, text, strlen(text));
}

static enum qr_status read_file(struct reader *reader, const json_t *config)
{
    struct qr_byte_level_builder builder = {
        .place = {reader->file->name, "", reader->err},
        .model = qr_byte_level_alloc(),
        .tokens = &reader->tok->tokens,
        .scratch = {.arena = QR_ARENA_ENGINE},
    };
    struct family family;

    if (builder.model == NULL)
        return QR_ERR_NOMEM;
    reader->tok->model = builder.model;
    reader->tok->ops = &qr_byte_level_ops;
    QR_TRY(read_lines(reader));
    QR_TRY(find_family(reader, config, &family));
    QR_TRY(qr_pattern_apply(family.pattern, reader->tok, builder.model, &builder.place));
    builder.model->whole_piece_first = true;
    enum qr_status status = add_tokens(reader, &builder);
    qr_byte_level_builder_free(&builder);
    if (status == QR_OK)
        status = add_merges(reader, builder.model);
    if (status == QR_OK)
        status = json_object_get(config, "added_tokens_decoder") != NULL
                     ? qr_json_read_added_tokens_decoder(config, false, reader->tok, reader->err)
                     : add_specials(reader, &family);
    qr_tokenizer_set_bos(reader->tok, find(reader, family.bos));
    reader->tok->eos_id = find(reader, family.eos);
    return status;
}

enum qr_status qr_tokenizer_from_tiktoken(const struct qr_file_text *file, const json_t *config,
                                          struct qr_tokenizer **out, struct qr_error *err)
{
    enum qr_status status = QR_ERR_NOMEM;
    struct reader reader = {
        .file = file,
        .err = err,
        .scratch = {.arena = QR_ARENA_ENGINE},
        .tok = qr_tokenizer_alloc(),
    };

    *out = NULL;
    if (reader.tok != NULL)
        status = read_file(&reader, config);
    qr_string_table_free(&reader.tokens);
    qr_free(reader.ids);
    qr_free(reader.merges);
    qr_buffer_free(&reader.scratch);
    return qr_tokenizer_finish(reader.tok, file->name, status, out, err);
}
