/* sentencepiece.c - see sentencepiece.h for the contract. */
#include "runtime/tokenizer/sentencepiece.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "runtime/tokenizer/bpe_merge.h"

struct context {
    struct qr_buffer text; /* a segment with its spaces escaped */
    struct qr_bpe_scratch scratch;
};

static void destroy(void *arg)
{
    struct qr_sentencepiece *model = arg;

    if (model == NULL)
        return;
    qr_string_table_free(&model->texts);
    qr_free(model->pieces);
    qr_trie_free(&model->user_defined);
    qr_free(model);
}

static void end(void *arg)
{
    struct context *context = arg;

    if (context == NULL)
        return;
    qr_buffer_free(&context->text);
    qr_bpe_scratch_free(&context->scratch);
    qr_free(context);
}

static enum qr_status begin(const void *model, void **out)
{
    struct context *context = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*context));

    (void)model;
    *out = context;
    if (context == NULL)
        return QR_ERR_NOMEM;
    context->text.arena = QR_ARENA_REQUEST;
    return QR_OK;
}

/* Drops the spaces at the end, those that were U+2581 in the text too. */
static void trim_end(const char *space, size_t space_bytes, struct qr_buffer *out)
{
    while (out->length >= space_bytes &&
           memcmp(out->data + out->length - space_bytes, space, space_bytes) == 0)
        out->length -= space_bytes;
}

/*
 * Escapes the spaces and adds the dummy prefix. Where extra white space is removed,
 * runs of spaces shrink to one, and none is left at the text's two ends.
 */
static enum qr_status escape(const struct qr_sentencepiece *model, const struct qr_segment *segment,
                             struct qr_buffer *out)
{
    const char *text = segment->text;
    const char *space = model->escape_whitespaces ? QR_SPACE_SYMBOL : " ";
    size_t space_bytes = strlen(space);
    bool shrinks = model->remove_extra_whitespaces;
    size_t from = 0;

    while (shrinks && segment->at_start && from < segment->n_bytes && text[from] == ' ')
        from++;
    qr_buffer_clear(out);
    if (from == segment->n_bytes)
        return QR_OK;
    QR_TRY(qr_buffer_reserve(out, segment->n_bytes - from + space_bytes));
    if (segment->at_start && model->add_dummy_prefix)
        QR_TRY(qr_buffer_append(out, space, space_bytes));
    for (size_t i = from; i < segment->n_bytes; i++) {
        if (text[i] != ' ')
            QR_TRY(qr_buffer_append(out, &text[i], 1));
        else if (!shrinks || i == from || text[i - 1] != ' ')
            QR_TRY(qr_buffer_append(out, space, space_bytes));
    }
    if (shrinks && segment->at_end)
        trim_end(space, space_bytes, out);
    return QR_OK;
}

static const struct qr_piece *find_piece(const struct qr_sentencepiece *model, const char *text,
                                         size_t n_bytes)
{
    if (n_bytes > model->max_piece_bytes)
        return NULL;
    int32_t index = qr_string_table_find(&model->texts, text, n_bytes);
    return index < 0 ? NULL : &model->pieces[index];
}

static int32_t find_join(const void *model, const char *text, const struct qr_bpe_symbol *left,
                         const struct qr_bpe_symbol *right, int32_t *rank)
{
    const struct qr_piece *piece =
        find_piece(model, text + left->begin, (size_t)left->length + right->length);
    if (piece == NULL)
        return -1;
    *rank = piece->rank;
    return piece->id;
}

/* One symbol a character, or a user-defined piece; a byte that is not UTF-8 is one, too. */
static enum qr_status begin_symbols(const struct qr_sentencepiece *model, const char *text,
                                    size_t n_bytes, struct qr_bpe_scratch *scratch)
{
    scratch->n_symbols = 0;
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        int32_t id = qr_trie_longest(&model->user_defined, text + i, n_bytes - i, &length);
        bool is_frozen = id >= 0;
        if (!is_frozen) {
            int char_length = qr_utf8_char_length(text + i, n_bytes - i);
            length = char_length > 0 ? (size_t)char_length : 1;
            const struct qr_piece *piece = find_piece(model, text + i, length);
            id = piece != NULL ? piece->id : -1;
        }
        QR_TRY(qr_bpe_add_symbol(scratch, (uint32_t)length, id, is_frozen));
        i += length;
    }
    return QR_OK;
}

static enum qr_status append_ids(const struct qr_sentencepiece *model, const char *text,
                                 const struct qr_bpe_scratch *scratch, struct qr_token_ids *ids)
{
    bool was_unknown = false;

    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next) {
        const struct qr_bpe_symbol *symbol = &scratch->symbols[i];
        bool is_unknown = symbol->id < 0;
        if (!is_unknown) {
            QR_TRY(qr_token_ids_append(ids, symbol->id));
        } else if (model->has_byte_fallback) {
            for (uint32_t k = 0; k < symbol->length; k++)
                QR_TRY(qr_token_ids_append(ids, model->byte_ids[(uint8_t)text[symbol->begin + k]]));
        } else if (!was_unknown) {
            QR_TRY(qr_token_ids_append(ids, model->unknown_id)); /* one for a whole run */
        }
        was_unknown = is_unknown;
    }
    return QR_OK;
}

static enum qr_status encode(const void *arg, void *context_arg, const struct qr_segment *segment,
                             struct qr_token_ids *ids, struct qr_error *err)
{
    const struct qr_sentencepiece *model = arg;
    struct context *context = context_arg;

    (void)err;
    QR_TRY(escape(model, segment, &context->text));
    if (context->text.length == 0)
        return QR_OK;
    QR_TRY(begin_symbols(model, context->text.data, context->text.length, &context->scratch));
    QR_TRY(qr_bpe_merge(&context->scratch, find_join, model, context->text.data));
    return append_ids(model, context->text.data, &context->scratch, ids);
}

const struct qr_model_ops qr_sentencepiece_ops = {
    .kind = "sentencepiece-bpe",
    .begin = begin,
    .encode = encode,
    .end = end,
    .destroy = destroy,
};
