/* tokenizer.c - see tokenizer.h for the contract: encoding and decoding. */
#include "runtime/tokenizer/tokenizer.h"

#include <string.h>

#include "runtime/tokenizer/tokenizer_impl.h"

/* Names under which files without a tokenizer_config.json hold their end of text. */
static const char *const usual_eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>"};

enum { N_USUAL_EOS = sizeof(usual_eos) / sizeof(usual_eos[0]) };

struct qr_tokenizer *qr_tokenizer_alloc(void)
{
    struct qr_tokenizer *tok = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*tok));

    if (tok != NULL)
        tok->eos_id = -1;
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
    qr_normalizer_free(&tok->normalizer);
    qr_free(tok);
}

void qr_tokenizer_set_bos(struct qr_tokenizer *tok, int32_t bos_id)
{
    tok->before = (struct qr_around){.ids = {bos_id}, .count = bos_id >= 0};
}

enum qr_status qr_tokenizer_set_ends(struct qr_tokenizer *tok, const char *name, int32_t bos_id,
                                     int32_t eos_id, bool adds_eos, struct qr_error *err)
{
    const int32_t ids[] = {bos_id, eos_id};

    for (int i = 0; i < 2; i++) {
        if (ids[i] != -1 && !qr_token_table_has(&tok->tokens, ids[i]))
            return qr_fail(err, QR_ERR_INVALID, "%s: the id %d of the %s is not in the vocabulary",
                           name, ids[i], i == 0 ? "BOS" : "EOS");
    }
    qr_tokenizer_set_bos(tok, bos_id);
    tok->eos_id = eos_id;
    tok->after = (struct qr_around){.ids = {eos_id}, .count = adds_eos && eos_id >= 0};
    return QR_OK;
}

enum qr_status qr_tokenizer_finish(struct qr_tokenizer *tok, const char *name,
                                   enum qr_status status, struct qr_tokenizer **out,
                                   struct qr_error *err)
{
    if (status == QR_OK && tok->ops->prepare != NULL)
        status = tok->ops->prepare(tok->model);
    if (status == QR_OK) {
        *out = tok;
        return QR_OK;
    }
    qr_tokenizer_close(tok);
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "%s: out of memory while reading it", name);
    return status;
}

struct encoding {
    const struct qr_tokenizer *tok;
    bool parse_special;
    void *context;
    struct qr_token_ids *ids;
    struct qr_error *err;
};

static enum qr_status encode_text(struct encoding *encoding, const struct qr_segment *segment)
{
    const struct qr_tokenizer *tok = encoding->tok;
    enum qr_status status =
        tok->ops->encode(tok->model, encoding->context, segment, encoding->ids, encoding->err);

    if (status == QR_ERR_UNSUPPORTED)
        return qr_fail(encoding->err, status,
                       "the tokenizer's pattern backtracks too long on this text");
    return status;
}

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
        return encode_text(encoding, segment);
    if (tok->normalizer.n_steps == 0)
        return encode_segment(encoding, true, segment);

    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    enum qr_status status =
        qr_normalizer_run(&tok->normalizer, segment->text, segment->n_bytes, &text);
    if (status == QR_OK) {
        struct qr_segment normalized = *segment;
        normalized.text = text.data;
        normalized.n_bytes = text.length;
        status = encode_segment(encoding, true, &normalized);
    } else if (status == QR_ERR_UNSUPPORTED) {
        status = qr_fail(encoding->err, status,
                         "the tokenizer's normaliser backtracks too long on this text");
    } else if (status == QR_ERR_INVALID) {
        status = qr_fail(encoding->err, status,
                         "the tokenizer's normaliser makes %zu bytes of text too long",
                         segment->n_bytes);
    }
    qr_buffer_free(&text);
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

static enum qr_status append_around(const struct qr_around *around, struct qr_token_ids *ids)
{
    for (int32_t i = 0; i < around->count; i++)
        QR_TRY(qr_token_ids_append(ids, around->ids[i]));
    return QR_OK;
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

    if (n_bytes > QR_MAX_TEXT_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "a text of %zu bytes is too long; encode it in parts",
                       n_bytes);
    enum qr_status status = tok->ops->begin(tok->model, &encoding.context);
    if (status == QR_OK && options->add_bos)
        status = append_around(&tok->before, ids);
    if (status == QR_OK)
        status = encode_segment(&encoding, false, &whole);
    if (status == QR_OK && options->add_bos)
        status = append_around(&tok->after, ids);
    tok->ops->end(encoding.context);
    if (status != QR_OK)
        ids->count = count;
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "out of memory while encoding %zu bytes", n_bytes);
    return status;
}

/* Drops what a text begins with where the tokenizer says so; the text is bytes[length ...]. */
static void strip_beginning(const struct qr_strip *strip, struct qr_buffer *text, size_t length)
{
    size_t begin = length;

    for (uint32_t i = 0; i < strip->count && text->length - begin >= strip->n_bytes &&
                         memcmp(text->data + begin, strip->text, strip->n_bytes) == 0;
         i++)
        begin += strip->n_bytes;
    if (begin == length)
        return;
    memmove(text->data + length, text->data + begin, text->length - begin + 1); /* with the NUL */
    text->length -= begin - length;
}

enum qr_status qr_tokenizer_decode(const struct qr_tokenizer *tok, const int32_t *ids, size_t count,
                                   bool skip_special, struct qr_buffer *text, struct qr_error *err)
{
    bool at_start = true;
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
    strip_beginning(&tok->strip, text, length);
    return QR_OK;
}

int32_t qr_tokenizer_vocab_size(const struct qr_tokenizer *tok)
{
    return tok->tokens.count;
}

int32_t qr_tokenizer_bos_id(const struct qr_tokenizer *tok)
{
    return tok->before.count > 0 ? tok->before.ids[0] : -1;
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
    return qr_added_tokens_find_special(&tok->added, text, n_bytes);
}

void qr_tokenizer_find_usual_eos(struct qr_tokenizer *tok)
{
    for (int i = 0; i < N_USUAL_EOS && tok->eos_id < 0; i++)
        tok->eos_id = qr_tokenizer_find_special(tok, usual_eos[i], strlen(usual_eos[i]));
}
