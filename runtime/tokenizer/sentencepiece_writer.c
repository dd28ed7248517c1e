/* sentencepiece_writer.c - see sentencepiece_writer.h for the contract. */
#include "runtime/tokenizer/sentencepiece_writer.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "proto/sentencepiece/sentencepiece_model.pb-c.h"
#include "runtime/tokenizer/trainer_options.h"

typedef Quire__Sentencepiece__ModelProto model_proto;
typedef Quire__Sentencepiece__ModelProto__SentencePiece piece_proto;

#define PIECE(type) QUIRE__SENTENCEPIECE__MODEL_PROTO__SENTENCE_PIECE__TYPE__##type

enum { BYTE_NAME_BYTES = 8 };

/* The pieces of a message; texts are borrowed. */
struct piece_list {
    piece_proto *items; /* [count] */
    piece_proto **pointers;
    size_t count;
    char byte_names[QR_BYTE_PIECES][BYTE_NAME_BYTES];
};

int32_t qr_sentencepiece_n_fixed(const struct qr_trainer_config *config)
{
    return QR_META_PIECES + config->n_special + (config->byte_fallback ? QR_BYTE_PIECES : 0);
}

static void add_piece(struct piece_list *list, const char *text, size_t n_bytes, float score,
                      Quire__Sentencepiece__ModelProto__SentencePiece__Type type)
{
    piece_proto *piece = &list->items[list->count];

    quire__sentencepiece__model_proto__sentence_piece__init(piece);
    piece->has_piece = true;
    piece->piece.data = (uint8_t *)(uintptr_t)text;
    piece->piece.len = n_bytes;
    piece->has_score = true;
    piece->score = score;
    piece->has_type = type != PIECE(NORMAL);
    piece->type = type;
    list->pointers[list->count++] = piece;
}

static enum qr_status make_list(struct piece_list *list, const struct qr_trainer_config *config,
                                const struct qr_string_table *pieces, const float *scores)
{
    size_t n = (size_t)qr_sentencepiece_n_fixed(config) + (size_t)pieces->count;

    list->items = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*list->items));
    list->pointers = qr_calloc(QR_ARENA_ENGINE, n, sizeof(piece_proto *));
    if (list->items == NULL || list->pointers == NULL)
        return QR_ERR_NOMEM;
    add_piece(list, "<unk>", 5, 0, PIECE(UNKNOWN));
    add_piece(list, "<s>", 3, 0, PIECE(CONTROL));
    add_piece(list, "</s>", 4, 0, PIECE(CONTROL));
    for (int32_t i = 0; i < config->n_special; i++)
        add_piece(list, config->special_tokens[i], strlen(config->special_tokens[i]), 0,
                  PIECE(CONTROL));
    for (int i = 0; i < QR_BYTE_PIECES && config->byte_fallback; i++) {
        snprintf(list->byte_names[i], BYTE_NAME_BYTES, "<0x%02X>", (unsigned)i & 0xff);
        add_piece(list, list->byte_names[i], strlen(list->byte_names[i]), 0, PIECE(BYTE));
    }
    for (int32_t i = 0; i < pieces->count; i++)
        add_piece(list, qr_string_table_text(pieces, i), qr_string_table_length(pieces, i),
                  scores[i], PIECE(NORMAL));
    return QR_OK;
}

static enum qr_status pack(const struct piece_list *list, const struct qr_trainer_config *config,
                           bool is_unigram, struct qr_buffer *out)
{
    Quire__Sentencepiece__TrainerSpec trainer = QUIRE__SENTENCEPIECE__TRAINER_SPEC__INIT;
    Quire__Sentencepiece__NormalizerSpec normalizer = QUIRE__SENTENCEPIECE__NORMALIZER_SPEC__INIT;
    model_proto model = QUIRE__SENTENCEPIECE__MODEL_PROTO__INIT;
    char identity[] = "identity";

    trainer.has_model_type = true;
    trainer.model_type = is_unigram ? QUIRE__SENTENCEPIECE__TRAINER_SPEC__MODEL_TYPE__UNIGRAM
                                    : QUIRE__SENTENCEPIECE__TRAINER_SPEC__MODEL_TYPE__BPE;
    trainer.has_vocab_size = true;
    trainer.vocab_size = (int32_t)list->count;
    trainer.has_character_coverage = true;
    trainer.character_coverage = config->character_coverage;
    trainer.has_max_sentencepiece_length = true;
    trainer.max_sentencepiece_length = config->max_piece_length;
    trainer.has_byte_fallback = true;
    trainer.byte_fallback = config->byte_fallback;
    normalizer.has_name = true;
    normalizer.name = (ProtobufCBinaryData){strlen(identity), (uint8_t *)identity};
    model.n_pieces = list->count;
    model.pieces = list->pointers;
    model.trainer_spec = &trainer;
    model.normalizer_spec = &normalizer;
    QR_TRY(qr_buffer_reserve(out, quire__sentencepiece__model_proto__get_packed_size(&model)));
    out->length = quire__sentencepiece__model_proto__pack(&model, (uint8_t *)out->data);
    return QR_OK;
}

enum qr_status qr_sentencepiece_write(const char *output_dir,
                                      const struct qr_trainer_config *config, bool is_unigram,
                                      const struct qr_string_table *pieces, const float *scores,
                                      struct qr_error *err)
{
    struct qr_buffer bytes = {.arena = QR_ARENA_ENGINE};
    struct piece_list *list = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*list));
    enum qr_status status = QR_ERR_NOMEM;

    if (list != NULL)
        status = make_list(list, config, pieces, scores);
    if (status == QR_OK)
        status = pack(list, config, is_unigram, &bytes);
    if (status == QR_OK)
        status =
            qr_trainer_write_file(output_dir, "tokenizer.model", bytes.data, bytes.length, err);
    if (list != NULL) {
        qr_free(list->items);
        qr_free(list->pointers);
    }
    qr_free(list);
    qr_buffer_free(&bytes);
    return status;
}
