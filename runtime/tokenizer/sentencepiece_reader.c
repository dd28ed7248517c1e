/* sentencepiece_reader.c - SentencePiece .model files (protobuf); see tokenizer_impl.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/sentencepiece/sentencepiece_model.pb-c.h"
#include "runtime/tokenizer/sentencepiece.h"

typedef Quire__Sentencepiece__ModelProto model_proto;
typedef Quire__Sentencepiece__ModelProto__SentencePiece piece_proto;

#define PIECE(type) QUIRE__SENTENCEPIECE__MODEL_PROTO__SENTENCE_PIECE__TYPE__##type
#define MODEL(type) QUIRE__SENTENCEPIECE__TRAINER_SPEC__MODEL_TYPE__##type

static const Quire__Sentencepiece__TrainerSpec default_trainer =
    QUIRE__SENTENCEPIECE__TRAINER_SPEC__INIT;
static const Quire__Sentencepiece__NormalizerSpec default_normalizer =
    QUIRE__SENTENCEPIECE__NORMALIZER_SPEC__INIT;

struct reader {
    const char *name;
    struct qr_error *err;
    const model_proto *proto;
    const Quire__Sentencepiece__TrainerSpec *trainer;
    const Quire__Sentencepiece__NormalizerSpec *normalizer;
    struct qr_tokenizer *tok;
    struct qr_sentencepiece *model;
};

static enum qr_status check_specs(const struct reader *reader)
{
    const Quire__Sentencepiece__NormalizerSpec *denormalizer = reader->proto->denormalizer_spec;

    if (reader->proto->n_pieces > QR_MAX_VOCAB)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: pieces: %zu are more than the limit, %d",
                       reader->name, reader->proto->n_pieces, QR_MAX_VOCAB);
    if (reader->trainer->model_type != MODEL(BPE))
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: trainer_spec.model_type: %d is not supported; only BPE (2) is",
                       reader->name, (int)reader->trainer->model_type);
    if (reader->trainer->treat_whitespace_as_suffix)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: trainer_spec.treat_whitespace_as_suffix: true is not supported",
                       reader->name);
    if (reader->normalizer->precompiled_charsmap.len > 0)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: normalizer_spec.precompiled_charsmap: the normalisation \"%.*s\" is "
                       "not supported; only identity is",
                       reader->name, (int)reader->normalizer->name.len,
                       (const char *)reader->normalizer->name.data);
    if (denormalizer != NULL && denormalizer->precompiled_charsmap.len > 0)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: denormalizer_spec.precompiled_charsmap: denormalisation is not "
                       "supported",
                       reader->name);
    return QR_OK;
}

/* "<0x0A>" to 10; -1 when the text is something else. */
static int parse_byte_piece(const piece_proto *piece)
{
    char hex[3] = {0};
    char *hex_end;

    if (piece->piece.len != 6 || memcmp(piece->piece.data, "<0x", 3) != 0 ||
        piece->piece.data[5] != '>')
        return -1;
    memcpy(hex, piece->piece.data + 3, 2);
    if (strspn(hex, "0123456789abcdefABCDEF") != 2)
        return -1;
    return (int)strtol(hex, &hex_end, 16);
}

/* The text of a piece that stands for plain text: U+2581 is a space there. */
static enum qr_status set_plain_token(struct reader *reader, int32_t id, const piece_proto *piece)
{
    const char *text = (const char *)piece->piece.data;
    size_t n_bytes = piece->piece.len;
    struct qr_buffer plain = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = qr_buffer_reserve(&plain, n_bytes);

    for (size_t i = 0; i < n_bytes && status == QR_OK;) {
        bool is_space = n_bytes - i >= QR_SPACE_SYMBOL_BYTES &&
                        memcmp(text + i, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES) == 0;
        status = qr_buffer_append(&plain, is_space ? " " : text + i, 1);
        i += is_space ? QR_SPACE_SYMBOL_BYTES : 1;
    }
    if (status == QR_OK)
        status = qr_token_table_set(&reader->tok->tokens, id, plain.data, plain.length,
                                    plain.data[0] == ' ' ? QR_TOKEN_WORD_START : 0);
    qr_buffer_free(&plain);
    return status;
}

/* A piece that text is cut into. */
static enum qr_status add_plain_piece(struct reader *reader, int32_t id, const piece_proto *piece)
{
    struct qr_sentencepiece *model = reader->model;
    const char *text = (const char *)piece->piece.data;
    int32_t n_before = model->texts.count;
    int32_t index;

    if (isnan(piece->score))
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: pieces[%d].score: it is not a number",
                       reader->name, id);
    QR_TRY(qr_string_table_add(&model->texts, text, piece->piece.len, &index));
    if (index < n_before)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: pieces[%d].piece: \"%.*s\" is there twice, the first time as %d",
                       reader->name, id, (int)piece->piece.len, text, model->pieces[index].id);
    model->pieces[index].id = id;
    if (piece->piece.len > model->max_piece_bytes)
        model->max_piece_bytes = piece->piece.len;
    if (piece->type == PIECE(USER_DEFINED))
        QR_TRY(qr_trie_add(&model->user_defined, text, piece->piece.len, id));
    return set_plain_token(reader, id, piece);
}

static enum qr_status add_special_piece(struct reader *reader, int32_t id, const piece_proto *piece)
{
    const char *text = (const char *)piece->piece.data;
    const struct qr_added_token added = {.id = id, .is_special = true};

    QR_TRY(qr_token_table_set(&reader->tok->tokens, id, text, piece->piece.len, QR_TOKEN_SPECIAL));
    return qr_added_tokens_add(&reader->tok->added, &added, text, piece->piece.len);
}

static enum qr_status add_byte_piece(struct reader *reader, int32_t id, const piece_proto *piece)
{
    int byte = parse_byte_piece(piece);
    char text = (char)byte;

    if (byte < 0)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: pieces[%d].piece: \"%.*s\" is no byte; one looks like <0x0A>",
                       reader->name, id, (int)piece->piece.len, (const char *)piece->piece.data);
    reader->model->byte_ids[byte] = id;
    return qr_token_table_set(&reader->tok->tokens, id, &text, 1, 0);
}

static enum qr_status add_piece(struct reader *reader, int32_t id)
{
    const piece_proto *piece = reader->proto->pieces[id];

    if (piece->piece.len == 0)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: pieces[%d].piece: it is empty",
                       reader->name, id);
    switch (piece->type) {
    case PIECE(NORMAL):
    case PIECE(USER_DEFINED):
        return add_plain_piece(reader, id, piece);
    case PIECE(UNKNOWN):
        if (reader->model->unknown_id >= 0)
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s: pieces[%d].type: a second unknown piece; the first is %d",
                           reader->name, id, reader->model->unknown_id);
        reader->model->unknown_id = id;
        return add_special_piece(reader, id, piece);
    case PIECE(CONTROL):
        return add_special_piece(reader, id, piece);
    case PIECE(BYTE):
        return add_byte_piece(reader, id, piece);
    default:
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED, "%s: pieces[%d].type: %d is not supported",
                       reader->name, id, (int)piece->type);
    }
}

static enum qr_status add_pieces(struct reader *reader)
{
    struct qr_sentencepiece *model = reader->model;

    for (int32_t id = 0; id < (int32_t)reader->proto->n_pieces; id++)
        QR_TRY(add_piece(reader, id));
    if (model->unknown_id < 0)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: pieces: none is the unknown piece",
                       reader->name);
    for (int byte = 0; byte < 256 && model->has_byte_fallback; byte++) {
        if (model->byte_ids[byte] < 0)
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s: pieces: <0x%02X> is missing, but trainer_spec.byte_fallback needs "
                           "all 256 bytes",
                           reader->name, byte);
    }
    return QR_OK;
}

struct scored_piece {
    float score;
    int32_t index; /* into pieces */
};

static int by_falling_score(const void *a, const void *b)
{
    float left = ((const struct scored_piece *)a)->score;
    float right = ((const struct scored_piece *)b)->score;
    return (left < right) - (left > right);
}

/* Ranks stand for the scores, so that one kind of BPE serves all models. */
static enum qr_status rank_pieces(struct reader *reader)
{
    struct qr_sentencepiece *model = reader->model;
    size_t n = (size_t)model->texts.count;
    struct scored_piece *scored = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*scored));
    int32_t rank = 0;

    if (scored == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        scored[i] =
            (struct scored_piece){reader->proto->pieces[model->pieces[i].id]->score, (int32_t)i};
    qsort(scored, n, sizeof(*scored), by_falling_score);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && scored[i].score != scored[i - 1].score)
            rank++;
        model->pieces[scored[i].index].rank = rank;
    }
    qr_free(scored);
    return QR_OK;
}

static enum qr_status make_model(struct reader *reader)
{
    struct qr_sentencepiece *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));

    if (model == NULL)
        return QR_ERR_NOMEM;
    reader->model = reader->tok->model = model;
    reader->tok->ops = &qr_sentencepiece_ops;
    reader->tok->drops_dummy_prefix = reader->normalizer->add_dummy_prefix;
    model->unknown_id = -1;
    for (int i = 0; i < 256; i++)
        model->byte_ids[i] = -1;
    model->has_byte_fallback = reader->trainer->byte_fallback;
    model->add_dummy_prefix = reader->normalizer->add_dummy_prefix;
    model->remove_extra_whitespaces = reader->normalizer->remove_extra_whitespaces;
    model->escape_whitespaces = reader->normalizer->escape_whitespaces;
    model->pieces = qr_calloc(QR_ARENA_ENGINE, reader->proto->n_pieces, sizeof(*model->pieces));
    return model->pieces == NULL ? QR_ERR_NOMEM : QR_OK;
}

static int32_t find_control(const struct reader *reader, protobuf_c_boolean is_given,
                            ProtobufCBinaryData name, const char *usual)
{
    return is_given ? qr_tokenizer_find_special(reader->tok, (const char *)name.data, name.len)
                    : qr_tokenizer_find_special(reader->tok, usual, strlen(usual));
}

static enum qr_status read_model(struct reader *reader)
{
    QR_TRY(check_specs(reader));
    QR_TRY(make_model(reader));
    QR_TRY(add_pieces(reader));
    QR_TRY(rank_pieces(reader));
    reader->tok->bos_id =
        find_control(reader, reader->trainer->has_bos_piece, reader->trainer->bos_piece, "<s>");
    reader->tok->eos_id =
        find_control(reader, reader->trainer->has_eos_piece, reader->trainer->eos_piece, "</s>");
    return QR_OK;
}

enum qr_status qr_tokenizer_from_sentencepiece(const char *name, const void *data, size_t n_bytes,
                                               struct qr_tokenizer **out, struct qr_error *err)
{
    enum qr_status status = QR_ERR_NOMEM;

    *out = NULL;
    model_proto *proto = quire__sentencepiece__model_proto__unpack(NULL, n_bytes, data);
    /* Bytes at random often are a message, if one without any field that is known. */
    if (proto == NULL || proto->n_pieces == 0) {
        quire__sentencepiece__model_proto__free_unpacked(proto, NULL);
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: is neither a tokenizer.json nor a SentencePiece model", name);
    }
    struct reader reader = {
        .name = name,
        .err = err,
        .proto = proto,
        .trainer = proto->trainer_spec != NULL ? proto->trainer_spec : &default_trainer,
        .normalizer = proto->normalizer_spec != NULL ? proto->normalizer_spec : &default_normalizer,
        .tok = qr_tokenizer_alloc(),
    };
    if (reader.tok != NULL)
        status = read_model(&reader);
    quire__sentencepiece__model_proto__free_unpacked(proto, NULL);
    if (status == QR_OK) {
        *out = reader.tok;
        return QR_OK;
    }
    qr_tokenizer_close(reader.tok);
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "%s: out of memory while reading it", name);
    return status;
}
