/* detokenizer.c - streaming detokenisation; see tokenizer.h for the contract. */
#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "runtime/tokenizer/tokenizer_impl.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

enum { REPLACEMENT_BYTES = 3 };

size_t qr_tokenizer_max_push_bytes(const struct qr_tokenizer *tok)
{
    /* At worst each byte, the pending ones too, is replaced by itself. */
    return REPLACEMENT_BYTES * (tok->tokens.max_length + QR_MAX_CHAR_BYTES);
}

void qr_detokenizer_init(struct qr_detokenizer *detok, const struct qr_tokenizer *tok,
                         bool skip_special, bool continues_prompt)
{
    *detok = (struct qr_detokenizer){
        .tok = tok,
        .skip_special = skip_special,
        .at_start = !continues_prompt,
        .n_to_strip = continues_prompt ? 0 : tok->strip.count,
    };
}

/* Writes a whole character, unless it is one that a text must not begin with. */
static size_t write_char(struct qr_detokenizer *detok, const char *character, size_t n_bytes,
                         char *out)
{
    const struct qr_strip *strip = &detok->tok->strip;

    if (detok->n_to_strip > 0 && n_bytes == strip->n_bytes &&
        memcmp(character, strip->text, n_bytes) == 0) {
        detok->n_to_strip--;
        return 0;
    }
    detok->n_to_strip = 0;
    memcpy(out, character, n_bytes);
    return n_bytes;
}

/*
 * Takes in one byte. The pending bytes are always the beginning of a character; a byte
 * that does not go on from them ends them in U+FFFD and begins anew (the Unicode
 * standard's "maximal subpart" practice, as in Python and Rust).
 */
static size_t push_byte(struct qr_detokenizer *detok, char byte, char *out)
{
    size_t n_out = 0;

    for (;;) {
        detok->pending[detok->n_pending] = byte;
        int length = qr_utf8_char_length(detok->pending, detok->n_pending + 1u);
        if (length > 0) {
            QR_ASSERT(length == detok->n_pending + 1);
            detok->n_pending = 0;
            return n_out + write_char(detok, detok->pending, (size_t)length, out + n_out);
        }
        if (length < 0) {
            detok->n_pending++;
            return n_out;
        }
        n_out += write_char(detok, replacement, REPLACEMENT_BYTES, out + n_out);
        if (detok->n_pending == 0)
            return n_out;
        detok->n_pending = 0;
    }
}

size_t qr_detokenizer_push(struct qr_detokenizer *detok, int32_t id, char *out)
{
    size_t n_bytes;
    size_t n_out = 0;
    const char *bytes = qr_token_table_text(&detok->tok->tokens, id, detok->skip_special,
                                            &detok->at_start, &n_bytes);

    for (size_t i = 0; i < n_bytes; i++)
        n_out += push_byte(detok, bytes[i], out + n_out);
    return n_out;
}

size_t qr_detokenizer_flush(struct qr_detokenizer *detok, char *out)
{
    if (detok->n_pending == 0)
        return 0;
    detok->n_pending = 0;
    return write_char(detok, replacement, REPLACEMENT_BYTES, out);
}
