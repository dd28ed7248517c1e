/*
 * utf8.c - see utf8.h for the contract.
 *
 * The second byte alone decides overlong forms, surrogates and the upper bound
 * (table 3-7 of the Unicode standard); the others only need to be continuations.
 */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

struct lead_rule {
    int length;
    unsigned char second_min;
    unsigned char second_max;
};

static struct lead_rule rule_of_lead(unsigned char lead)
{
    if (lead < 0x80)
        return (struct lead_rule){1, 0, 0};
    if (lead >= 0xC2 && lead <= 0xDF)
        return (struct lead_rule){2, 0x80, 0xBF};
    if (lead >= 0xE0 && lead <= 0xEF)
        return (struct lead_rule){3, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF};
    if (lead >= 0xF0 && lead <= 0xF4)
        return (struct lead_rule){4, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF};
    return (struct lead_rule){0, 0, 0};
}

int qr_utf8_char_length(const char *text, size_t n_bytes)
{
    const unsigned char *bytes = (const unsigned char *)text;

    if (n_bytes == 0)
        return -1;
    struct lead_rule rule = rule_of_lead(bytes[0]);
    for (int i = 1; i < rule.length; i++) {
        unsigned char min = i == 1 ? rule.second_min : 0x80;
        unsigned char max = i == 1 ? rule.second_max : 0xBF;
        if ((size_t)i >= n_bytes)
            return -1;
        if (bytes[i] < min || bytes[i] > max)
            return 0;
    }
    return rule.length;
}

/* Text is mostly ASCII: eight bytes at a time, without a look at the single ones. */
static size_t ascii_prefix(const char *text, size_t n_bytes)
{
    size_t pos = 0;
    uint64_t eight;

    for (; pos + sizeof(eight) <= n_bytes; pos += sizeof(eight)) {
        memcpy(&eight, text + pos, sizeof(eight));
        if ((eight & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    while (pos < n_bytes && (unsigned char)text[pos] < 0x80)
        pos++;
    return pos;
}

size_t qr_utf8_valid_prefix(const char *text, size_t n_bytes)
{
    size_t pos = 0;

    while (pos < n_bytes) {
        pos += ascii_prefix(text + pos, n_bytes - pos);
        if (pos == n_bytes)
            break;
        int length = qr_utf8_char_length(text + pos, n_bytes - pos);
        if (length <= 0)
            break;
        pos += (size_t)length;
    }
    return pos;
}
