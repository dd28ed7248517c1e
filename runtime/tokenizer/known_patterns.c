/* known_patterns.c - see known_patterns.h for the contract. */
#include "runtime/tokenizer/known_patterns.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer/unicode_versions.h"

/* What the patterns ask of a character. */
enum {
    LETTER = 1,      /* L */
    NUMBER = 2,      /* N */
    SPACE = 4,       /* White_Space */
    NEWLINE = 8,     /* CR and LF */
    UPPER = 16,      /* Lu, Lt, Lm, Lo, M */
    LOWER = 32,      /* Ll, Lm, Lo, M */
    SYMBOL = 64,     /* none of L, N, White_Space */
    NOT_ASCII = 128, /* a byte that says nothing by itself */
};

#define Y (SYMBOL)
#define W (SPACE)
#define E (SPACE | NEWLINE)
#define N (NUMBER)
#define U (LETTER | UPPER)
#define L (LETTER | LOWER)
#define X16                                                                                 \
    NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, \
        NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII, NOT_ASCII
/* clang-format off */
static const uint8_t class_of_byte[256] = {
    Y, Y, Y, Y, Y, Y, Y, Y, Y, W, E, W, W, E, Y, Y,
    Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y,
    W, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y,
    N, N, N, N, N, N, N, N, N, N, Y, Y, Y, Y, Y, Y,
    Y, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
    U, U, U, U, U, U, U, U, U, U, U, Y, Y, Y, Y, Y,
    Y, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, Y, Y, Y, Y, Y,
    X16, X16, X16, X16, X16, X16, X16, X16,
};
/* clang-format on */
#undef Y
#undef W
#undef E
#undef N
#undef U
#undef L
#undef X16

static const uint8_t class_of_category[] = {
    [UTF8PROC_CATEGORY_CN] = SYMBOL,
    [UTF8PROC_CATEGORY_LU] = LETTER | UPPER,
    [UTF8PROC_CATEGORY_LL] = LETTER | LOWER,
    [UTF8PROC_CATEGORY_LT] = LETTER | UPPER,
    [UTF8PROC_CATEGORY_LM] = LETTER | UPPER | LOWER,
    [UTF8PROC_CATEGORY_LO] = LETTER | UPPER | LOWER,
    [UTF8PROC_CATEGORY_MN] = SYMBOL | UPPER | LOWER,
    [UTF8PROC_CATEGORY_MC] = SYMBOL | UPPER | LOWER,
    [UTF8PROC_CATEGORY_ME] = SYMBOL | UPPER | LOWER,
    [UTF8PROC_CATEGORY_ND] = NUMBER,
    [UTF8PROC_CATEGORY_NL] = NUMBER,
    [UTF8PROC_CATEGORY_NO] = NUMBER,
    [UTF8PROC_CATEGORY_PC] = SYMBOL,
    [UTF8PROC_CATEGORY_PD] = SYMBOL,
    [UTF8PROC_CATEGORY_PS] = SYMBOL,
    [UTF8PROC_CATEGORY_PE] = SYMBOL,
    [UTF8PROC_CATEGORY_PI] = SYMBOL,
    [UTF8PROC_CATEGORY_PF] = SYMBOL,
    [UTF8PROC_CATEGORY_PO] = SYMBOL,
    [UTF8PROC_CATEGORY_SM] = SYMBOL,
    [UTF8PROC_CATEGORY_SC] = SYMBOL,
    [UTF8PROC_CATEGORY_SK] = SYMBOL,
    [UTF8PROC_CATEGORY_SO] = SYMBOL,
    [UTF8PROC_CATEGORY_ZS] = SPACE,
    [UTF8PROC_CATEGORY_ZL] = SPACE,
    [UTF8PROC_CATEGORY_ZP] = SPACE,
    [UTF8PROC_CATEGORY_CC] = SYMBOL,
    [UTF8PROC_CATEGORY_CF] = SYMBOL,
    [UTF8PROC_CATEGORY_CS] = SYMBOL,
    [UTF8PROC_CATEGORY_CO] = SYMBOL,
};

struct text {
    const uint8_t *bytes; /* [n_bytes], valid UTF-8 */
    size_t n_bytes;
};

/* A character of more than one byte. */
static uint8_t class_of_long(const uint8_t *bytes, size_t *length)
{
    utf8proc_int32_t codepoint;

    if (bytes[0] < 0xe0) {
        *length = 2;
        codepoint = (bytes[0] & 0x1f) << 6 | (bytes[1] & 0x3f);
    } else if (bytes[0] < 0xf0) {
        *length = 3;
        codepoint = (bytes[0] & 0x0f) << 12 | (bytes[1] & 0x3f) << 6 | (bytes[2] & 0x3f);
    } else {
        *length = 4;
        codepoint = (bytes[0] & 0x07) << 18 | (bytes[1] & 0x3f) << 12 | (bytes[2] & 0x3f) << 6 |
                    (bytes[3] & 0x3f);
    }
    /* NEL is the one control character beyond ASCII that is white space. */
    return codepoint == 0x85 ? SPACE
                             : class_of_category[utf8proc_category(qr_unicode_stand_in(codepoint))];
}

/* The class of the character at `at`, 0 at the end; *next is where the following one begins. */
static inline uint8_t class_at(const struct text *text, size_t at, size_t *next)
{
    size_t length = 1;

    if (at >= text->n_bytes) {
        *next = at;
        return 0;
    }
    uint8_t class = class_of_byte[text->bytes[at]];
    if (class == NOT_ASCII)
        class = class_of_long(text->bytes + at, &length);
    *next = at + length;
    return class;
}

/* The end of the run of characters of one of these classes. */
static inline size_t skip(const struct text *text, size_t at, uint8_t classes)
{
    size_t next;

    while ((class_at(text, at, &next) & classes) != 0)
        at = next;
    return at;
}

static size_t skip_bytes(const struct text *text, size_t at, const char *set)
{
    while (at < text->n_bytes && text->bytes[at] != '\0' &&
           strchr(set, (int)text->bytes[at]) != NULL)
        at++;
    return at;
}

/*
 * The length of 's, 't, 're, 've, 'm, 'll or 'd at `at`, 0: none. Regardless of case the
 * s may also be U+017F, the long s, as Unicode folds it.
 */
static size_t contraction(const struct text *text, size_t at, bool folds)
{
    const uint8_t *bytes = text->bytes + at;
    size_t n = text->n_bytes - at;
    uint8_t case_bit = folds ? 0x20 : 0;

    if (n < 2 || bytes[0] != '\'')
        return 0;
    uint8_t first = bytes[1] | case_bit;
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return 2;
    if (n < 3)
        return 0;
    uint8_t second = bytes[2] | case_bit;
    if (((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l'))
        return 3;
    return folds && bytes[1] == 0xc5 && bytes[2] == 0xbf ? 3 : 0;
}

/* \s+(?!\S)|\s+: a run of white space, but for its last character where text follows. */
static size_t scan_space(const struct text *text, size_t from)
{
    size_t at = from;
    size_t last = from;
    size_t next;

    while ((class_at(text, at, &next) & SPACE) != 0) {
        last = at;
        at = next;
    }
    return at == text->n_bytes || last == from ? at : last;
}

/* The same after \s*[\r\n]+, which takes everything up to the run's last newline. */
static size_t scan_space_and_newlines(const struct text *text, size_t from)
{
    size_t after_newline = from;
    size_t at = from;
    size_t next;
    uint8_t class;

    while (((class = class_at(text, at, &next)) & SPACE) != 0) {
        at = next;
        if ((class & NEWLINE) != 0)
            after_newline = at;
    }
    return after_newline > from ? after_newline : scan_space(text, from);
}

static size_t scan_gpt2(const char *bytes, size_t n_bytes, size_t from)
{
    const struct text text = {(const uint8_t *)bytes, n_bytes};
    size_t length = contraction(&text, from, false);
    size_t next;

    if (length > 0)
        return from + length;
    uint8_t class = class_at(&text, from, &next);
    if (bytes[from] == ' ') {
        size_t after;
        uint8_t following = class_at(&text, next, &after);
        if ((following & (LETTER | NUMBER | SYMBOL)) == 0)
            return scan_space(&text, from);
        class = following;
        next = after;
    } else if ((class & SPACE) != 0) {
        return scan_space(&text, from);
    }
    return skip(&text, next, class & (LETTER | NUMBER | SYMBOL));
}

static inline size_t scan_numbers(const struct text *text, size_t from, int max_digits)
{
    size_t at = from;
    size_t next;

    for (int i = 0; i < max_digits && (class_at(text, at, &next) & NUMBER) != 0; i++)
        at = next;
    return at;
}

/* What comes after the words: numbers, symbols with a space before them, white space. */
static inline size_t scan_rest(const struct text *text, size_t from, int max_digits,
                               const char *after_symbols)
{
    size_t next;
    size_t after;
    uint8_t class = class_at(text, from, &next);

    if ((class & NUMBER) != 0)
        return scan_numbers(text, from, max_digits);
    if ((class & SYMBOL) != 0)
        return skip_bytes(text, skip(text, next, SYMBOL), after_symbols);
    if (text->bytes[from] == ' ' && (class_at(text, next, &after) & SYMBOL) != 0)
        return skip_bytes(text, skip(text, after, SYMBOL), after_symbols);
    return scan_space_and_newlines(text, from);
}

static inline size_t scan_cl100k_like(const struct text *text, size_t from, int max_digits)
{
    size_t length = contraction(text, from, true);
    size_t next;
    size_t after;

    if (length > 0)
        return from + length;
    uint8_t class = class_at(text, from, &next);
    if ((class & LETTER) != 0)
        return skip(text, next, LETTER);
    if ((class & (NUMBER | NEWLINE)) == 0 && (class_at(text, next, &after) & LETTER) != 0)
        return skip(text, after, LETTER);
    return scan_rest(text, from, max_digits, "\r\n");
}

static size_t scan_cl100k(const char *bytes, size_t n_bytes, size_t from)
{
    const struct text text = {(const uint8_t *)bytes, n_bytes};
    return scan_cl100k_like(&text, from, 3);
}

static size_t scan_qwen2(const char *bytes, size_t n_bytes, size_t from)
{
    const struct text text = {(const uint8_t *)bytes, n_bytes};
    return scan_cl100k_like(&text, from, 1);
}

/*
 * UPPER*LOWER+ at `from`; `from` where it does not match. A run of UPPER gives back as much
 * as it takes for its last character that is LOWER, too, to begin LOWER+.
 */
static size_t scan_capitalised(const struct text *text, size_t from)
{
    size_t after_both = from;
    size_t at = from;
    size_t next;
    uint8_t class;

    while (((class = class_at(text, at, &next)) & UPPER) != 0) {
        at = next;
        if ((class & LOWER) != 0)
            after_both = at;
    }
    return (class & LOWER) != 0 ? skip(text, next, LOWER) : after_both;
}

static size_t scan_o200k_word(const struct text *text, size_t from)
{
    size_t next;
    uint8_t class = class_at(text, from, &next);
    bool may_lead = (class & (LETTER | NUMBER | NEWLINE)) == 0;
    size_t end;

    if (may_lead && (end = scan_capitalised(text, next)) > next)
        return end;
    if ((end = scan_capitalised(text, from)) > from)
        return end;
    if (may_lead && (end = skip(text, next, UPPER)) > next)
        return end;
    return skip(text, from, UPPER);
}

static size_t scan_o200k(const char *bytes, size_t n_bytes, size_t from)
{
    const struct text text = {(const uint8_t *)bytes, n_bytes};
    size_t end = scan_o200k_word(&text, from);

    if (end > from)
        return end + (end < n_bytes ? contraction(&text, end, true) : 0);
    return scan_rest(&text, from, 3, "\r\n/");
}

qr_pattern_scan_fn qr_known_pattern(const char *pattern)
{
    static const struct {
        const char *pattern;
        qr_pattern_scan_fn scan;
    } known[] = {
        {QR_GPT2_PATTERN, scan_gpt2},
        {QR_CL100K_PATTERN, scan_cl100k},
        {QR_QWEN2_PATTERN, scan_qwen2},
        {QR_O200K_PATTERN, scan_o200k},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(pattern, known[i].pattern) == 0)
            return known[i].scan;
    }
    return NULL;
}
