/* regex.c - see regex.h for the contract. */
#include "runtime/tokenizer/regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/utf8.h"
#include "runtime/tokenizer/unicode_versions.h"

struct qr_regex {
    qr_pattern_scan_fn scan; /* NULL: PCRE2 matches */
    pcre2_code *code;
    bool has_jit;
    bool is_literal; /* the pattern has characters itself that have stand-ins */
};

/*
 * PCRE2's \s also takes U+180E, which Unicode no longer counts as white space; the
 * reference implementations' \s is the property White_Space. So \s is spelt out.
 * A \S inside a class has no such spelling and stays.
 */
#define WHITE_SPACE                                                                              \
    "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"

static enum qr_status spell_out_white_space(const char *pattern, struct qr_buffer *out)
{
    bool in_class = false;

    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p == '\\' && p[1] != '\0') {
            p++;
            if (*p == 's' && in_class)
                QR_TRY(qr_buffer_printf(out, "%s", WHITE_SPACE));
            else if (*p == 's' || (*p == 'S' && !in_class))
                QR_TRY(qr_buffer_printf(out, *p == 's' ? "[%s]" : "[^%s]", WHITE_SPACE));
            else
                QR_TRY(qr_buffer_append(out, p - 1, 2));
            continue;
        }
        if (*p == '[')
            in_class = true;
        else if (*p == ']')
            in_class = false;
        QR_TRY(qr_buffer_append(out, p, 1));
    }
    return QR_OK;
}

enum qr_status qr_regex_compile(const char *pattern, struct qr_regex **out, struct qr_error *err)
{
    struct qr_buffer spelt = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = QR_ERR_NOMEM;
    struct qr_regex *regex = NULL;
    PCRE2_UCHAR message[128];
    PCRE2_SIZE offset;
    int code;

    *out = NULL;
    if ((regex = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*regex))) == NULL)
        goto fail;
    if ((regex->scan = qr_known_pattern(pattern)) != NULL) {
        *out = regex;
        return QR_OK;
    }
    if (spell_out_white_space(pattern, &spelt) != QR_OK)
        goto fail;
    /* \C would cut within a character, where the next pattern would be lost. */
    regex->code =
        pcre2_compile((PCRE2_SPTR)spelt.data, spelt.length,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
    if (regex->code == NULL) {
        pcre2_get_error_message(code, message, sizeof(message));
        status = qr_fail(err, QR_ERR_INVALID, "the pattern \"%.200s\" is not understood: %s",
                         pattern, (const char *)message);
        goto fail;
    }
    /* Where the machine has no JIT the interpreter gives the same matches. */
    regex->is_literal = qr_unicode_has_stand_in(spelt.data, spelt.length);
    regex->has_jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    qr_buffer_free(&spelt);
    *out = regex;
    return QR_OK;

fail:
    qr_buffer_free(&spelt);
    qr_regex_free(regex);
    return status;
}

void qr_regex_free(struct qr_regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    qr_free(regex);
}

enum qr_status qr_regex_scan_begin(const struct qr_regex *regex, struct qr_regex_scan *scan)
{
    *scan = (struct qr_regex_scan){.regex = regex, .seen = {.arena = QR_ARENA_ENGINE}};
    if (regex->scan != NULL)
        return QR_OK;
    scan->match_data = pcre2_match_data_create_from_pattern(regex->code, NULL);
    return scan->match_data == NULL ? QR_ERR_NOMEM : QR_OK;
}

enum qr_status qr_regex_scan_see(struct qr_regex_scan *scan, const char *text, size_t n_bytes,
                                 const char **seen)
{
    *seen = text;
    if (scan->regex->scan != NULL || scan->regex->is_literal)
        return QR_OK;
    return qr_unicode_see(text, n_bytes, &scan->seen, seen);
}

static int match_once(struct qr_regex_scan *scan, const char *text, size_t n_bytes, size_t from)
{
    const pcre2_code *code = scan->regex->code;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;

    if (scan->regex->has_jit)
        rc = pcre2_jit_match(code, (PCRE2_SPTR)text, n_bytes, from, 0, scan->match_data, NULL);
    /* The JIT's stack is small; the interpreter's grows on the heap. */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, from, PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK,
                         scan->match_data, NULL);
    return rc;
}

enum qr_status qr_regex_scan_next(struct qr_regex_scan *scan, const char *text, size_t n_bytes,
                                  size_t from, bool *found, size_t *begin, size_t *end)
{
    if (scan->regex->scan != NULL) {
        *found = from < n_bytes;
        *begin = from;
        if (*found)
            *end = scan->regex->scan(text, n_bytes, from);
        return QR_OK;
    }
    *found = false;
    while (from < n_bytes) {
        int rc = match_once(scan, text, n_bytes, from);
        if (rc == PCRE2_ERROR_NOMATCH)
            return QR_OK;
        if (rc < 0)
            return rc == PCRE2_ERROR_NOMEMORY ? QR_ERR_NOMEM : QR_ERR_UNSUPPORTED;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(scan->match_data);
        /* A \K that an assertion calls can set the beginning before `from`, or beyond the end. */
        size_t first = span[0] > from ? span[0] : from;
        if (span[1] > first) {
            *begin = first;
            *end = span[1];
            *found = true;
            return QR_OK;
        }
        /* An empty match cuts nothing: look on from the next character. */
        from = first + 1;
        while (from < n_bytes && qr_utf8_is_continuation(text[from]))
            from++;
    }
    return QR_OK;
}

void qr_regex_scan_end(struct qr_regex_scan *scan)
{
    pcre2_match_data_free(scan->match_data);
    qr_buffer_free(&scan->seen);
    *scan = (struct qr_regex_scan){0};
}
