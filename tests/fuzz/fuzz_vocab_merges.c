/*
 * fuzz_vocab_merges.c - a vocabulary with merges that is accepted encodes, and its ids decode.
 * The input is the one file, a NUL, and the other.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "runtime/tokenizer/vocabulary_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "hello  world\n'll 123 \xc3\xa9\xff<|endoftext|>";
    const struct qr_encode_options options = {.parse_special = true};
    const char *bytes = (const char *)data;
    const char *end = size > 0 ? memchr(bytes, '\0', size) : NULL;
    size_t n_vocab = end != NULL ? (size_t)(end - bytes) : size;
    const struct qr_file_text vocab = {"vocab", bytes, n_vocab};
    const struct qr_file_text merges = {"merges", bytes + n_vocab, size - n_vocab};
    const struct qr_file_text rest = {"merges", merges.text + 1, merges.n_bytes - 1};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok = NULL;
    json_t *config = json_loadb(bytes, n_vocab, JSON_DECODE_INT_AS_REAL, NULL);

    if (qr_tokenizer_from_vocab_and_merges(&vocab, end != NULL ? &rest : &merges, config, &tok,
                                           NULL) == QR_OK &&
        qr_tokenizer_encode(tok, text, sizeof(text) - 1, &options, &ids, NULL) == QR_OK)
        QR_ASSERT(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &decoded, NULL) == QR_OK);
    json_decref(config);
    qr_buffer_free(&decoded);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
    return 0;
}
