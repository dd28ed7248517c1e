/* fuzz_sentencepiece_model.c - a .model that is accepted encodes, and its ids decode. */
#include <stdint.h>

#include "base/assert.h"
#include "runtime/tokenizer/tokenizer_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "  hello  world\n 123 \xc3\xa9\xff<s>\xe2\x96\x81 ";
    const struct qr_encode_options options = {.add_bos = true, .parse_special = true};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok;

    if (qr_tokenizer_from_sentencepiece("fuzz", data, size, &tok, NULL) != QR_OK)
        return 0;
    QR_ASSERT(qr_tokenizer_encode(tok, text, sizeof(text) - 1, &options, &ids, NULL) == QR_OK);
    QR_ASSERT(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &decoded, NULL) == QR_OK);
    qr_buffer_free(&decoded);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
    return 0;
}
