/* nfc_runs.c - see nfc_runs.h for the contract. */
#include "runtime/tokenizer/nfc_runs.h"

#include <stdbool.h>
#include <stdint.h>
#include <utf8proc.h>

enum {
    FIRST_MARK_LEAD = 0xcc, /* every string of characters below U+0300 is in form NFC */
    MIN_GAP = 32,           /* bytes: runs that are nearer to each other are one */
};

/*
 * Whether the character neither changes by itself nor joins with what stands before it.
 * Planes beyond the first have few such that matter; newer versions of Unicode than the
 * library's may add letters to them that join, but none below.
 */
static bool is_inert(utf8proc_int32_t codepoint)
{
    bool is_jamo = (codepoint >= 0x1100 && codepoint <= 0x11ff) ||
                   (codepoint >= 0xa960 && codepoint <= 0xa97f) ||
                   (codepoint >= 0xd7b0 && codepoint <= 0xd7ff);
    bool is_symbol = codepoint >= 0x1f000 && codepoint <= 0x1faff;

    if (codepoint < 0x300)
        return true;
    if (is_jamo || (codepoint > 0xffff && !is_symbol))
        return false;
    const utf8proc_property_t *property = utf8proc_get_property(codepoint);
    return property->combining_class == 0 && property->decomp_seqindex == UINT16_MAX &&
           property->category != UTF8PROC_CATEGORY_MN &&
           property->category != UTF8PROC_CATEGORY_MC &&
           property->category != UTF8PROC_CATEGORY_ME && property->category != UTF8PROC_CATEGORY_CN;
}

static bool is_inert_at(const char *text, size_t n_bytes, size_t at, size_t *next)
{
    utf8proc_int32_t codepoint;

    if ((uint8_t)text[at] < 0x80) {
        *next = at + 1;
        return true;
    }
    *next = at + (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                          (utf8proc_ssize_t)(n_bytes - at), &codepoint);
    return is_inert(codepoint);
}

void qr_nfc_next_run(const char *text, size_t n_bytes, size_t from, size_t *begin, size_t *end)
{
    size_t before = from; /* the character before `at`, which a mark at `at` would join */
    size_t at = from;
    size_t next;

    for (; at < n_bytes; before = at, at = next) {
        if ((uint8_t)text[at] < FIRST_MARK_LEAD)
            next = at + ((uint8_t)text[at] < 0x80 ? 1 : 2);
        else if (!is_inert_at(text, n_bytes, at, &next))
            break;
    }
    *begin = *end = n_bytes;
    if (at >= n_bytes)
        return;
    *begin = before;
    size_t inert_from = next; /* the inert characters that have been seen last */
    for (at = next; at < n_bytes && at - inert_from < MIN_GAP; at = next) {
        if (!is_inert_at(text, n_bytes, at, &next))
            inert_from = next;
    }
    *end = inert_from;
}
