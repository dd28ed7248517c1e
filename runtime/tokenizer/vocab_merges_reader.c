/* vocab_merges_reader.c - GPT-2's vocabulary and merges; see vocabulary_files.h. */
#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/byte_level_build.h"
#include "runtime/tokenizer/patterns.h"
#include "runtime/tokenizer/tokenizer_json.h"
#include "runtime/tokenizer/vocabulary_files.h"

struct reader {
    const struct qr_file_text *vocab;
    const struct qr_file_text *merges;
    const json_t *config;
    struct qr_tokenizer *tok;
    struct qr_byte_level_builder builder;
};

/* Files without a tokenizer_config.json are GPT-2's, for all that can be known. */
static enum qr_status find_pattern(const struct reader *reader, const char **pattern)
{
    const json_t *class_name = json_object_get(reader->config, "tokenizer_class");

    *pattern = "gpt-2";
    return class_name == NULL ? QR_OK
                              : qr_pattern_of_class(class_name, pattern, reader->builder.place.err);
}

static enum qr_status read_vocab(struct reader *reader)
{
    json_t *root;
    const char *text;
    size_t n_bytes;
    json_t *id;

    QR_TRY(qr_json_parse(reader->vocab->name, reader->vocab->text, reader->vocab->n_bytes, false,
                         &root, reader->builder.place.err));
    enum qr_status status = qr_byte_level_reserve_tokens(&reader->builder, json_object_size(root));
    json_object_keylen_foreach(root, text, n_bytes, id)
    {
        const struct qr_token_text token = {text, n_bytes};
        if (status == QR_OK)
            status = qr_byte_level_add_token(
                &reader->builder, json_is_integer(id) ? json_integer_value(id) : -1, token);
    }
    json_decref(root);
    return status;
}

static size_t count_lines(const struct qr_file_text *file)
{
    const char *line;
    size_t length;
    size_t at = 0;
    size_t count = 0;

    while (qr_next_line(file->text, file->n_bytes, &at, &line, &length))
        count++;
    return count;
}

static enum qr_status read_merges(struct reader *reader)
{
    size_t n_lines = count_lines(reader->merges);
    const char *line;
    size_t length;
    size_t at = 0;
    size_t rank = 0;

    reader->builder.place.name = reader->merges->name;
    if (n_lines > QR_MAX_VOCAB)
        return qr_json_fail(&reader->builder.place, QR_ERR_INVALID, "merges", "more than %d lines",
                            QR_MAX_VOCAB);
    QR_TRY(qr_byte_level_reserve_merges(reader->builder.model, n_lines));
    for (int number = 1;
         qr_next_line(reader->merges->text, reader->merges->n_bytes, &at, &line, &length);
         number++) {
        struct qr_token_text left;
        struct qr_token_text right;
        bool is_version = number == 1 && length >= 8 && memcmp(line, "#version", 8) == 0;
        if (length == 0 || is_version)
            continue;
        if (!qr_split_merge((struct qr_token_text){line, length}, &left, &right))
            return qr_json_fail(&reader->builder.place, QR_ERR_INVALID, "merges",
                                "line %d must be \"left right\"", number);
        QR_TRY(qr_byte_level_merge(&reader->builder, rank++, left, right));
    }
    return QR_OK;
}

/* GPT-2's own special token is in the vocabulary, where nothing marks it. */
static enum qr_status add_gpt2_special(struct reader *reader)
{
    static const char text[] = "<|endoftext|>";
    int32_t id = qr_byte_level_find(reader->builder.model, text, sizeof(text) - 1);
    const struct qr_added_token added = {.id = id, .is_special = true};

    if (id < 0)
        return QR_OK;
    QR_TRY(qr_token_table_set(&reader->tok->tokens, id, text, sizeof(text) - 1, QR_TOKEN_SPECIAL));
    return qr_added_tokens_add(&reader->tok->added, &added, text, sizeof(text) - 1);
}

static enum qr_status read_files(struct reader *reader)
{
    const char *pattern;

    reader->builder.model = qr_byte_level_alloc();
    if (reader->builder.model == NULL)
        return QR_ERR_NOMEM;
    reader->tok->model = reader->builder.model;
    reader->tok->ops = &qr_byte_level_ops;
    QR_TRY(find_pattern(reader, &pattern));
    QR_TRY(qr_pattern_apply(pattern, reader->tok, reader->builder.model, &reader->builder.place));
    QR_TRY(read_vocab(reader));
    QR_TRY(read_merges(reader));
    QR_TRY(json_object_get(reader->config, "added_tokens_decoder") != NULL
               ? qr_json_read_added_tokens_decoder(reader->config, false, reader->tok,
                                                   reader->builder.place.err)
               : add_gpt2_special(reader));
    qr_tokenizer_find_usual_eos(reader->tok);
    return QR_OK;
}

enum qr_status qr_tokenizer_from_vocab_and_merges(const struct qr_file_text *vocab,
                                                  const struct qr_file_text *merges,
                                                  const json_t *config, struct qr_tokenizer **out,
                                                  struct qr_error *err)
{
    struct reader reader = {
        .vocab = vocab,
        .merges = merges,
        .config = config,
        .tok = qr_tokenizer_alloc(),
        .builder = {.place = {vocab->name, "", err}, .scratch = {.arena = QR_ARENA_ENGINE}},
    };
    enum qr_status status = QR_ERR_NOMEM;

    *out = NULL;
    if (reader.tok != NULL) {
        reader.builder.tokens = &reader.tok->tokens;
        status = read_files(&reader);
    }
    qr_byte_level_builder_free(&reader.builder);
    return qr_tokenizer_finish(reader.tok, vocab->name, status, out, err);
}
