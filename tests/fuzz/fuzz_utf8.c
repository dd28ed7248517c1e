/* fuzz_utf8.c - the valid prefix is valid, and no more is. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t prefix = qr_utf8_valid_prefix(text, size);

    QR_ASSERT(prefix <= size);
    QR_ASSERT(qr_utf8_is_valid(text, prefix));
    if (prefix < size)
        QR_ASSERT(qr_utf8_char_length(text + prefix, size - prefix) <= 0);
    return 0;
}
