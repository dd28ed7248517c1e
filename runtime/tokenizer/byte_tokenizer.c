/* byte_tokenizer.c - the byte-level vocabulary before any merge: 256 tokens, one for each byte. */
#include <string.h>

#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_impl.h"

static enum qr_status write_vocabulary(struct qr_buffer *json)
{
    for (int byte = 0; byte < 256; byte++) {
        char character[QR_BYTE_CHAR_MAX];
        size_t length = qr_byte_to_char((uint8_t)byte, character);
        const char *escape = character[0] == '"' || character[0] == '\\' ? "\\" : "";
        QR_TRY(qr_buffer_printf(json, "%s\"%s%.*s\":%d", byte > 0 ? "," : "", escape, (int)length,
                                character, byte));
    }
    return QR_OK;
}

static enum qr_status write_json(struct qr_buffer *json)
{
    QR_TRY(qr_buffer_printf(json,
                            "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false,"
                            "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                            "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{"));
    QR_TRY(write_vocabulary(json));
    return qr_buffer_printf(json, "}}}");
}

enum qr_status qr_tokenizer_open_bytes(struct qr_tokenizer **out, struct qr_error *err)
{
    struct qr_buffer json = {.arena = QR_ARENA_ENGINE};

    *out = NULL;
    enum qr_status status = write_json(&json);
    if (status == QR_OK)
        status = qr_tokenizer_from_json("byte tokenizer", json.data, json.length, out, err);
    else
        qr_fail(err, status, "out of memory for the tokenizer of bytes");
    qr_buffer_free(&json);
    return status;
}
