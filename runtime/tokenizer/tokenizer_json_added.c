/*
 * tokenizer_json_added.c - the fields "added_tokens" and "post_processor"; see
 * tokenizer_json.h.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/tokenizer_json.h"

static enum qr_status read_flags(const struct qr_json_place *place, const json_t *object,
                                 struct qr_added_token *token)
{
    QR_TRY(qr_json_bool(place, object, "special", &token->is_special));
    token->is_normalized = !token->is_special; /* unless it says otherwise */
    QR_TRY(qr_json_bool(place, object, "normalized", &token->is_normalized));
    QR_TRY(qr_json_bool(place, object, "lstrip", &token->takes_left));
    QR_TRY(qr_json_bool(place, object, "rstrip", &token->takes_right));
    return qr_json_bool(place, object, "single_word", &token->is_single_word);
}

enum qr_status qr_json_read_added_token(const struct qr_json_place *place, const json_t *object,
                                        int64_t id, struct qr_tokenizer *tok)
{
    struct qr_buffer normalized = {.arena = QR_ARENA_ENGINE};
    struct qr_added_token token = {0};
    const json_t *content = NULL;

    if (id < 0 || id >= QR_MAX_VOCAB)
        return qr_json_fail(place, QR_ERR_INVALID, "id", "must be a whole number in [0, %d)",
                            QR_MAX_VOCAB);
    token.id = (int32_t)id;
    QR_TRY(qr_json_string(place, object, "content", &content));
    if (content == NULL || json_string_length(content) == 0)
        return qr_json_fail(place, QR_ERR_INVALID, "content", "token %d has none", token.id);
    QR_TRY(read_flags(place, object, &token));

    const char *text = json_string_value(content);
    size_t n_bytes = json_string_length(content);
    QR_TRY(qr_token_table_set(&tok->tokens, token.id, text, n_bytes,
                              token.is_special ? QR_TOKEN_SPECIAL : 0));
    if (!token.is_normalized || tok->normalizer.n_steps == 0)
        return qr_added_tokens_add(&tok->added, &token, text, n_bytes);
    enum qr_status status = qr_normalizer_run(&tok->normalizer, text, n_bytes, &normalized);
    if (status == QR_OK && normalized.length > 0) /* else it can never be found */
        status = qr_added_tokens_add(&tok->added, &token, normalized.data, normalized.length);
    qr_buffer_free(&normalized);
    if (status == QR_ERR_INVALID || status == QR_ERR_UNSUPPORTED)
        return qr_json_fail(place, status, "content", "token %d cannot be normalised", token.id);
    return status;
}

enum qr_status qr_json_read_added_tokens_decoder(const json_t *config, bool only_new,
                                                 struct qr_tokenizer *tok, struct qr_error *err)
{
    const struct qr_json_place outer = {"tokenizer_config.json", "", err};
    const struct qr_json_place place = {"tokenizer_config.json", "added_tokens_decoder", err};
    const json_t *list = NULL;
    const char *key;
    json_t *token;

    QR_TRY(qr_json_object(&outer, config, "added_tokens_decoder", &list));
    json_object_foreach((json_t *)list, key, token)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (end == key || *end != '\0')
            return qr_json_fail(&place, QR_ERR_INVALID, key, "is no token id");
        if (only_new && id >= 0 && id < QR_MAX_VOCAB &&
            qr_token_table_has(&tok->tokens, (int32_t)id))
            continue;
        QR_TRY(qr_json_read_added_token(&place, token, id, tok));
    }
    return QR_OK;
}

struct reader {
    struct qr_json_place place;
    struct qr_tokenizer *tok;
};

static enum qr_status add_around(struct reader *reader, struct qr_around *around, const json_t *id,
                                 const char *token)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= QR_MAX_VOCAB ||
        !qr_token_table_has(&reader->tok->tokens, (int32_t)json_integer_value(id)))
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "special_tokens",
                            "\"%s\" has no id that is in the vocabulary", token);
    if (around->count == QR_MAX_AROUND)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "single",
                            "more than %d tokens before or after a text", QR_MAX_AROUND);
    around->ids[around->count++] = (int32_t)json_integer_value(id);
    return QR_OK;
}

/* {"SpecialToken": ...} before the one {"Sequence": ...}, and after it. */
static enum qr_status read_template(struct reader *reader, const json_t *processor)
{
    const json_t *specials = json_object_get(processor, "special_tokens");
    struct qr_around *around = &reader->tok->before;
    const json_t *part;
    const json_t *id;
    size_t i;
    size_t k;

    reader->tok->before.count = reader->tok->after.count = 0;
    json_array_foreach(json_object_get(processor, "single"), i, part)
    {
        const json_t *special = json_object_get(part, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        if (special == NULL) {
            around = &reader->tok->after;
            continue;
        }
        const json_t *ids =
            json_object_get(json_object_get(specials, name != NULL ? name : ""), "ids");
        if (json_array_size(ids) == 0)
            return add_around(reader, around, NULL, name != NULL ? name : "");
        json_array_foreach(ids, k, id)
            QR_TRY(add_around(reader, around, id, name != NULL ? name : ""));
    }
    return QR_OK;
}

/* "cls": [TEXT, ID] before, "sep": [TEXT, ID] after. */
static enum qr_status read_cls_and_sep(struct reader *reader, const json_t *processor)
{
    reader->tok->before.count = reader->tok->after.count = 0;
    QR_TRY(add_around(reader, &reader->tok->before,
                      json_array_get(json_object_get(processor, "cls"), 1), "cls"));
    return add_around(reader, &reader->tok->after,
                      json_array_get(json_object_get(processor, "sep"), 1), "sep");
}

static enum qr_status read_processor(void *arg, const json_t *processor)
{
    struct reader *reader = arg;

    if (qr_json_is(processor, "type", "TemplateProcessing"))
        return read_template(reader, processor);
    if (qr_json_is(processor, "type", "RobertaProcessing") ||
        qr_json_is(processor, "type", "BertProcessing"))
        return read_cls_and_sep(reader, processor);
    if (qr_json_is(processor, "type", "ByteLevel")) /* concerns offsets only */
        return QR_OK;
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                        "\"%s\" is not supported; ByteLevel, TemplateProcessing, "
                        "BertProcessing, RobertaProcessing and Sequence are",
                        qr_json_type_name(processor));
}

enum qr_status qr_json_read_post_processor(const char *name, const json_t *object,
                                           struct qr_tokenizer *tok, struct qr_error *err)
{
    struct reader reader = {.place = {name, "post_processor", err}, .tok = tok};
    return qr_json_read_steps(&reader.place, object, "processors", read_processor, &reader);
}
