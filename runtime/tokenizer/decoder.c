/* decoder.c - see decoder.h for the contract. */
#include "runtime/tokenizer/decoder.h"

#include <string.h>

#include "runtime/tokenizer/byte_alphabet.h"

struct qr_decoder_step *qr_decoder_add(struct qr_decoder *decoder, enum qr_decoder_kind kind)
{
    if (decoder->n_steps == QR_MAX_DECODER_STEPS)
        return NULL;
    struct qr_decoder_step *step = &decoder->steps[decoder->n_steps++];
    *step = (struct qr_decoder_step){.kind = kind};
    return step;
}

static enum qr_status from_bytes(const struct qr_buffer *text, struct qr_buffer *out)
{
    QR_TRY(qr_buffer_reserve(out, text->length));
    int64_t n = qr_chars_to_bytes(text->data, text->length, out->data);
    if (n < 0) /* it is written in plain text */
        return qr_buffer_append(out, text->data, text->length);
    out->length = (size_t)n;
    out->data[n] = '\0';
    return QR_OK;
}

static enum qr_status from_byte_name(const struct qr_buffer *text, struct qr_buffer *out)
{
    int byte = qr_parse_byte_name(text->data, text->length);
    char value = (char)byte;

    return byte >= 0 ? qr_buffer_append(out, &value, 1)
                     : qr_buffer_append(out, text->data, text->length);
}

static bool stands_at(const char *space, const struct qr_buffer *text, size_t at)
{
    size_t n = strlen(space);
    return text->length - at >= n && memcmp(text->data + at, space, n) == 0;
}

static enum qr_status unescape(const struct qr_decoder_step *step, bool is_first,
                               const struct qr_buffer *text, struct qr_buffer *out)
{
    for (size_t i = 0; i < text->length;) {
        bool is_space = stands_at(step->space, text, i);
        if (!is_space)
            QR_TRY(qr_buffer_append(out, text->data + i, 1));
        else if (!is_first || !step->drops_first)
            QR_TRY(qr_buffer_append(out, " ", 1));
        i += is_space ? strlen(step->space) : 1;
    }
    return QR_OK;
}

static enum qr_status strip(const struct qr_decoder_step *step, const struct qr_buffer *text,
                            struct qr_buffer *out)
{
    size_t n = strlen(step->space);
    size_t begin = 0;
    size_t end = text->length;

    for (uint32_t i = 0; i < step->n_left && stands_at(step->space, text, begin); i++)
        begin += n;
    for (uint32_t i = 0;
         i < step->n_right && end - begin >= n && stands_at(step->space, text, end - n); i++)
        end -= n;
    return qr_buffer_append(out, text->data + begin, end - begin);
}

static enum qr_status run_step(const struct qr_decoder_step *step, bool is_first,
                               const struct qr_buffer *text, struct qr_buffer *out)
{
    qr_buffer_clear(out);
    switch (step->kind) {
    case QR_DECODER_BYTE_LEVEL:
        return from_bytes(text, out);
    case QR_DECODER_BYTE_FALLBACK:
        return from_byte_name(text, out);
    case QR_DECODER_REPLACE:
        return qr_normalizer_run_step(&step->replace, text->data, text->length, out);
    case QR_DECODER_METASPACE:
        return unescape(step, is_first, text, out);
    case QR_DECODER_STRIP:
        return strip(step, text, out);
    case QR_DECODER_SEPARATE:
        if (!is_first)
            QR_TRY(qr_buffer_append(out, " ", 1));
        break;
    }
    return qr_buffer_append(out, text->data, text->length);
}

struct texts {
    struct qr_buffer now;
    struct qr_buffer next;
};

static enum qr_status decode(const struct qr_decoder *decoder, bool is_first, const char *text,
                             size_t n_bytes, struct texts *texts)
{
    qr_buffer_clear(&texts->now);
    QR_TRY(qr_buffer_append(&texts->now, text, n_bytes));
    for (int32_t i = 0; i < decoder->n_steps; i++) {
        QR_TRY(run_step(&decoder->steps[i], is_first, &texts->now, &texts->next));
        struct qr_buffer swapped = texts->now;
        texts->now = texts->next;
        texts->next = swapped;
        if (texts->now.length > QR_MAX_DECODED_BYTES)
            return QR_ERR_INVALID;
    }
    return QR_OK;
}

/* Whether a token may read otherwise at the beginning of a text. */
static bool has_first(const struct qr_decoder *decoder)
{
    for (int32_t i = 0; i < decoder->n_steps; i++) {
        if (decoder->steps[i].drops_first || decoder->steps[i].kind == QR_DECODER_SEPARATE)
            return true;
    }
    return false;
}

static enum qr_status fill(const struct qr_decoder *decoder, const struct qr_token_table *from,
                           struct texts *texts, struct qr_token_table *out)
{
    bool with_first = has_first(decoder);

    for (int32_t id = 0; id < from->count; id++) {
        const struct qr_token *token = &from->tokens[id];
        const char *text = from->bytes.data + token->offset;
        if (!qr_token_table_has(from, id))
            continue;
        QR_TRY(decode(decoder, false, text, token->length, texts));
        QR_TRY(qr_token_table_set(out, id, texts->now.data, texts->now.length, token->flags));
        if (!with_first)
            continue;
        QR_TRY(decode(decoder, true, text, token->length, texts));
        const struct qr_token *decoded = &out->tokens[id];
        if (texts->now.length != decoded->length ||
            (decoded->length > 0 &&
             memcmp(texts->now.data, out->bytes.data + decoded->offset, decoded->length) != 0))
            QR_TRY(qr_token_table_set_first(out, id, texts->now.data, texts->now.length));
    }
    return QR_OK;
}

enum qr_status qr_decoder_apply(const struct qr_decoder *decoder, struct qr_token_table *tokens)
{
    struct texts texts = {{.arena = QR_ARENA_ENGINE}, {.arena = QR_ARENA_ENGINE}};
    struct qr_token_table decoded = {.bytes = {.arena = tokens->bytes.arena}};
    enum qr_status status = fill(decoder, tokens, &texts, &decoded);

    qr_buffer_free(&texts.now);
    qr_buffer_free(&texts.next);
    if (status != QR_OK) {
        qr_token_table_free(&decoded);
        return status;
    }
    qr_token_table_free(tokens);
    *tokens = decoded;
    return QR_OK;
}

void qr_decoder_free(struct qr_decoder *decoder)
{
    for (int32_t i = 0; i < decoder->n_steps; i++)
        qr_normalizer_step_free(&decoder->steps[i].replace);
    *decoder = (struct qr_decoder){0};
}
