/* tokenizer_json_bpe.c - the field "model" of tokenizer.json; see tokenizer_json.h. */
#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_json.h"

enum { SHOWN_BYTES = 60 }; /* of a token, in messages */

struct reader {
    struct qr_json_place place;
    struct qr_byte_level *model;
    struct qr_token_table *tokens;
    struct qr_buffer scratch;
};

static enum qr_status check_flags(const struct reader *reader, const json_t *object)
{
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(object, "dropout");
    bool byte_fallback = false;

    for (int i = 0; i < 2; i++) {
        const json_t *text = NULL;
        QR_TRY(qr_json_string(&reader->place, object, must_be_empty[i], &text));
        if (text != NULL && json_string_length(text) > 0)
            return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, must_be_empty[i],
                                "\"%s\" is not supported; only an empty one is",
                                json_string_value(text));
    }
    if (dropout != NULL && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "dropout",
                            "a dropout is not supported; it makes the ids random");
    QR_TRY(qr_json_bool(&reader->place, object, "byte_fallback", &byte_fallback));
    if (byte_fallback)
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "byte_fallback",
                            "true is not supported in tokenizer.json; use the tokenizer.model of "
                            "this model, if it has one");
    QR_TRY(qr_json_bool(&reader->place, object, "fuse_unk", &reader->model->fuses_unknown));
    return qr_json_bool(&reader->place, object, "ignore_merges", &reader->model->whole_piece_first);
}

/* A token's text is the bytes that it is written for; what is not in the alphabet is text. */
static enum qr_status set_token(struct reader *reader, int32_t id, const char *text, size_t n_bytes)
{
    qr_buffer_clear(&reader->scratch);
    QR_TRY(qr_buffer_reserve(&reader->scratch, n_bytes));
    int64_t n = qr_chars_to_bytes(text, n_bytes, reader->scratch.data);
    if (n < 0)
        return qr_token_table_set(reader->tokens, id, text, n_bytes, 0);
    if (n == 1)
        reader->model->byte_ids[(uint8_t)reader->scratch.data[0]] = id;
    return qr_token_table_set(reader->tokens, id, reader->scratch.data, (size_t)n, 0);
}

static enum qr_status read_vocab(struct reader *reader, const json_t *vocab)
{
    struct qr_byte_level *model = reader->model;
    size_t n = json_object_size(vocab);
    const char *text;
    size_t n_bytes;
    json_t *value;
    int32_t index;

    if (n == 0)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "vocab", "is empty");
    if ((model->vocab_ids = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*model->vocab_ids))) == NULL)
        return QR_ERR_NOMEM;
    json_object_keylen_foreach((json_t *)vocab, text, n_bytes, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= QR_MAX_VOCAB)
            return qr_json_fail(&reader->place, QR_ERR_INVALID, "vocab",
                                "the id of \"%.*s\" must be a whole number in [0, %d)", SHOWN_BYTES,
                                text, QR_MAX_VOCAB);
        if (qr_token_table_has(reader->tokens, (int32_t)id))
            return qr_json_fail(&reader->place, QR_ERR_INVALID, "vocab",
                                "the id %d of \"%.*s\" is another token's, too", (int)id,
                                SHOWN_BYTES, text);
        QR_TRY(qr_string_table_add(&model->vocab, text, n_bytes, &index));
        model->vocab_ids[index] = (int32_t)id;
        QR_TRY(set_token(reader, (int32_t)id, text, n_bytes));
    }
    return QR_OK;
}

struct slice {
    const char *text;
    size_t n_bytes;
};

/* A merge is written "left right" or ["left", "right"]. */
static bool split_merge(const json_t *merge, struct slice *left, struct slice *right)
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        const char *space = memchr(text, ' ', json_string_length(merge));
        if (space == NULL)
            return false;
        *left = (struct slice){text, (size_t)(space - text)};
        *right = (struct slice){space + 1, json_string_length(merge) - left->n_bytes - 1};
        return left->n_bytes > 0 && right->n_bytes > 0 &&
               memchr(right->text, ' ', right->n_bytes) == NULL;
    }
    if (json_array_size(merge) != 2 || !json_is_string(json_array_get(merge, 0)) ||
        !json_is_string(json_array_get(merge, 1)))
        return false;
    *left = (struct slice){json_string_value(json_array_get(merge, 0)),
                           json_string_length(json_array_get(merge, 0))};
    *right = (struct slice){json_string_value(json_array_get(merge, 1)),
                            json_string_length(json_array_get(merge, 1))};
    return true;
}

static enum qr_status unknown_token(const struct reader *reader, size_t rank, struct slice token)
{
    return qr_json_fail(&reader->place, QR_ERR_INVALID, "merges",
                        "merge %zu needs the token \"%.*s\", which is not in the vocabulary", rank,
                        token.n_bytes < SHOWN_BYTES ? (int)token.n_bytes : SHOWN_BYTES, token.text);
}

static enum qr_status read_merge(struct reader *reader, size_t rank, const json_t *merge)
{
    struct qr_byte_level *model = reader->model;
    struct slice left;
    struct slice right;

    if (!split_merge(merge, &left, &right))
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "merges",
                            "merge %zu must be \"left right\" or [\"left\", \"right\"]", rank);
    qr_buffer_clear(&reader->scratch);
    QR_TRY(qr_buffer_append(&reader->scratch, left.text, left.n_bytes));
    QR_TRY(qr_buffer_append(&reader->scratch, right.text, right.n_bytes));
    const struct slice whole = {reader->scratch.data, reader->scratch.length};
    struct qr_merge_slot slot = {
        .left = qr_byte_level_find(model, left.text, left.n_bytes),
        .right = qr_byte_level_find(model, right.text, right.n_bytes),
        .rank = (int32_t)rank,
        .id = qr_byte_level_find(model, whole.text, whole.n_bytes),
    };
    if (slot.left < 0)
        return unknown_token(reader, rank, left);
    if (slot.right < 0)
        return unknown_token(reader, rank, right);
    if (slot.id < 0)
        return unknown_token(reader, rank, whole);
    qr_byte_level_add_merge(model, slot);
    return QR_OK;
}

static enum qr_status read_unknown(struct reader *reader, const json_t *object)
{
    const json_t *text = NULL;

    QR_TRY(qr_json_string(&reader->place, object, "unk_token", &text));
    if (text == NULL)
        return QR_OK;
    reader->model->unknown_id =
        qr_byte_level_find(reader->model, json_string_value(text), json_string_length(text));
    if (reader->model->unknown_id < 0)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "unk_token",
                            "\"%s\" is not in the vocabulary", json_string_value(text));
    return QR_OK;
}

static enum qr_status read_model(struct reader *reader, const json_t *object)
{
    const json_t *vocab = NULL;
    const json_t *merges = NULL;
    const json_t *merge;
    size_t rank;

    /* Old files do not name the type; merges say what they are. */
    if (!qr_json_is(object, "type", "BPE") &&
        (json_object_get(object, "type") != NULL || json_object_get(object, "merges") == NULL))
        return qr_json_fail(&reader->place, QR_ERR_UNSUPPORTED, "type",
                            "\"%s\" is not supported; only BPE is", qr_json_type_name(object));
    QR_TRY(check_flags(reader, object));
    QR_TRY(qr_json_object(&reader->place, object, "vocab", &vocab));
    if (vocab == NULL)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "vocab", "is missing");
    QR_TRY(read_vocab(reader, vocab));
    QR_TRY(read_unknown(reader, object));
    QR_TRY(qr_json_array(&reader->place, object, "merges", &merges));
    if (merges == NULL)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "merges", "is missing");
    if (json_array_size(merges) > QR_MAX_VOCAB)
        return qr_json_fail(&reader->place, QR_ERR_INVALID, "merges", "more than %d of them",
                            QR_MAX_VOCAB);
    QR_TRY(qr_byte_level_reserve_merges(reader->model, json_array_size(merges)));
    json_array_foreach(merges, rank, merge) QR_TRY(read_merge(reader, rank, merge));
    return QR_OK;
}

enum qr_status qr_json_read_bpe(const char *name, const json_t *object, struct qr_byte_level *model,
                                struct qr_token_table *tokens, struct qr_error *err)
{
    struct reader reader = {
        .place = {name, "model", err},
        .model = model,
        .tokens = tokens,
        .scratch = {.arena = QR_ARENA_ENGINE},
    };
    enum qr_status status = read_model(&reader, object);
    qr_buffer_free(&reader.scratch);
    return status;
}
