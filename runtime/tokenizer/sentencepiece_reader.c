/* sentencepiece_reader.c - SentencePiece .model files (protobuf); see tokenizer_impl.h. */
#include <string.h>

#include "base/alloc.h"
#include "proto/sentencepiece/sentencepiece_model.pb-c.h"
#include "runtime/tokenizer/tokenizer_build.h"
#include "runtime/tokenizer/tokenizer_impl.h"

typedef Quire__Sentencepiece__ModelProto model_proto;
typedef Quire__Sentencepiece__ModelProto__SentencePiece piece_proto;

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
    struct qr_token_text *pieces; /* [n_pieces] */
    float *scores;
    int32_t *types;
};

static enum qr_status check_specs(const struct reader *reader)
{
    const Quire__Sentencepiece__NormalizerSpec *denormalizer = reader->proto->denormalizer_spec;
    int type = (int)reader->trainer->model_type;

    if (type != MODEL(BPE) && type != MODEL(UNIGRAM))
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: trainer_spec.model_type: %d is not supported; unigram (1) and BPE (2) "
                       "are",
                       reader->name, type);
    if (denormalizer != NULL && denormalizer->precompiled_charsmap.len > 0)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: denormalizer_spec.precompiled_charsmap: denormalisation is not "
                       "supported",
                       reader->name);
    return QR_OK;
}

static enum qr_status list_pieces(struct reader *reader)
{
    size_t n = reader->proto->n_pieces;

    reader->pieces = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*reader->pieces));
    reader->scores = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*reader->scores));
    reader->types = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*reader->types));
    if (reader->pieces == NULL || reader->scores == NULL || reader->types == NULL)
        return qr_fail(reader->err, QR_ERR_NOMEM, "%s: out of memory while reading it",
                       reader->name);
    for (size_t i = 0; i < n; i++) {
        const piece_proto *piece = reader->proto->pieces[i];
        reader->pieces[i] =
            (struct qr_token_text){(const char *)piece->piece.data, piece->piece.len};
        reader->scores[i] = piece->score;
        reader->types[i] = (int32_t)piece->type;
    }
    return QR_OK;
}

/* The id of the control piece of that name, "usual" where the file gives none; -1: none. */
static int32_t find_control(const struct reader *reader, protobuf_c_boolean is_given,
                            ProtobufCBinaryData name, const char *usual)
{
    const char *text = is_given ? (const char *)name.data : usual;
    size_t n_bytes = is_given ? name.len : strlen(usual);

    for (size_t i = 0; i < reader->proto->n_pieces; i++) {
        bool is_special =
            reader->types[i] == QR_PIECE_CONTROL || reader->types[i] == QR_PIECE_UNKNOWN;
        if (is_special && reader->pieces[i].n_bytes == n_bytes && n_bytes > 0 &&
            memcmp(reader->pieces[i].text, text, n_bytes) == 0)
            return (int32_t)i;
    }
    return -1;
}

static enum qr_status read_model(struct reader *reader, struct qr_tokenizer **out)
{
    const Quire__Sentencepiece__TrainerSpec *trainer = reader->trainer;
    const Quire__Sentencepiece__NormalizerSpec *normalizer = reader->normalizer;

    QR_TRY(check_specs(reader));
    QR_TRY(list_pieces(reader));
    const struct qr_sentencepiece_spec spec = {
        .pieces = reader->pieces,
        .scores = reader->scores,
        .types = reader->types,
        .n_pieces = reader->proto->n_pieces,
        .is_unigram = trainer->model_type == MODEL(UNIGRAM),
        .byte_fallback = trainer->byte_fallback,
        .add_dummy_prefix = normalizer->add_dummy_prefix,
        .remove_extra_whitespaces = normalizer->remove_extra_whitespaces,
        .escape_whitespaces = normalizer->escape_whitespaces,
        .treat_whitespace_as_suffix = trainer->treat_whitespace_as_suffix,
        .charsmap = normalizer->precompiled_charsmap.data,
        .charsmap_bytes = normalizer->precompiled_charsmap.len,
        .unknown_surface = {(const char *)trainer->unk_surface.data, trainer->unk_surface.len},
        .bos_id = find_control(reader, trainer->has_bos_piece, trainer->bos_piece, "<s>"),
        .eos_id = find_control(reader, trainer->has_eos_piece, trainer->eos_piece, "</s>"),
    };
    return qr_tokenizer_build_sentencepiece(reader->name, &spec, out, reader->err);
}

enum qr_status qr_tokenizer_from_sentencepiece(const char *name, const void *data, size_t n_bytes,
                                               struct qr_tokenizer **out, struct qr_error *err)
{
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
    };
    enum qr_status status = read_model(&reader, out);
    qr_free(reader.pieces);
    qr_free(reader.scores);
    qr_free(reader.types);
    quire__sentencepiece__model_proto__free_unpacked(proto, NULL);
    return status;
}
