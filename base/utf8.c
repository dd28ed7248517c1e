/*
 * utf8.c - see utf8.h for the contract.
 *
 * The second byte alone decides overlong forms, surrogates and the upper bound
 * (table 3-7 of the Unicode standard); the others only need to be continuations.
 */
#include "base/utf8.h"

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

size_t qr_utf8_valid_prefix(const char *text, size_t n_bytes)
{
    size_t pos = 0;

    while (pos < n_bytes) {
        int length = qr_utf8_char_length(text + pos, n_bytes - pos);
        if (length <= 0)
            break;
        pos += (size_t)length;
    }
    return pos;
}
