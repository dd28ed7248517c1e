/*
 * fuzz_tokenizer_encode.c - any bytes are encoded, and decode to themselves; the stream of
 * the ids is valid UTF-8. The vocabulary is the 256 bytes and a few merges.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_impl.h"

static struct qr_tokenizer *make_tokenizer(void)
{
    static const char head[] =
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"added_tokens\":[{\"id\":300,\"content\":\"<s>\",\"special\":true}],"
        "\"model\":{\"type\":\"BPE\",\"merges\":[\"a a\",\"aa aa\",\"\\u0120 a\"],\"vocab\":{"
        "\"aa\":256,\"aaaa\":257,\"\\u0120a\":258";
    struct qr_buffer json = {.arena = QR_ARENA_ENGINE};
    struct qr_tokenizer *tok;

    QR_ASSERT(qr_buffer_append(&json, head, sizeof(head) - 1) == QR_OK);
    for (int byte = 0; byte < 256; byte++) {
        char text[QR_BYTE_CHAR_MAX + 1] = {0};
        qr_byte_to_char((uint8_t)byte, text);
        QR_ASSERT(qr_buffer_printf(&json, ",\"%s%s\":%d", byte == '"' || byte == '\\' ? "\\" : "",
                                   text, byte) == QR_OK);
    }
    QR_ASSERT(qr_buffer_append(&json, "}}}", 3) == QR_OK);
    QR_ASSERT(qr_tokenizer_from_json("fuzz", json.data, json.length, &tok, NULL) == QR_OK);
    qr_buffer_free(&json);
    return tok;
}

static void check_stream(const struct qr_tokenizer *tok, const struct qr_token_ids *ids)
{
    size_t max = qr_tokenizer_max_push_bytes(tok);
    char *out = malloc(max);
    struct qr_detokenizer detok;

    QR_ASSERT(out != NULL);
    qr_detokenizer_init(&detok, tok, false, false);
    for (size_t i = 0; i < ids->count; i++) {
        size_t n = qr_detokenizer_push(&detok, ids->ids[i], out);
        QR_ASSERT(n <= max && qr_utf8_is_valid(out, n));
    }
    QR_ASSERT(qr_utf8_is_valid(out, qr_detokenizer_flush(&detok, out)));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qr_tokenizer *tok;
    const struct qr_encode_options options = {.parse_special = true};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};

    if (tok == NULL)
        tok = make_tokenizer();
    QR_ASSERT(qr_tokenizer_encode(tok, (const char *)data, size, &options, &ids, NULL) == QR_OK);
    QR_ASSERT(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &decoded, NULL) == QR_OK);
    QR_ASSERT(decoded.length == size);
    QR_ASSERT(size == 0 || memcmp(decoded.data, data, size) == 0);
    check_stream(tok, &ids);
    qr_buffer_free(&decoded);
    qr_token_ids_free(&ids);
    return 0;
}
