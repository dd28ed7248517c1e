/* normalizer.c - see normalizer.h for the contract. */
#include "runtime/tokenizer/normalizer.h"

#include <string.h>
#include <utf8proc.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "runtime/tokenizer/unicode_versions.h"

/* Longer clusters are mapped character by character, as the reference implementation does. */
enum { MAX_CLUSTER_BYTES = 6 };

enum { MAX_GROWTH = 64 };

struct qr_normalizer_step *qr_normalizer_add(struct qr_normalizer *normalizer,
                                             enum qr_normalizer_kind kind)
{
    if (normalizer->n_steps == QR_MAX_NORMALIZER_STEPS)
        return NULL;
    struct qr_normalizer_step *step = &normalizer->steps[normalizer->n_steps++];
    *step = (struct qr_normalizer_step){.kind = kind, .content = {.arena = QR_ARENA_ENGINE}};
    return step;
}

/* Of the 1400 letters only U+0130 becomes two characters: an i with its dot. */
static enum qr_status lowercase(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    for (size_t i = 0; i < n_bytes;) {
        char lower[QR_MAX_CHAR_BYTES];
        size_t length;
        int32_t codepoint = qr_unicode_char(text + i, n_bytes - i, &length);
        if (codepoint < 0)
            QR_TRY(qr_buffer_append(out, text + i, length));
        else if (codepoint == 0x130)
            QR_TRY(qr_buffer_append(out, "i\xcc\x87", 3));
        else
            QR_TRY(qr_buffer_append(out, lower,
                                    (size_t)utf8proc_encode_char(qr_unicode_lower(codepoint),
                                                                 (utf8proc_uint8_t *)lower)));
        i += length;
    }
    return QR_OK;
}

static enum qr_status unaccent(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        if (!qr_unicode_is_mark(qr_unicode_char(text + i, n_bytes - i, &length)))
            QR_TRY(qr_buffer_append(out, text + i, length));
        i += length;
    }
    return QR_OK;
}

/* A replacement may be long, but steps that each make a text longer must not add up. */
static size_t most_bytes(size_t n_bytes)
{
    size_t most = n_bytes < QR_MAX_TEXT_BYTES / MAX_GROWTH ? (n_bytes + 1024) * MAX_GROWTH
                                                           : QR_MAX_TEXT_BYTES;
    return most < QR_MAX_TEXT_BYTES ? most : QR_MAX_TEXT_BYTES;
}

static enum qr_status replace_valid(struct qr_regex_scan *scan, const struct qr_buffer *content,
                                    const char *text, size_t n_bytes, size_t most,
                                    struct qr_buffer *out)
{
    const char *seen;

    QR_TRY(qr_regex_scan_see(scan, text, n_bytes, &seen));
    for (size_t done = 0; done < n_bytes;) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(qr_regex_scan_next(scan, seen, n_bytes, done, &found, &begin, &end));
        QR_TRY(qr_buffer_append(out, text + done, begin - done));
        if (found)
            QR_TRY(qr_buffer_append(out, content->data, content->length));
        if (out->length > most)
            return QR_ERR_INVALID;
        done = end;
    }
    return QR_OK;
}

static enum qr_status replace(const struct qr_normalizer_step *step, const char *text,
                              size_t n_bytes, struct qr_buffer *out)
{
    struct qr_regex_scan scan = {0};
    enum qr_status status = qr_regex_scan_begin(step->regex, &scan);

    for (size_t done = 0; done < n_bytes && status == QR_OK;) {
        size_t n_valid = qr_utf8_valid_prefix(text + done, n_bytes - done);
        status =
            replace_valid(&scan, &step->content, text + done, n_valid, most_bytes(n_bytes), out);
        done += n_valid;
        if (status == QR_OK && done < n_bytes)
            status = qr_buffer_append(out, text + done++, 1);
    }
    qr_regex_scan_end(&scan);
    return status;
}

static enum qr_status strip(const struct qr_normalizer_step *step, const char *text, size_t n_bytes,
                            struct qr_buffer *out)
{
    size_t begin = step->strips_left ? qr_unicode_skip_space(text, n_bytes, 0) : 0;
    size_t end = step->strips_right ? qr_unicode_skip_space_back(text, begin, n_bytes) : n_bytes;

    return qr_buffer_append(out, text + begin, end - begin);
}

/* Bytes of the grapheme cluster (Unicode Annex 29) that the text begins with. */
static size_t cluster_length(const char *text, size_t n_bytes)
{
    utf8proc_int32_t state = 0;
    size_t length;
    int32_t previous = qr_unicode_stand_in(qr_unicode_char(text, n_bytes, &length));
    size_t end = length;

    while (previous >= 0 && end < n_bytes) {
        int32_t next = qr_unicode_stand_in(qr_unicode_char(text + end, n_bytes - end, &length));
        if (next < 0 || utf8proc_grapheme_break_stateful(previous, next, &state))
            break;
        previous = next;
        end += length;
    }
    return end;
}

/* A short cluster is replaced whole by the rule for its shortest beginning, others by character. */
static enum qr_status map_cluster(const struct qr_charsmap *map, const char *text, size_t n_bytes,
                                  struct qr_buffer *out)
{
    struct qr_charsmap_rule rule;

    if (n_bytes < MAX_CLUSTER_BYTES && qr_charsmap_find(map, text, n_bytes, false, &rule))
        return qr_buffer_append(out, rule.text, strlen(rule.text));
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        (void)qr_unicode_char(text + i, n_bytes - i, &length);
        if (qr_charsmap_find(map, text + i, length, false, &rule))
            QR_TRY(qr_buffer_append(out, rule.text, strlen(rule.text)));
        else
            QR_TRY(qr_buffer_append(out, text + i, length));
        i += length;
    }
    return QR_OK;
}

static enum qr_status map_chars(const struct qr_charsmap *map, const char *text, size_t n_bytes,
                                struct qr_buffer *out)
{
    for (size_t i = 0; i < n_bytes;) {
        size_t length = cluster_length(text + i, n_bytes - i);
        QR_TRY(map_cluster(map, text + i, length, out));
        i += length;
    }
    return QR_OK;
}

enum qr_status qr_normalizer_run_step(const struct qr_normalizer_step *step, const char *text,
                                      size_t n_bytes, struct qr_buffer *out)
{
    qr_buffer_clear(out);
    QR_TRY(qr_buffer_reserve(out, n_bytes));
    if (n_bytes == 0)
        return QR_OK;
    switch (step->kind) {
    case QR_NORMALIZER_FORM:
        return qr_unicode_normalize(step->form, text, n_bytes, out);
    case QR_NORMALIZER_LOWERCASE:
        return lowercase(text, n_bytes, out);
    case QR_NORMALIZER_PREPEND:
        QR_TRY(qr_buffer_append(out, step->content.data, step->content.length));
        return qr_buffer_append(out, text, n_bytes);
    case QR_NORMALIZER_REPLACE:
        return replace(step, text, n_bytes, out);
    case QR_NORMALIZER_STRIP:
        return strip(step, text, n_bytes, out);
    case QR_NORMALIZER_UNACCENT:
        return unaccent(text, n_bytes, out);
    case QR_NORMALIZER_CHARSMAP:
        return map_chars(&step->charsmap, text, n_bytes, out);
    }
    QR_ASSERT(false);
    return QR_ERR_UNSUPPORTED;
}

enum qr_status qr_normalizer_run(const struct qr_normalizer *normalizer, const char *text,
                                 size_t n_bytes, struct qr_buffer *out)
{
    struct qr_buffer previous = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = QR_OK;

    if (normalizer->n_steps == 0) {
        qr_buffer_clear(out);
        return qr_buffer_append(out, text, n_bytes);
    }
    for (int32_t i = 0; i < normalizer->n_steps && status == QR_OK; i++) {
        if (i > 0) {
            struct qr_buffer swapped = previous;
            previous = *out;
            *out = swapped;
            text = previous.data;
            n_bytes = previous.length;
        }
        status = qr_normalizer_run_step(&normalizer->steps[i], text, n_bytes, out);
        if (status == QR_OK && out->length > QR_MAX_TEXT_BYTES)
            status = QR_ERR_INVALID;
    }
    qr_buffer_free(&previous);
    return status;
}

void qr_normalizer_step_free(struct qr_normalizer_step *step)
{
    qr_regex_free(step->regex);
    qr_buffer_free(&step->content);
    qr_charsmap_free(&step->charsmap);
}

void qr_normalizer_free(struct qr_normalizer *normalizer)
{
    for (int32_t i = 0; i < normalizer->n_steps; i++)
        qr_normalizer_step_free(&normalizer->steps[i]);
    *normalizer = (struct qr_normalizer){0};
}
