/* byte_alphabet.c - see byte_alphabet.h for the contract. */
#include "runtime/tokenizer/byte_alphabet.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum {
    FIRST_SUBSTITUTE = 0x100,
    N_LOW = 0x21,           /* 0x00..0x20 do not print */
    N_MIDDLE = 0xa1 - 0x7f, /* nor do 0x7f..0xa0 */
    SOFT_HYPHEN = 0xad,
    N_SUBSTITUTES = N_LOW + N_MIDDLE + 1,
};

static bool stands_for_itself(int32_t codepoint)
{
    return (codepoint >= 0x21 && codepoint <= 0x7e) ||
           (codepoint >= 0xa1 && codepoint <= 0xff && codepoint != SOFT_HYPHEN);
}

static int32_t byte_to_codepoint(uint8_t byte)
{
    if (stands_for_itself(byte))
        return byte;
    if (byte < N_LOW)
        return FIRST_SUBSTITUTE + byte;
    if (byte == SOFT_HYPHEN)
        return FIRST_SUBSTITUTE + N_SUBSTITUTES - 1;
    return FIRST_SUBSTITUTE + N_LOW + (byte - 0x7f);
}

size_t qr_byte_to_char(uint8_t byte, char *out)
{
    int32_t codepoint = byte_to_codepoint(byte);

    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        return 1;
    }
    out[0] = (char)(0xc0 | (codepoint >> 6));
    out[1] = (char)(0x80 | (codepoint & 0x3f));
    return 2;
}

int32_t qr_codepoint_to_byte(int32_t codepoint)
{
    if (stands_for_itself(codepoint))
        return codepoint;
    int32_t i = codepoint - FIRST_SUBSTITUTE;
    if (i < 0 || i >= N_SUBSTITUTES)
        return -1;
    if (i < N_LOW)
        return i;
    return i == N_SUBSTITUTES - 1 ? SOFT_HYPHEN : 0x7f + (i - N_LOW);
}

int64_t qr_chars_to_bytes(const char *text, size_t n_bytes, char *out)
{
    size_t n_out = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        int32_t codepoint = (uint8_t)text[i];
        if (codepoint >= 0x80) {
            /* The alphabet ends at U+0143: two bytes are enough. */
            if ((codepoint & 0xe0) != 0xc0 || i + 1 == n_bytes ||
                !qr_utf8_is_continuation(text[i + 1]))
                return -1;
            codepoint = ((codepoint & 0x1f) << 6) | ((uint8_t)text[++i] & 0x3f);
        }
        int32_t byte = qr_codepoint_to_byte(codepoint);
        if (byte < 0)
            return -1;
        out[n_out++] = (char)byte;
    }
    return (int64_t)n_out;
}

int qr_parse_byte_name(const char *text, size_t n_bytes)
{
    char hex[3] = {0};

    if (n_bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    memcpy(hex, text + 3, 2);
    return strspn(hex, "0123456789abcdefABCDEF") == 2 ? (int)strtol(hex, NULL, 16) : -1;
}
