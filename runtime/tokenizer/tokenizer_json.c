/* tokenizer_json.c - Hugging Face tokenizer.json; see tokenizer_impl.h and tokenizer_json.h. */
#include "runtime/tokenizer/tokenizer_json.h"

#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/unigram_model.h"

struct reader {
    struct qr_json_place place;
    struct qr_tokenizer *tok;
    bool is_byte_level;
};

static enum qr_status read_normalizer(struct reader *reader, const json_t *root)
{
    const json_t *normalizer = NULL;

    QR_TRY(qr_json_object(&reader->place, root, "normalizer", &normalizer));
    if (normalizer == NULL)
        return QR_OK;
    return qr_json_read_normalizer(reader->place.name, normalizer, &reader->tok->normalizer,
                                   reader->place.err);
}

static enum qr_status read_pre_tokenizer(struct reader *reader, const json_t *root,
                                         struct qr_pre_tokenizer *out)
{
    const json_t *pre_tokenizer = NULL;

    QR_TRY(qr_json_object(&reader->place, root, "pre_tokenizer", &pre_tokenizer));
    if (pre_tokenizer == NULL)
        return QR_OK;
    return qr_json_read_pre_tokenizer(reader->place.name, pre_tokenizer, out,
                                      &reader->is_byte_level, reader->place.err);
}

static enum qr_status read_bpe(struct reader *reader, const json_t *root, const json_t *object)
{
    struct qr_byte_level *model = qr_byte_level_alloc();

    if (model == NULL)
        return QR_ERR_NOMEM;
    reader->tok->model = model;
    reader->tok->ops = &qr_byte_level_ops;
    QR_TRY(read_pre_tokenizer(reader, root, &model->pre_tokenizer));
    model->begins_with_chars = !reader->is_byte_level;
    if (model->begins_with_chars)
        reader->tok->ops = &qr_char_level_ops;
    return qr_json_read_bpe(reader->place.name, object, model, &reader->tok->tokens,
                            reader->place.err);
}

static enum qr_status read_unigram(struct reader *reader, const json_t *root, const json_t *object)
{
    struct qr_unigram_model *model = qr_unigram_model_alloc();

    if (model == NULL)
        return QR_ERR_NOMEM;
    reader->tok->model = model;
    reader->tok->ops = &qr_unigram_ops;
    QR_TRY(read_pre_tokenizer(reader, root, &model->pre_tokenizer));
    if (reader->is_byte_level)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "pre_tokenizer",
                            "ByteLevel before a Unigram model is not supported");
    return qr_json_read_unigram(reader->place.name, object, &model->unigram, &reader->tok->tokens,
                                reader->place.err);
}

static enum qr_status read_model(struct reader *reader, const json_t *root)
{
    const json_t *model = NULL;

    QR_TRY(qr_json_object(&reader->place, root, "model", &model));
    if (model == NULL)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "model", "is missing");
    /* Old files do not name the type; the other fields say what they are. */
    bool is_named = json_object_get(model, "type") != NULL;
    if (qr_json_is(model, "type", "BPE") || (!is_named && json_object_get(model, "merges") != NULL))
        return read_bpe(reader, root, model);
    if (qr_json_is(model, "type", "Unigram") ||
        (!is_named && json_is_array(json_object_get(model, "vocab"))))
        return read_unigram(reader, root, model);
    return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "model.type",
                        "\"%s\" is not supported; BPE and Unigram are", qr_json_type_name(model));
}

static enum qr_status read_added_tokens(struct reader *reader, const json_t *root)
{
    const struct qr_json_place place = {reader->place.name, "added_tokens", reader->place.err};
    const json_t *list = NULL;
    const json_t *token;
    size_t i;

    QR_TRY(qr_json_array(&reader->place, root, "added_tokens", &list));
    json_array_foreach(list, i, token)
    {
        const json_t *id = json_object_get(token, "id");
        QR_TRY(qr_json_read_added_token(
            &place, token, json_is_integer(id) ? json_integer_value(id) : -1, reader->tok));
    }
    return QR_OK;
}

static enum qr_status apply_decoder(const struct reader *reader, const struct qr_decoder *decoder)
{
    enum qr_status status = qr_decoder_apply(decoder, &reader->tok->tokens);

    if (status == QR_ERR_INVALID || status == QR_ERR_UNSUPPORTED)
        return qr_json_fail(&reader->place, status, "decoder",
                            "it makes a token longer than %d bytes, or backtracks too long on one",
                            QR_MAX_DECODED_BYTES);
    return status;
}

/*
 * Without a decoder the reference implementation puts a space between any two tokens. A
 * byte-level vocabulary is decoded all the same: nothing else makes text of it.
 */
static enum qr_status read_decoder(struct reader *reader, const json_t *root)
{
    const json_t *object = NULL;
    struct qr_decoder decoder = {0};
    enum qr_status status = QR_OK;

    QR_TRY(qr_json_object(&reader->place, root, "decoder", &object));
    if (object != NULL)
        status = qr_json_read_decoder(reader->place.name, object, &decoder, &reader->tok->strip,
                                      reader->place.err);
    else
        (void)qr_decoder_add(&decoder,
                             reader->is_byte_level ? QR_DECODER_BYTE_LEVEL : QR_DECODER_SEPARATE);
    if (status == QR_OK)
        status = apply_decoder(reader, &decoder);
    qr_decoder_free(&decoder);
    return status;
}

static enum qr_status read_root(struct reader *reader, const json_t *root)
{
    const json_t *processor = NULL;

    QR_TRY(read_normalizer(reader, root));
    QR_TRY(read_model(reader, root));
    QR_TRY(read_added_tokens(reader, root));
    QR_TRY(read_decoder(reader, root));
    QR_TRY(qr_json_object(&reader->place, root, "post_processor", &processor));
    if (processor != NULL)
        QR_TRY(qr_json_read_post_processor(reader->place.name, processor, reader->tok,
                                           reader->place.err));
    qr_tokenizer_find_usual_eos(reader->tok);
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
    return qr_tokenizer_finish(reader.tok, name, status, out, err);
}
