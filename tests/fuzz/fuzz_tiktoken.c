/* fuzz_tiktoken.c - a rank file that is accepted encodes any text, and its ids decode. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "runtime/tokenizer/vocabulary_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "hello  world\n'll 123 \xc3\xa9\xff<|endoftext|>aaaaaaa";
    const struct qr_encode_options options = {.parse_special = true};
    const struct qr_file_text file = {"fuzz", (const char *)data, size};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok = NULL;
    /* A class, for the number of ranks says nothing here. */
    json_t *config = json_pack("{s:s}", "tokenizer_class", "GPT2Tokenizer");

    (void)qr_looks_like_tiktoken(data, size);
    if (qr_tokenizer_from_tiktoken(&file, config, &tok, NULL) == QR_OK &&
        qr_tokenizer_encode(tok, text, sizeof(text) - 1, &options, &ids, NULL) == QR_OK) {
        QR_ASSERT(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &decoded, NULL) == QR_OK);
        QR_ASSERT(decoded.length == sizeof(text) - 1);
        QR_ASSERT(memcmp(decoded.data, text, decoded.length) == 0);
    }
    json_decref(config);
    qr_buffer_free(&decoded);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
    return 0;
}
