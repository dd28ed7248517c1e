/* unicode_versions.c - see unicode_versions.h for the contract. */
#include "runtime/tokenizer/unicode_versions.h"

#include <stdlib.h>
#include <utf8proc.h>

enum {
    FIRST_STOOD_IN = 0x800, /* those below, of two bytes at most, are as old as the libraries */
    FIRST_STOOD_IN_LEAD = 0xe0,
    BLOCK_BITS = 8, /* of a code point: its place in a block */
};

enum { INERT = 1, NO_MARK = 2, MARK = 4 };

struct char_range {
    int32_t first;
    int32_t last;
    int32_t value;
};

#include "runtime/tokenizer/unicode_versions.inc.h"

static int compare_with_range(const void *key, const void *element)
{
    const int32_t *codepoint = key;
    const struct char_range *range = element;

    return *codepoint < range->first ? -1 : *codepoint > range->last;
}

/* Of the sorted `ranges`; 0: the code point is in none. */
static int32_t value_of(const struct char_range *ranges, size_t n_bytes, int32_t codepoint)
{
    if (codepoint < ranges[0].first) /* most of all text */
        return 0;
    const struct char_range *found =
        bsearch(&codepoint, ranges, n_bytes / sizeof(*ranges), sizeof(*ranges), compare_with_range);
    return found == NULL ? 0 : found->value;
}

int32_t qr_unicode_stand_in(int32_t codepoint)
{
    size_t block = (size_t)codepoint >> BLOCK_BITS;

    if (codepoint < FIRST_STOOD_IN || block / 8 >= sizeof(stand_in_blocks) ||
        (stand_in_blocks[block / 8] >> block % 8 & 1) == 0)
        return codepoint;
    int32_t stand_in = value_of(stand_ins, sizeof(stand_ins), codepoint);
    return stand_in == 0 ? codepoint : stand_in;
}

/* The first character from text[from] on that has a stand-in, *codepoint; or n_bytes. */
static size_t find_stood_in(const char *text, size_t n_bytes, size_t from, int32_t *codepoint)
{
    while (from < n_bytes) {
        if ((unsigned char)text[from] < FIRST_STOOD_IN_LEAD) {
            from++;
            continue;
        }
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text + from,
                                                   (utf8proc_ssize_t)(n_bytes - from), codepoint);
        if (qr_unicode_stand_in(*codepoint) != *codepoint)
            break;
        from += (size_t)length;
    }
    return from;
}

bool qr_unicode_has_stand_in(const char *text, size_t n_bytes)
{
    int32_t codepoint;

    return find_stood_in(text, n_bytes, 0, &codepoint) < n_bytes;
}

enum qr_status qr_unicode_see(const char *text, size_t n_bytes, struct qr_buffer *copy,
                              const char **seen)
{
    int32_t codepoint;
    size_t at = find_stood_in(text, n_bytes, 0, &codepoint);

    *seen = text;
    if (at == n_bytes)
        return QR_OK;
    copy->length = 0;
    QR_TRY(qr_buffer_append(copy, text, n_bytes));
    while (at < n_bytes) {
        at += (size_t)utf8proc_encode_char(qr_unicode_stand_in(codepoint),
                                           (utf8proc_uint8_t *)copy->data + at);
        at = find_stood_in(text, n_bytes, at, &codepoint);
    }
    *seen = copy->data;
    return QR_OK;
}

bool qr_unicode_is_mark(int32_t codepoint)
{
    int32_t said = value_of(differences, sizeof(differences), codepoint);
    if ((said & (MARK | NO_MARK)) != 0)
        return (said & MARK) != 0;
    utf8proc_category_t category = utf8proc_category(codepoint);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
           category == UTF8PROC_CATEGORY_ME;
}

bool qr_unicode_is_inert(int32_t codepoint)
{
    return (value_of(differences, sizeof(differences), codepoint) & INERT) != 0;
}

int32_t qr_unicode_lower(int32_t codepoint)
{
    int32_t distance = value_of(lower_case, sizeof(lower_case), codepoint);
    return distance != 0 ? codepoint + distance : utf8proc_tolower(codepoint);
}

const char *qr_unicode_punctuation(void)
{
    return "(?![" YOUNG_PUNCTUATION "])[\\p{P}$+<=>^`|~" OLD_PUNCTUATION "]";
}
