/* The way of a request's bytes into the engine: unpack, convert, check. */
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "runtime/server/convert.h"
#include "runtime/server/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct qr_request_limits limits = {
        .vocab_size = 512, .max_seq_tokens = 512, .max_width = 8};
    ProtobufCMessage *message =
        qr_message_unpack_bytes(&quire__v1__generate_request__descriptor, data, size);
    Quire__V1__GenerateRequest *request = (Quire__V1__GenerateRequest *)message;
    struct qr_request *out = NULL;
    bool wants_logprobs;
    const char *field;
    struct qr_error err = {.message = ""};

    /* A prompt of text is the tokenizer's business, which has its own target. */
    if (request != NULL && request->prompt_case != QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT) {
        enum qr_status status = qr_convert_generate_request(request, NULL, limits.max_seq_tokens,
                                                            &out, &wants_logprobs, &field, &err);
        if (status == QR_OK)
            status = qr_request_check(out, &limits, &field, &err);
        QR_ASSERT(status != QR_ERR_INVALID || (field != NULL && err.message[0] != '\0'));
    }
    qr_request_destroy(out);
    qr_message_free(message);
    return 0;
}
