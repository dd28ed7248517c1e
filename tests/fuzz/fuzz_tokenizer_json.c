/* fuzz_tokenizer_json.c - a tokenizer.json that is accepted encodes, and its ids decode. */
#include <stdint.h>

#include "base/assert.h"
#include "runtime/tokenizer/tokenizer_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "hello  world\n'll 123 \xc3\xa9\xff<s>";
    const struct qr_encode_options options = {.add_bos = true, .parse_special = true};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok;

    if (qr_tokenizer_from_json("fuzz", (const char *)data, size, &tok, NULL) != QR_OK)
        return 0;
    if (qr_tokenizer_encode(tok, text, sizeof(text) - 1, &options, &ids, NULL) == QR_OK)
        QR_ASSERT(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &decoded, NULL) == QR_OK);
    json_t *config = json_loadb((const char *)data, size, JSON_DECODE_INT_AS_REAL, NULL);
    if (config != NULL)
        (void)!qr_tokenizer_apply_config(tok, "fuzz", config, NULL);
    json_decref(config);
    QR_ASSERT(qr_tokenizer_bos_id(tok) < qr_tokenizer_vocab_size(tok));
    QR_ASSERT(qr_tokenizer_eos_id(tok) < qr_tokenizer_vocab_size(tok));
    qr_buffer_free(&decoded);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
    return 0;
}
