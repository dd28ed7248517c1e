/* char_level.c - what merges of characters begin with; see byte_level.h. */
#include "base/utf8.h"
#include "runtime/tokenizer/byte_level.h"

/* The character as byte tokens; false when the model lacks one of them. */
static bool add_bytes(const struct qr_byte_level *model, const char *text, size_t n_bytes,
                      struct qr_bpe_scratch *scratch)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (!model->has_byte_fallback || model->fallback_ids[(uint8_t)text[i]] < 0)
            return false;
    }
    for (size_t i = 0; i < n_bytes; i++)
        qr_bpe_add_symbol(scratch, 1, model->fallback_ids[(uint8_t)text[i]], false);
    return true;
}

static enum qr_status refuse(const char *text, size_t n_bytes, struct qr_error *err)
{
    return qr_fail(err, QR_ERR_INVALID,
                   "the text holds \"%.*s\", for which the tokenizer has neither a token nor an "
                   "unknown token",
                   (int)n_bytes, text);
}

/*
 * Characters without a token wait in n_unknown until one that has a token comes: that is how
 * the reference implementation fuses them.
 */
enum qr_status qr_char_level_begin(const struct qr_byte_level *model, const char *text,
                                   size_t n_bytes, struct qr_bpe_scratch *scratch,
                                   struct qr_error *err)
{
    uint32_t n_unknown = 0; /* bytes */

    QR_TRY(qr_bpe_begin(scratch, n_bytes));
    for (size_t i = 0; i < n_bytes;) {
        int char_length = qr_utf8_char_length(text + i, n_bytes - i);
        size_t length = char_length > 0 ? (size_t)char_length : 1;
        int32_t id = qr_byte_level_find(model, text + i, length);
        bool added = id < 0 && add_bytes(model, text + i, length, scratch);
        if (!added && id < 0 && model->unknown_id < 0)
            return refuse(text + i, length, err);
        if (n_unknown > 0 && !added && (id >= 0 || !model->fuses_unknown)) {
            qr_bpe_add_symbol(scratch, n_unknown, model->unknown_id, false);
            n_unknown = 0;
        }
        if (id >= 0)
            qr_bpe_add_symbol(scratch, (uint32_t)length, id, false);
        else if (!added)
            n_unknown += (uint32_t)length;
        i += length;
    }
    if (n_unknown > 0)
        qr_bpe_add_symbol(scratch, n_unknown, model->unknown_id, false);
    return QR_OK;
}
