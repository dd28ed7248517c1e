/* normalizer.c - see normalizer.h for the contract. */
#include "runtime/tokenizer/normalizer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

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

/* Each code point is decomposed by itself; composing comes when the marks are in order. */
static enum qr_status decompose(const char *text, size_t n_bytes, utf8proc_int32_t **out,
                                size_t *count)
{
    /* The longest canonical decomposition is four code points, of three bytes or more. */
    size_t capacity = n_bytes * 2 + 4;
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
            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &last_boundclass);
    }
    *out = codepoints;
    return QR_OK;
}

static enum qr_status order_and_compose(const utf8proc_int32_t *codepoints, size_t count,
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
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    status = n < 0 ? QR_ERR_NOMEM : qr_buffer_append(out, utf8, (size_t)n);
    free(utf8);
    qr_buffer_free(&text);
    return status;
}

static enum qr_status normalize_valid(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    utf8proc_int32_t *codepoints = NULL;
    size_t count;

    enum qr_status status = decompose(text, n_bytes, &codepoints, &count);
    if (status == QR_OK)
        status = order_long_runs(codepoints, count);
    if (status == QR_OK)
        status = order_and_compose(codepoints, count, out);
    qr_free(codepoints);
    return status;
}

/* Below U+0300 every string is in form NFC; those are the lead bytes up to 0xcb. */
static size_t trivial_prefix(const char *text, size_t n_bytes)
{
    size_t i = 0;

    while (i < n_bytes && (unsigned char)text[i] <= 0xcb)
        i++;
    return i;
}

enum qr_status qr_normalize_nfc(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    if (trivial_prefix(text, n_bytes) == n_bytes)
        return qr_buffer_append(out, text, n_bytes);
    for (size_t done = 0; done < n_bytes;) {
        size_t n_valid = qr_utf8_valid_prefix(text + done, n_bytes - done);
        if (n_valid > 0)
            QR_TRY(normalize_valid(text + done, n_valid, out));
        done += n_valid;
        if (done < n_bytes)
            QR_TRY(qr_buffer_append(out, text + done++, 1));
    }
    return QR_OK;
}
