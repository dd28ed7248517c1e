/* base64.c - see base64.h for the contract. */
#include "runtime/tokenizer/base64.h"

#include <stdint.h>

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum qr_status qr_base64_decode(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    size_t n_padding = 0;

    if (n_bytes % 4 != 0)
        return QR_ERR_INVALID;
    while (n_padding < 2 && n_padding < n_bytes && text[n_bytes - 1 - n_padding] == '=')
        n_padding++;
    QR_TRY(qr_buffer_reserve(out, n_bytes / 4 * 3));
    for (size_t i = 0; i < n_bytes; i += 4) {
        size_t n_digits = i + 4 == n_bytes ? 4 - n_padding : 4;
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = k < n_digits ? digit_of(text[i + k]) : 0;
            if (digit < 0)
                return QR_ERR_INVALID;
            bits = bits << 6 | (uint32_t)digit;
        }
        const char bytes[] = {(char)(bits >> 16 & 0xff), (char)(bits >> 8 & 0xff),
                              (char)(bits & 0xff)};
        QR_TRY(qr_buffer_append(out, bytes, n_digits - 1));
    }
    return QR_OK;
}
