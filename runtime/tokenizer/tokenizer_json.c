/* tokenizer_json.c - Hugging Face tokenizer.json; see tokenizer_impl.h and tokenizer_json.h. */
#include "runtime/tokenizer/tokenizer_json.h"

#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/tokenizer_impl.h"

/* Names under which files without a tokenizer_config.json hold their end of text. */
static const char *const usual_eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>"};

enum { N_USUAL_EOS = sizeof(usual_eos) / sizeof(usual_eos[0]) };

struct reader {
    struct qr_json_place place;
    struct qr_tokenizer *tok;
};

static enum qr_status read_normalizer(struct reader *reader, const json_t *root)
{
    const json_t *normalizer = NULL;

    QR_TRY(qr_json_object(&reader->place, root, "normalizer", &normalizer));
    if (normalizer == NULL)
        return QR_OK;
    if (qr_json_is(normalizer, "type", "Sequence") &&
        json_array_size(json_object_get(normalizer, "normalizers")) == 0)
        return QR_OK;
    if (!qr_json_is(normalizer, "type", "NFC"))
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "normalizer.type",
                            "\"%s\" is not supported; only NFC is", qr_json_type_name(normalizer));
    reader->tok->composes = true;
    return QR_OK;
}

static enum qr_status check_decoder(struct reader *reader, const json_t *root)
{
    const json_t *decoder = NULL;

    QR_TRY(qr_json_object(&reader->place, root, "decoder", &decoder));
    if (decoder == NULL || qr_json_is(decoder, "type", "ByteLevel"))
        return QR_OK;
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "decoder.type",
                        "\"%s\" is not supported; only ByteLevel is", qr_json_type_name(decoder));
}

/* A template whose first part is a special token begins every text with it. */
static enum qr_status read_template(struct reader *reader, const json_t *processor)
{
    const json_t *first = json_array_get(json_object_get(processor, "single"), 0);
    const json_t *special = json_object_get(first, "SpecialToken");
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *specials = json_object_get(processor, "special_tokens");

    if (special == NULL)
        return QR_OK;
    const json_t *ids = json_object_get(json_object_get(specials, name != NULL ? name : ""), "ids");
    const json_t *id = json_array_get(ids, 0);
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= QR_MAX_VOCAB ||
        !qr_token_table_has(&reader->tok->tokens, (int32_t)json_integer_value(id)))
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "post_processor.special_tokens",
                            "\"%s\" has no id that is in the vocabulary", name != NULL ? name : "");
    reader->tok->bos_id = (int32_t)json_integer_value(id);
    return QR_OK;
}

static enum qr_status read_post_processor(struct reader *reader, const json_t *processor)
{
    const json_t *part;
    size_t i;

    if (qr_json_is(processor, "type", "TemplateProcessing"))
        return read_template(reader, processor);
    if (qr_json_is(processor, "type", "ByteLevel")) /* concerns offsets only */
        return QR_OK;
    if (!qr_json_is(processor, "type", "Sequence"))
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "post_processor.type",
                            "\"%s\" is not supported; ByteLevel, TemplateProcessing and Sequence "
                            "are",
                            qr_json_type_name(processor));
    json_array_foreach(json_object_get(processor, "processors"), i, part)
    {
        if (qr_json_is(part, "type", "Sequence"))
            return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "post_processor.processors",
                                "a Sequence within a Sequence is not supported");
        QR_TRY(read_post_processor(reader, part));
    }
    return QR_OK;
}

static enum qr_status read_added_flags(const struct qr_json_place *place, const json_t *object,
                                       struct qr_added_token *token)
{
    bool single_word = false;

    QR_TRY(qr_json_bool(place, object, "special", &token->is_special));
    QR_TRY(qr_json_bool(place, object, "normalized", &token->is_normalized));
    QR_TRY(qr_json_bool(place, object, "lstrip", &token->takes_left));
    QR_TRY(qr_json_bool(place, object, "rstrip", &token->takes_right));
    QR_TRY(qr_json_bool(place, object, "single_word", &single_word));
    if (single_word)
        return qr_json_fail(place, QR_ERR_UNSUPPORTED, "single_word", "true is not supported");
    return QR_OK;
}

static enum qr_status read_added_token(struct reader *reader, const json_t *object)
{
    const struct qr_json_place place = {reader->place.name, "added_tokens", reader->place.err};
    struct qr_buffer normalized = {.arena = QR_ARENA_ENGINE};
    struct qr_added_token token = {0};
    const json_t *content = NULL;
    const json_t *id = json_object_get(object, "id");

    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= QR_MAX_VOCAB)
        return qr_json_fail(&place, QR_ERR_INVALID, "id", "must be a whole number in [0, %d)",
                            QR_MAX_VOCAB);
    token.id = (int32_t)json_integer_value(id);
    QR_TRY(qr_json_string(&place, object, "content", &content));
    if (content == NULL || json_string_length(content) == 0)
        return qr_json_fail(&place, QR_ERR_INVALID, "content", "token %d has none", token.id);
    QR_TRY(read_added_flags(&place, object, &token));

    const char *text = json_string_value(content);
    size_t n_bytes = json_string_length(content);
    QR_TRY(qr_token_table_set(&reader->tok->tokens, token.id, text, n_bytes,
                              token.is_special ? QR_TOKEN_SPECIAL : 0));
    if (!token.is_normalized || !reader->tok->composes)
        return qr_added_tokens_add(&reader->tok->added, &token, text, n_bytes);
    enum qr_status status = qr_normalize_nfc(text, n_bytes, &normalized);
    if (status == QR_OK)
        status =
            qr_added_tokens_add(&reader->tok->added, &token, normalized.data, normalized.length);
    qr_buffer_free(&normalized);
    return status;
}

static enum qr_status read_added_tokens(struct reader *reader, const json_t *root)
{
    const json_t *list = NULL;
    const json_t *token;
    size_t i;

    QR_TRY(qr_json_array(&reader->place, root, "added_tokens", &list));
    json_array_foreach(list, i, token) QR_TRY(read_added_token(reader, token));
    return QR_OK;
}

static enum qr_status read_model(struct reader *reader, const json_t *root)
{
    const char *name = reader->place.name;
    const json_t *pre_tokenizer = NULL;
    const json_t *model = NULL;

    struct qr_byte_level *byte_level = qr_byte_level_alloc();
    if (byte_level == NULL)
        return QR_ERR_NOMEM;
    reader->tok->model = byte_level;
    reader->tok->ops = &qr_byte_level_ops;
    QR_TRY(qr_json_object(&reader->place, root, "model", &model));
    if (model == NULL)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "model", "is missing");
    QR_TRY(qr_json_read_bpe(name, model, byte_level, &reader->tok->tokens, reader->place.err));
    QR_TRY(qr_json_object(&reader->place, root, "pre_tokenizer", &pre_tokenizer));
    if (pre_tokenizer == NULL)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pre_tokenizer",
                            "none is not supported; a byte-level BPE needs ByteLevel");
    return qr_json_read_pre_tokenizer(name, pre_tokenizer, &byte_level->pre_tokenizer,
                                      reader->place.err);
}

static enum qr_status read_root(struct reader *reader, const json_t *root)
{
    const json_t *processor = NULL;

    QR_TRY(read_normalizer(reader, root));
    QR_TRY(read_model(reader, root));
    QR_TRY(check_decoder(reader, root));
    QR_TRY(read_added_tokens(reader, root));
    QR_TRY(qr_json_object(&reader->place, root, "post_processor", &processor));
    if (processor != NULL)
        QR_TRY(read_post_processor(reader, processor));
    for (int i = 0; i < N_USUAL_EOS && reader->tok->eos_id < 0; i++)
        reader->tok->eos_id =
            qr_tokenizer_find_special(reader->tok, usual_eos[i], strlen(usual_eos[i]));
    return QR_OK;
}

enum qr_status qr_tokenizer_from_json(const char *name, const char *json, size_t n_bytes,
                                      struct qr_tokenizer **out, struct qr_error *err)
{
    enum qr_status status = QR_ERR_NOMEM;
    json_t *root;

    *out = NULL;
    QR_TRY(qr_json_parse(name, json, n_bytes, false, &root, err));
    struct reader reader = {.place = {name, "", err}, .tok = qr_tokenizer_alloc()};
    if (reader.tok != NULL)
        status = read_root(&reader, root);
    json_decref(root);
    if (status == QR_OK) {
        *out = reader.tok;
        return QR_OK;
    }
    qr_tokenizer_close(reader.tok);
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "%s: out of memory while reading it", name);
    return status;
}
