/*
 * known_patterns.h - the patterns of widely used pre-tokenizers, matched by hand-written
 * scanners in place of a regular expression: GPT-2, cl100k (Llama 3), Qwen 2 and o200k.
 *
 * A pattern counts as known when its text is equal to one of these. All of them match at
 * every position, so that matches follow each other without a gap. Time is linear in the
 * text. Categories are those of utf8proc's Unicode version.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H
#define QUIRE_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H

#include <stddef.h>

#include "base/status.h"

/* GPT-2's pattern, which ByteLevel pre-tokenizers use (Radford et al., 2019). */
#define QR_GPT2_PATTERN                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+" \
    "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Parts of the other patterns, which further ones share. */
#define QR_PATTERN_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define QR_PATTERN_WORD_HEAD    "[^\\r\\n\\p{L}\\p{N}]?"
#define QR_PATTERN_UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define QR_PATTERN_LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define QR_PATTERN_MARKS        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define QR_PATTERN_BREAKS       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define QR_CL100K_PATTERN                            \
    QR_PATTERN_CONTRACTIONS "|" QR_PATTERN_WORD_HEAD \
                            "\\p{L}+|\\p{N}{1,3}|" QR_PATTERN_MARKS QR_PATTERN_BREAKS
#define QR_QWEN2_PATTERN                             \
    QR_PATTERN_CONTRACTIONS "|" QR_PATTERN_WORD_HEAD \
                            "\\p{L}+|\\p{N}|" QR_PATTERN_MARKS QR_PATTERN_BREAKS
#define QR_O200K_PATTERN                                                                   \
    QR_PATTERN_WORD_HEAD QR_PATTERN_UPPER "*" QR_PATTERN_LOWER "+" QR_PATTERN_CONTRACTIONS \
                                          "?|" QR_PATTERN_WORD_HEAD QR_PATTERN_UPPER       \
                                          "+" QR_PATTERN_LOWER "*" QR_PATTERN_CONTRACTIONS \
                                          "?|\\p{N}{1,3}"                                  \
                                          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" QR_PATTERN_BREAKS

/*
 * The end of the match that begins at text[from]; from < n_bytes, text[n_bytes] is valid
 * UTF-8. Keeps no state.
 */
typedef size_t (*qr_pattern_scan_fn)(const char *text, size_t n_bytes, size_t from);

QR_BEGIN_DECLS

/* NULL when the pattern is not known. */
qr_pattern_scan_fn qr_known_pattern(const char *pattern);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H */
