/* tokens.c - InferenceService.Tokenize and Detokenize. */
#include "base/buffer.h"
#include "runtime/server/call.h"
#include "runtime/server/convert.h"

static void fail_from_status(struct qr_call *call, enum qr_status status, const char *field,
                             const struct qr_error *err)
{
    struct qr_rich_error error;

    if (status == QR_ERR_INVALID)
        qr_rich_error_bad_field(&error, field, err->message);
    else if (status == QR_ERR_NOMEM)
        qr_rich_error_set(&error, GRPC_STATUS_RESOURCE_EXHAUSTED, "OUT_OF_MEMORY",
                          "out of memory for this request");
    else
        qr_rich_error_set(&error, GRPC_STATUS_INTERNAL, "ENGINE_ERROR", "%s", err->message);
    qr_call_fail(call, NULL, &error);
}

static void on_tokenize(struct qr_call *call, const ProtobufCMessage *message)
{
    const Quire__V1__TokenizeRequest *request = (const Quire__V1__TokenizeRequest *)message;
    Quire__V1__TokenizeResponse response = QUIRE__V1__TOKENIZE_RESPONSE__INIT;
    struct qr_token_ids ids = {.arena = QR_ARENA_NETWORK};
    struct qr_encode_options options = {
        .add_bos = request->has_add_bos_case == 0 || request->add_bos,
        .parse_special = request->has_parse_special_case != 0 && request->parse_special,
    };
    const char *field = "text";
    struct qr_error err = {.message = ""};

    enum qr_status status = qr_convert_text(&request->text, "text", &field, &err);
    if (status == QR_OK)
        status = qr_tokenizer_encode(qr_engine_tokenizer(call->server->engine),
                                     (const char *)request->text.data, request->text.len, &options,
                                     &ids, &err);
    if (status == QR_OK) {
        response.n_token_ids = ids.count;
        response.token_ids = (uint32_t *)ids.ids;
        qr_call_finish(call, &response.base);
    } else {
        fail_from_status(call, status, field, &err);
    }
    qr_token_ids_free(&ids);
}

/* Through the streaming detokenizer, which replaces what is not UTF-8. */
static enum qr_status decode(const struct qr_tokenizer *tok,
                             const Quire__V1__DetokenizeRequest *request, struct qr_buffer *text,
                             struct qr_error *err)
{
    bool show_special = request->has_show_special_tokens_case != 0 && request->show_special_tokens;
    uint32_t vocab_size = (uint32_t)qr_tokenizer_vocab_size(tok);
    size_t most_bytes = qr_tokenizer_max_push_bytes(tok);
    struct qr_detokenizer detok;

    qr_detokenizer_init(&detok, tok, !show_special, false);
    for (size_t i = 0; i < request->n_token_ids; i++) {
        uint32_t id = request->token_ids[i];
        if (id >= vocab_size)
            return qr_fail(err, QR_ERR_INVALID,
                           "token %zu has id %u; the tokenizer has ids 0 to %u", i, id,
                           vocab_size - 1);
        QR_TRY(qr_buffer_reserve(text, most_bytes));
        text->length += qr_detokenizer_push(&detok, (int32_t)id, text->data + text->length);
    }
    QR_TRY(qr_buffer_reserve(text, most_bytes));
    text->length += qr_detokenizer_flush(&detok, text->data + text->length);
    return QR_OK;
}

static void on_detokenize(struct qr_call *call, const ProtobufCMessage *message)
{
    Quire__V1__DetokenizeResponse response = QUIRE__V1__DETOKENIZE_RESPONSE__INIT;
    struct qr_buffer text = {.arena = QR_ARENA_NETWORK};
    struct qr_error err = {.message = ""};

    enum qr_status status = decode(qr_engine_tokenizer(call->server->engine),
                                   (const Quire__V1__DetokenizeRequest *)message, &text, &err);
    if (status == QR_OK) {
        response.text.data = (uint8_t *)text.data;
        response.text.len = text.length;
        qr_call_finish(call, &response.base);
    } else {
        fail_from_status(call, status, "token_ids", &err);
    }
    qr_buffer_free(&text);
}

const struct qr_method qr_method_tokenize = {
    .path = "/quire.v1.InferenceService/Tokenize",
    .request = &quire__v1__tokenize_request__descriptor,
    .is_inference = true,
    .received = on_tokenize,
};

const struct qr_method qr_method_detokenize = {
    .path = "/quire.v1.InferenceService/Detokenize",
    .request = &quire__v1__detokenize_request__descriptor,
    .is_inference = true,
    .received = on_detokenize,
};
