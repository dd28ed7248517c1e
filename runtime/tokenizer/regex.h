/*
 * regex.h - the patterns of pre-tokenizers: Unicode regular expressions over UTF-8
 * (PCRE2, compiled to machine code).
 *
 * A compiled pattern is immutable and may be used by any number of threads; each
 * keeps its own scan.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_REGEX_H
#define QUIRE_RUNTIME_TOKENIZER_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/status.h"
#include "runtime/tokenizer/known_patterns.h"

struct qr_regex;

/* A walk over the matches of one text. */
struct qr_regex_scan {
    const struct qr_regex *regex;
    void *match_data; /* NULL where the pattern has a scanner */
    struct qr_buffer seen;
};

QR_BEGIN_DECLS

/* Errors say what is wrong with the pattern and where. */
QR_MUST_CHECK enum qr_status qr_regex_compile(const char *pattern, struct qr_regex **out,
                                              struct qr_error *err);
void qr_regex_free(struct qr_regex *regex); /* accepts NULL */

QR_MUST_CHECK enum qr_status qr_regex_scan_begin(const struct qr_regex *regex,
                                                 struct qr_regex_scan *scan);
/*
 * *seen is text[n_bytes], valid UTF-8, as scan_next should get it to match characters that are
 * younger than PCRE2's tables: with stand-ins (unicode_versions.h), in which offsets are the
 * same. It lives until the next call or scan_end.
 */
QR_MUST_CHECK enum qr_status qr_regex_scan_see(struct qr_regex_scan *scan, const char *text,
                                               size_t n_bytes, const char **seen);
/*
 * The first non-empty match in text[from .. n_bytes), which must be valid UTF-8:
 * *found says whether there is one; *begin and *end are offsets from text.
 * QR_ERR_UNSUPPORTED when the pattern's backtracking gets out of hand.
 */
QR_MUST_CHECK enum qr_status qr_regex_scan_next(struct qr_regex_scan *scan, const char *text,
                                                size_t n_bytes, size_t from, bool *found,
                                                size_t *begin, size_t *end);
void qr_regex_scan_end(struct qr_regex_scan *scan); /* accepts a zeroed one */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_REGEX_H */
