/* tokenizer_json_bpe.c - the field "model" of tokenizer.json; see tokenizer_json.h. */
#include "runtime/tokenizer/byte_level_build.h"
#include "runtime/tokenizer/tokenizer_json.h"

static enum qr_status check_flags(const struct qr_byte_level_builder *builder, const json_t *object)
{
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(object, "dropout");

    for (int i = 0; i < 2; i++) {
        const json_t *text = NULL;
        QR_TRY(qr_json_string(&builder->place, object, must_be_empty[i], &text));
        if (text != NULL && json_string_length(text) > 0)
            return qr_json_fail(&builder->place, QR_ERR_UNSUPPORTED, must_be_empty[i],
                                "\"%s\" is not supported; only an empty one is",
                                json_string_value(text));
    }
    if (dropout != NULL && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return qr_json_fail(&builder->place, QR_ERR_UNSUPPORTED, "dropout",
                            "a dropout is not supported; it makes the ids random");
    QR_TRY(
        qr_json_bool(&builder->place, object, "byte_fallback", &builder->model->has_byte_fallback));
    QR_TRY(qr_json_bool(&builder->place, object, "fuse_unk", &builder->model->fuses_unknown));
    return qr_json_bool(&builder->place, object, "ignore_merges",
                        &builder->model->whole_piece_first);
}

static enum qr_status read_vocab(struct qr_byte_level_builder *builder, const json_t *vocab)
{
    const char *text;
    size_t n_bytes;
    json_t *value;

    QR_TRY(qr_byte_level_reserve_tokens(builder, json_object_size(vocab)));
    json_object_keylen_foreach((json_t *)vocab, text, n_bytes, value)
    {
        const struct qr_token_text token = {text, n_bytes};
        QR_TRY(qr_byte_level_add_token(
            builder, json_is_integer(value) ? json_integer_value(value) : -1, token));
    }
    return QR_OK;
}

static struct qr_token_text text_of(const json_t *string)
{
    return (struct qr_token_text){json_string_value(string), json_string_length(string)};
}

/* A merge is written "left right" or ["left", "right"]. */
static bool split_merge(const json_t *merge, struct qr_token_text *left,
                        struct qr_token_text *right)
{
    if (json_is_string(merge))
        return qr_split_merge(text_of(merge), left, right);
    if (json_array_size(merge) != 2 || !json_is_string(json_array_get(merge, 0)) ||
        !json_is_string(json_array_get(merge, 1)))
        return false;
    *left = text_of(json_array_get(merge, 0));
    *right = text_of(json_array_get(merge, 1));
    return true;
}

static enum qr_status read_merge(struct qr_byte_level_builder *builder, size_t rank,
                                 const json_t *merge)
{
    struct qr_token_text left;
    struct qr_token_text right;

    if (!split_merge(merge, &left, &right))
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges",
                            "merge %zu must be \"left right\" or [\"left\", \"right\"]", rank);
    return qr_byte_level_merge(builder, rank, left, right);
}

static enum qr_status read_unknown(struct qr_byte_level_builder *builder, const json_t *object)
{
    const json_t *text = NULL;

    QR_TRY(qr_json_string(&builder->place, object, "unk_token", &text));
    if (text == NULL)
        return QR_OK;
    builder->model->unknown_id =
        qr_byte_level_find(builder->model, json_string_value(text), json_string_length(text));
    if (builder->model->unknown_id < 0)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "unk_token",
                            "\"%s\" is not in the vocabulary", json_string_value(text));
    return QR_OK;
}

static enum qr_status read_model(struct qr_byte_level_builder *builder, const json_t *object)
{
    const json_t *vocab = NULL;
    const json_t *merges = NULL;
    const json_t *merge;
    size_t rank;

    QR_TRY(check_flags(builder, object));
    QR_TRY(qr_json_object(&builder->place, object, "vocab", &vocab));
    if (vocab == NULL)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab", "is missing");
    QR_TRY(read_vocab(builder, vocab));
    QR_TRY(read_unknown(builder, object));
    QR_TRY(qr_json_array(&builder->place, object, "merges", &merges));
    if (merges == NULL)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges", "is missing");
    if (json_array_size(merges) > QR_MAX_VOCAB)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges", "more than %d of them",
                            QR_MAX_VOCAB);
    QR_TRY(qr_byte_level_reserve_merges(builder->model, json_array_size(merges)));
    json_array_foreach(merges, rank, merge) QR_TRY(read_merge(builder, rank, merge));
    return QR_OK;
}

enum qr_status qr_json_read_bpe(const char *name, const json_t *object, struct qr_byte_level *model,
                                struct qr_token_table *tokens, struct qr_error *err)
{
    struct qr_byte_level_builder builder = {
        .place = {name, "model", err},
        .model = model,
        .tokens = tokens,
        .keeps_text = true,
        .scratch = {.arena = QR_ARENA_ENGINE},
    };
    enum qr_status status = read_model(&builder, object);
    qr_byte_level_builder_free(&builder);
    return status;
}
