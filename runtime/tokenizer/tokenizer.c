/* tokenizer.c - see tokenizer.h for the contract: opening, encoding, decoding. */
#include "runtime/tokenizer/tokenizer.h"

#include <string.h>
#include <sys/stat.h>

#include "base/mapped_file.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/tokenizer_impl.h"

/* Positions in a text are 32 bits wide. */
#define MAX_TEXT_BYTES ((size_t)INT32_MAX / 4)

struct qr_tokenizer *qr_tokenizer_alloc(void)
{
    struct qr_tokenizer *tok = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*tok));

    if (tok != NULL)
        tok->bos_id = tok->eos_id = -1;
    return tok;
}

void qr_tokenizer_close(struct qr_tokenizer *tok)
{
    if (tok == NULL)
        return;
    if (tok->ops != NULL)
        tok->ops->destroy(tok->model);
    qr_token_table_free(&tok->tokens);
    qr_added_tokens_free(&tok->added);
    qr_free(tok);
}

static bool looks_like_json(const struct qr_mapped_file *file)
{
    size_t i = 0;

    while (i < file->size && strchr(" \t\r\n", file->data[i]) != NULL && file->data[i] != '\0')
        i++;
    return i < file->size && file->data[i] == '{';
}

static enum qr_status open_file(const char *path, struct qr_tokenizer **out, struct qr_error *err)
{
    struct qr_mapped_file file;
    const char *dot = strrchr(path, '.');

    QR_TRY(qr_mapped_file_open(path, &file, err));
    enum qr_status status =
        looks_like_json(&file) || (dot != NULL && strcmp(dot, ".json") == 0)
            ? qr_tokenizer_from_json(path, (const char *)file.data, file.size, out, err)
            : qr_tokenizer_from_sentencepiece(path, file.data, file.size, out, err);
    qr_mapped_file_close(&file);
    return status;
}

/* Reads directory/tokenizer_config.json, where there is one. */
static enum qr_status apply_config_beside(struct qr_tokenizer *tok, const char *directory,
                                          struct qr_error *err)
{
    struct qr_buffer path = {.arena = QR_ARENA_ENGINE};
    struct qr_mapped_file file;
    struct stat info;
    enum qr_status status = qr_buffer_printf(&path, "%s/tokenizer_config.json", directory);

    if (status == QR_OK && stat(path.data, &info) == 0) {
        status = qr_mapped_file_open(path.data, &file, err);
        if (status == QR_OK) {
            status =
                qr_tokenizer_apply_config(tok, path.data, (const char *)file.data, file.size, err);
            qr_mapped_file_close(&file);
        }
    }
    qr_buffer_free(&path);
    return status;
}

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/*
 * A model directory may hold its tokenizer in both forms: the .model file serves where
 * tokenizer.json asks for something that is not supported.
 */
static enum qr_status open_in_directory(const char *directory, struct qr_tokenizer **out,
                                        struct qr_error *err)
{
    struct qr_buffer json = {.arena = QR_ARENA_ENGINE};
    struct qr_buffer model = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = qr_buffer_printf(&json, "%s/tokenizer.json", directory);

    if (status == QR_OK)
        status = qr_buffer_printf(&model, "%s/tokenizer.model", directory);
    if (status == QR_OK) {
        bool has_model = is_file(model.data);
        status = is_file(json.data) ? open_file(json.data, out, err) : QR_ERR_UNSUPPORTED;
        if (status == QR_ERR_UNSUPPORTED && has_model)
            status = open_file(model.data, out, err);
        else if (status == QR_ERR_UNSUPPORTED && !is_file(json.data))
            status = qr_fail(err, QR_ERR_NOT_FOUND,
                             "%s: holds neither tokenizer.json nor tokenizer.model", directory);
    }
    qr_buffer_free(&json);
    qr_buffer_free(&model);
    return status;
}

enum qr_status qr_tokenizer_open(const char *path, struct qr_tokenizer **out, struct qr_error *err)
{
    struct stat info;

    *out = NULL;
    bool is_directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    QR_TRY(is_directory ? open_in_directory(path, out, err) : open_file(path, out, err));

    enum qr_status status = QR_ERR_NOMEM;
    const char *slash = strrchr(path, '/');
    char *directory = is_directory    ? qr_strdup(QR_ARENA_ENGINE, path)
                      : slash == NULL ? qr_strdup(QR_ARENA_ENGINE, ".")
                                      : qr_strndup(QR_ARENA_ENGINE, path, (size_t)(slash - path));
    if (directory != NULL)
        status = apply_config_beside(*out, directory, err);
    qr_free(directory);
    if (status != QR_OK) {
        qr_tokenizer_close(*out);
        *out = NULL;
    }
    return status;
}

struct encoding {
    const struct qr_tokenizer *tok;
    bool parse_special;
    void *context;
    struct qr_token_ids *ids;
    struct qr_error *err;
};

/* Text that the model sees: cut at the added tokens that are looked for in this form. */
static enum qr_status encode_segment(struct encoding *encoding, bool is_normalized,
                                     const struct qr_segment *segment);

static enum qr_status encode_between(struct encoding *encoding, bool is_normalized,
                                     const struct qr_segment *segment)
{
    const struct qr_tokenizer *tok = encoding->tok;

    if (segment->n_bytes == 0)
        return QR_OK;
    if (is_normalized)
        return tok->ops->encode(tok->model, encoding->context, segment, encoding->ids,
                                encoding->err);
    if (!tok->composes)
        return encode_segment(encoding, true, segment);

    struct qr_buffer composed = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = qr_normalize_nfc(segment->text, segment->n_bytes, &composed);
    if (status == QR_OK) {
        struct qr_segment normalized = *segment;
        normalized.text = composed.data;
        normalized.n_bytes = composed.length;
        status = encode_segment(encoding, true, &normalized);
    }
    qr_buffer_free(&composed);
    return status;
}

static enum qr_status encode_segment(struct encoding *encoding, bool is_normalized,
                                     const struct qr_segment *segment)
{
    size_t done = 0;
    struct qr_added_match match;

    while (qr_added_tokens_next(&encoding->tok->added, is_normalized, encoding->parse_special,
                                segment->text, segment->n_bytes, done, &match)) {
        const struct qr_segment before = {
            .text = segment->text + done,
            .n_bytes = match.begin - done,
            .at_start = segment->at_start && done == 0,
            .at_end = false,
        };
        QR_TRY(encode_between(encoding, is_normalized, &before));
        QR_TRY(qr_token_ids_append(encoding->ids, match.id));
        done = match.end;
    }
    const struct qr_segment rest = {
        .text = segment->text + done,
        .n_bytes = segment->n_bytes - done,
        .at_start = segment->at_start && done == 0,
        .at_end = segment->at_end,
    };
    return encode_between(encoding, is_normalized, &rest);
}

enum qr_status qr_tokenizer_encode(const struct qr_tokenizer *tok, const char *text, size_t n_bytes,
                                   const struct qr_encode_options *options,
                                   struct qr_token_ids *ids, struct qr_error *err)
{
    struct encoding encoding = {
        .tok = tok,
        .parse_special = options->parse_special,
        .ids = ids,
        .err = err,
    };
    const struct qr_segment whole = {text, n_bytes, .at_start = true, .at_end = true};
    size_t count = ids->count;

    if (n_bytes > MAX_TEXT_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "a text of %zu bytes is too long; encode it in parts",
                       n_bytes);
    enum qr_status status = tok->ops->begin(tok->model, &encoding.context);
    if (status == QR_OK && options->add_bos && tok->bos_id >= 0)
        status = qr_token_ids_append(ids, tok->bos_id);
    if (status == QR_OK)
        status = encode_segment(&encoding, false, &whole);
    tok->ops->end(encoding.context);
    if (status != QR_OK)
        ids->count = count;
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "out of memory while encoding %zu bytes", n_bytes);
    return status;
}

enum qr_status qr_tokenizer_decode(const struct qr_tokenizer *tok, const int32_t *ids, size_t count,
                                   bool skip_special, struct qr_buffer *text, struct qr_error *err)
{
    bool at_start = tok->drops_dummy_prefix;
    size_t length = text->length;

    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tok->tokens.count)
            return qr_fail(err, QR_ERR_INVALID,
                           "token id %d at position %zu is out of range; the vocabulary has %d",
                           ids[i], i, tok->tokens.count);
    }
    for (size_t i = 0; i < count; i++) {
        size_t n_bytes;
        const char *bytes =
            qr_token_table_text(&tok->tokens, ids[i], skip_special, &at_start, &n_bytes);
        if (qr_buffer_append(text, bytes, n_bytes) != QR_OK) {
            text->length = length;
            return qr_fail(err, QR_ERR_NOMEM, "out of memory while decoding %zu tokens", count);
        }
    }
    return QR_OK;
}

int32_t qr_tokenizer_vocab_size(const struct qr_tokenizer *tok)
{
    return tok->tokens.count;
}

int32_t qr_tokenizer_bos_id(const struct qr_tokenizer *tok)
{
    return tok->bos_id;
}

int32_t qr_tokenizer_eos_id(const struct qr_tokenizer *tok)
{
    return tok->eos_id;
}

bool qr_tokenizer_is_special(const struct qr_tokenizer *tok, int32_t id)
{
    return qr_token_table_has(&tok->tokens, id) &&
           (tok->tokens.tokens[id].flags & QR_TOKEN_SPECIAL) != 0;
}

const char *qr_tokenizer_kind(const struct qr_tokenizer *tok)
{
    return tok->ops->kind;
}

int32_t qr_tokenizer_find_special(const struct qr_tokenizer *tok, const char *text, size_t n_bytes)
{
    for (int32_t id = 0; id < tok->tokens.count; id++) {
        const struct qr_token *token = &tok->tokens.tokens[id];
        if ((token->flags & QR_TOKEN_SPECIAL) != 0 && token->length == n_bytes &&
            memcmp(tok->tokens.bytes.data + token->offset, text, n_bytes) == 0)
            return id;
    }
    return -1;
}
