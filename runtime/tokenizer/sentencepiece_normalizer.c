/* sentencepiece_normalizer.c - what SentencePiece does to a text first; see sentencepiece.h. */
#include <string.h>

#include "base/utf8.h"
#include "runtime/tokenizer/sentencepiece.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* What the next bytes of a text become. */
struct prefix {
    const char *text;
    size_t n_bytes;
    size_t n_taken; /* of the text */
};

/* How many bytes text[n_bytes] begins with that stay as they are. */
static size_t plain_length(const struct qr_sentencepiece *model, const char *text, size_t n_bytes)
{
    size_t length = 0;

    while (length < n_bytes && model->is_plain[(uint8_t)text[length]])
        length++;
    return length;
}

/*
 * A user-defined piece stays as it is; else the longest rule of the map counts, else the
 * character stays. A byte that is not UTF-8 becomes U+FFFD, as in SentencePiece.
 */
static struct prefix normalize_prefix(const struct qr_sentencepiece *model, const char *text,
                                      size_t n_bytes)
{
    struct qr_charsmap_rule rule;
    size_t length = plain_length(model, text, n_bytes);

    if (length > 0)
        return (struct prefix){text, length, length};
    if (qr_trie_longest(&model->user_defined, text, n_bytes, &length) >= 0)
        return (struct prefix){text, length, length};
    if (qr_charsmap_find(&model->charsmap, text, n_bytes, true, &rule))
        return (struct prefix){rule.text, strlen(rule.text), rule.n_bytes};
    int char_length = qr_utf8_char_length(text, n_bytes);
    if (char_length <= 0)
        return (struct prefix){REPLACEMENT, strlen(REPLACEMENT), 1};
    length = (size_t)char_length;
    return (struct prefix){text, length, length};
}

static const char *space_of(const struct qr_sentencepiece *model)
{
    return model->escape_whitespaces ? QR_SPACE_SYMBOL : " ";
}

static enum qr_status append_escaped(const char *space, const struct prefix *prefix, size_t from,
                                     struct qr_buffer *out)
{
    for (size_t i = from; i < prefix->n_bytes; i++) {
        const char *rest = prefix->text + i;
        const char *end = memchr(rest, ' ', prefix->n_bytes - i);
        size_t length = end != NULL ? (size_t)(end - rest) : prefix->n_bytes - i;
        QR_TRY(qr_buffer_append(out, rest, length));
        if (end != NULL)
            QR_TRY(qr_buffer_append(out, space, strlen(space)));
        i += length;
    }
    return QR_OK;
}

/* Drops the spaces at the end, those that were U+2581 in the text too. */
static void trim_end(const char *space, struct qr_buffer *out)
{
    size_t n = strlen(space);

    while (out->length >= n && memcmp(out->data + out->length - n, space, n) == 0)
        out->length -= n;
}

/* Maps and escapes text[n_bytes]; with `shrinks` runs of spaces become one. */
static enum qr_status normalize_rest(const struct qr_sentencepiece *model, const char *text,
                                     size_t n_bytes, bool after_space, struct qr_buffer *out)
{
    const char *space = space_of(model);

    for (size_t i = 0; i < n_bytes;) {
        struct prefix prefix = normalize_prefix(model, text + i, n_bytes - i);
        size_t from = 0;
        while (after_space && from < prefix.n_bytes && prefix.text[from] == ' ')
            from++;
        QR_TRY(append_escaped(space, &prefix, from, out));
        if (out->length > QR_MAX_TEXT_BYTES)
            return QR_ERR_INVALID;
        if (from < prefix.n_bytes)
            after_space = model->remove_extra_whitespaces && prefix.text[prefix.n_bytes - 1] == ' ';
        i += prefix.n_taken;
    }
    return QR_OK;
}

enum qr_status qr_sentencepiece_normalize(const struct qr_sentencepiece *model,
                                          const struct qr_segment *segment, struct qr_buffer *out)
{
    const char *space = space_of(model);
    bool shrinks = model->remove_extra_whitespaces;
    size_t from = 0;

    qr_buffer_clear(out);
    while (shrinks && segment->at_start && from < segment->n_bytes) {
        struct prefix prefix =
            normalize_prefix(model, segment->text + from, segment->n_bytes - from);
        if (prefix.n_bytes != 1 || prefix.text[0] != ' ')
            break;
        from += prefix.n_taken;
    }
    if (from == segment->n_bytes)
        return QR_OK;
    QR_TRY(qr_buffer_reserve(out, segment->n_bytes - from + strlen(space)));
    if (segment->at_start && model->add_dummy_prefix && !model->treat_whitespace_as_suffix)
        QR_TRY(qr_buffer_append(out, space, strlen(space)));
    QR_TRY(normalize_rest(model, segment->text + from, segment->n_bytes - from,
                          shrinks && segment->at_start, out));
    if (shrinks && segment->at_end)
        trim_end(space, out);
    if (segment->at_end && model->add_dummy_prefix && model->treat_whitespace_as_suffix)
        QR_TRY(qr_buffer_append(out, space, strlen(space)));
    return QR_OK;
}
