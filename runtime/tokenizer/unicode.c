/* unicode.c - see unicode.h for the contract. */
#include "runtime/tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "runtime/tokenizer/nfc_runs.h"
#include "runtime/tokenizer/unicode_versions.h"

enum {
    N_CLASSES = 256, /* canonical combining classes */
    LONG_RUN = 64,   /* marks in a row, before sorting them is worth it */
};

static int combining_class(utf8proc_int32_t codepoint)
{
    return utf8proc_get_property(codepoint)->combining_class;
}

/*
 * Brings a run of combining marks into canonical order by counting. The library orders
 * by insertion, which takes a minute on a megabyte of marks in the wrong order.
 */
static enum qr_status order_marks(utf8proc_int32_t *marks, size_t count)
{
    size_t begin[N_CLASSES + 1] = {0};
    utf8proc_int32_t *ordered = qr_calloc(QR_ARENA_REQUEST, count, sizeof(*ordered));

    if (ordered == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        begin[combining_class(marks[i]) + 1]++;
    for (int i = 0; i < N_CLASSES; i++)
        begin[i + 1] += begin[i];
    for (size_t i = 0; i < count; i++)
        ordered[begin[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, ordered, count * sizeof(*marks));
    qr_free(ordered);
    return QR_OK;
}

static enum qr_status order_long_runs(utf8proc_int32_t *codepoints, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t end = i;
        while (end < count && combining_class(codepoints[end]) != 0)
            end++;
        if (end - i >= LONG_RUN)
            QR_TRY(order_marks(codepoints + i, end - i));
        i = end;
    }
    return QR_OK;
}

static bool is_compatibility(enum qr_unicode_form form)
{
    return form == QR_NFKC || form == QR_NFKD;
}

static bool is_composed(enum qr_unicode_form form)
{
    return form == QR_NFC || form == QR_NFKC;
}

/* Each code point is decomposed by itself; composing comes when the marks are in order. */
static enum qr_status decompose(enum qr_unicode_form form, const char *text, size_t n_bytes,
                                utf8proc_int32_t **out, size_t *count)
{
    /*
     * The longest canonical decomposition is four code points, of three bytes or more; the
     * longest one for compatibility 18, of three bytes.
     */
    bool is_compatible = is_compatibility(form);
    size_t capacity = is_compatible ? n_bytes * 6 + 18 : n_bytes * 2 + 4;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    utf8proc_int32_t *codepoints = qr_calloc(QR_ARENA_REQUEST, capacity, sizeof(*codepoints));
    size_t done = 0;

    if (codepoints == NULL)
        return QR_ERR_NOMEM;
    *count = 0;
    while (done < n_bytes) {
        utf8proc_int32_t codepoint;
        int last_boundclass = 0;
        done += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + done,
                                         (utf8proc_ssize_t)(n_bytes - done), &codepoint);
        *count += (size_t)utf8proc_decompose_char(
            codepoint, codepoints + *count, (utf8proc_ssize_t)(capacity - *count),
            is_compatible ? options | UTF8PROC_COMPAT : options, &last_boundclass);
    }
    *out = codepoints;
    return QR_OK;
}

static enum qr_status order_and_compose(enum qr_unicode_form form,
                                        const utf8proc_int32_t *codepoints, size_t count,
                                        struct qr_buffer *out)
{
    utf8proc_uint8_t *utf8 = NULL;
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = qr_buffer_reserve(&text, count * 4 + 4);
    if (status != QR_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        text.length += (size_t)utf8proc_encode_char(codepoints[i],
                                                    (utf8proc_uint8_t *)text.data + text.length);
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.length, &utf8,
                     UTF8PROC_STABLE | (is_composed(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE));
    status = n < 0 ? QR_ERR_NOMEM : qr_buffer_append(out, utf8, (size_t)n);
    free(utf8);
    qr_buffer_free(&text);
    return status;
}

static enum qr_status normalize_known(enum qr_unicode_form form, const char *text, size_t n_bytes,
                                      struct qr_buffer *out)
{
    utf8proc_int32_t *codepoints = NULL;
    size_t count;

    enum qr_status status = decompose(form, text, n_bytes, &codepoints, &count);
    if (status == QR_OK)
        status = order_long_runs(codepoints, count);
    if (status == QR_OK)
        status = order_and_compose(form, codepoints, count, out);
    qr_free(codepoints);
    return status;
}

/* Where the next character that is inert begins in text[from ...]; *length is its bytes. */
static size_t find_inert(const char *text, size_t n_bytes, size_t from, size_t *length)
{
    for (*length = 0; from < n_bytes; from += *length) {
        if (qr_unicode_is_inert(qr_unicode_char(text + from, n_bytes - from, length)))
            break;
    }
    return from;
}

/* Nothing moves across a character that is inert, or joins it. */
static enum qr_status normalize_run(enum qr_unicode_form form, const char *text, size_t n_bytes,
                                    struct qr_buffer *out)
{
    for (size_t done = 0; done < n_bytes;) {
        size_t length;
        size_t end = find_inert(text, n_bytes, done, &length);
        if (end > done)
            QR_TRY(normalize_known(form, text + done, end - done, out));
        done = end;
        if (done < n_bytes) {
            QR_TRY(qr_buffer_append(out, text + done, length));
            done += length;
        }
    }
    return QR_OK;
}

/* Composing is far slower than looking at what it may change. */
static enum qr_status normalize_valid(enum qr_unicode_form form, const char *text, size_t n_bytes,
                                      struct qr_buffer *out)
{
    if (form != QR_NFC)
        return normalize_run(form, text, n_bytes, out);
    for (size_t done = 0; done < n_bytes;) {
        size_t begin;
        size_t end;
        qr_nfc_next_run(text, n_bytes, done, &begin, &end);
        QR_TRY(qr_buffer_append(out, text + done, begin - done));
        if (begin < end)
            QR_TRY(normalize_run(form, text + begin, end - begin, out));
        done = end;
    }
    return QR_OK;
}

/*
 * Below U+0300 every string is in form NFC; those are the lead bytes up to 0xcb. In the other
 * forms ASCII is.
 */
static size_t trivial_prefix(enum qr_unicode_form form, const char *text, size_t n_bytes)
{
    unsigned char last = form == QR_NFC ? 0xcb : 0x7f;
    size_t i = 0;

    while (i < n_bytes && (unsigned char)text[i] <= last)
        i++;
    return i;
}

enum qr_status qr_unicode_normalize(enum qr_unicode_form form, const char *text, size_t n_bytes,
                                    struct qr_buffer *out)
{
    if (trivial_prefix(form, text, n_bytes) == n_bytes)
        return qr_buffer_append(out, text, n_bytes);
    for (size_t done = 0; done < n_bytes;) {
        size_t n_valid = qr_utf8_valid_prefix(text + done, n_bytes - done);
        if (n_valid > 0)
            QR_TRY(normalize_valid(form, text + done, n_valid, out));
        done += n_valid;
        if (done < n_bytes)
            QR_TRY(qr_buffer_append(out, text + done++, 1));
    }
    return QR_OK;
}

int32_t qr_unicode_char(const char *text, size_t n_bytes, size_t *length)
{
    utf8proc_int32_t codepoint;
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n_bytes, &codepoint);

    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? codepoint : -1;
}

bool qr_unicode_is_space(int32_t codepoint)
{
    if ((codepoint >= 0x09 && codepoint <= 0x0d) || codepoint == 0x85)
        return true;
    utf8proc_category_t category = utf8proc_category(codepoint);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

bool qr_unicode_is_word(int32_t codepoint)
{
    switch (utf8proc_category(qr_unicode_stand_in(codepoint))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* the joiners, and the circled and squared letters that count as alphabetic */
        return codepoint == 0x200c || codepoint == 0x200d ||
               (codepoint >= 0x24b6 && codepoint <= 0x24e9) ||
               (codepoint >= 0x1f130 && codepoint <= 0x1f149) ||
               (codepoint >= 0x1f150 && codepoint <= 0x1f169) ||
               (codepoint >= 0x1f170 && codepoint <= 0x1f189);
    }
}

size_t qr_unicode_skip_space(const char *text, size_t n_bytes, size_t from)
{
    while (from < n_bytes) {
        size_t length;
        if (!qr_unicode_is_space(qr_unicode_char(text + from, n_bytes - from, &length)))
            break;
        from += length;
    }
    return from;
}

size_t qr_unicode_char_back(const char *text, size_t least, size_t end)
{
    size_t begin = end - 1;
    size_t length;

    while (begin > least && end - begin < QR_MAX_CHAR_BYTES && qr_utf8_is_continuation(text[begin]))
        begin--;
    (void)qr_unicode_char(text + begin, end - begin, &length);
    return begin + length == end ? begin : end - 1;
}

size_t qr_unicode_skip_space_back(const char *text, size_t least, size_t end)
{
    while (end > least) {
        size_t length;
        size_t begin = qr_unicode_char_back(text, least, end);
        if (!qr_unicode_is_space(qr_unicode_char(text + begin, end - begin, &length)))
            break;
        end = begin;
    }
    return end;
}
