/* sentencepiece_build.c - SentencePiece models from their pieces; see tokenizer_build.h. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/sentencepiece.h"
#include "runtime/tokenizer/tokenizer_build.h"

#define UNKNOWN_PENALTY 10.0f /* below the least score */

struct builder {
    const char *name;
    struct qr_error *err;
    const struct qr_sentencepiece_spec *spec;
    struct qr_tokenizer *tok;
    struct qr_sentencepiece *model;
};

static enum qr_status check_spec(const struct builder *builder)
{
    const struct qr_sentencepiece_spec *spec = builder->spec;

    if (spec->n_pieces == 0 || spec->n_pieces > QR_MAX_VOCAB)
        return qr_fail(builder->err, QR_ERR_INVALID, "%s: pieces: there are %zu, not 1 to %d",
                       builder->name, spec->n_pieces, QR_MAX_VOCAB);
    return QR_OK;
}

/* The text of a piece that stands for plain text: U+2581 is a space there. */
static enum qr_status set_plain_token(struct builder *builder, int32_t id,
                                      const struct qr_token_text *piece)
{
    const char *text = piece->text;
    size_t n_bytes = piece->n_bytes;
    struct qr_buffer plain = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = qr_buffer_reserve(&plain, n_bytes);

    for (size_t i = 0; i < n_bytes && status == QR_OK;) {
        bool is_space = n_bytes - i >= QR_SPACE_SYMBOL_BYTES &&
                        memcmp(text + i, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES) == 0;
        status = qr_buffer_append(&plain, is_space ? " " : text + i, 1);
        i += is_space ? QR_SPACE_SYMBOL_BYTES : 1;
    }
    if (status == QR_OK)
        status = qr_token_table_set(&builder->tok->tokens, id, plain.data, plain.length, 0);
    bool begins_with_space = n_bytes >= QR_SPACE_SYMBOL_BYTES &&
                             memcmp(text, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES) == 0;
    bool drops_space = builder->spec->add_dummy_prefix || builder->spec->remove_extra_whitespaces;
    if (status == QR_OK && drops_space && begins_with_space)
        status =
            qr_token_table_set_first(&builder->tok->tokens, id, plain.data + 1, plain.length - 1);
    qr_buffer_free(&plain);
    return status;
}

/* A piece that text is cut into. */
static enum qr_status add_plain_piece(struct builder *builder, int32_t id,
                                      const struct qr_token_text *piece)
{
    struct qr_sentencepiece *model = builder->model;
    int32_t type = builder->spec->types[id];
    int32_t n_before = model->texts.count;
    int32_t index;

    if (isnan(builder->spec->scores[id]))
        return qr_fail(builder->err, QR_ERR_INVALID, "%s: pieces[%d].score: it is not a number",
                       builder->name, id);
    QR_TRY(qr_string_table_add(&model->texts, piece->text, piece->n_bytes, &index));
    if (index < n_before)
        return qr_fail(builder->err, QR_ERR_INVALID,
                       "%s: pieces[%d].piece: \"%.*s\" is there twice, the first time as %d",
                       builder->name, id, (int)piece->n_bytes, piece->text,
                       model->pieces[index].id);
    model->pieces[index].id = id;
    model->pieces[index].is_unused = type == QR_PIECE_UNUSED;
    model->has_unused = model->has_unused || type == QR_PIECE_UNUSED;
    if (type == QR_PIECE_USER_DEFINED)
        QR_TRY(qr_trie_add(&model->user_defined, piece->text, piece->n_bytes, id));
    return set_plain_token(builder, id, piece);
}

static enum qr_status add_special_piece(struct builder *builder, int32_t id,
                                        const struct qr_token_text *piece)
{
    const struct qr_added_token added = {.id = id, .is_special = true};

    QR_TRY(qr_token_table_set(&builder->tok->tokens, id, piece->text, piece->n_bytes,
                              QR_TOKEN_SPECIAL));
    return qr_added_tokens_add(&builder->tok->added, &added, piece->text, piece->n_bytes);
}

static enum qr_status add_byte_piece(struct builder *builder, int32_t id,
                                     const struct qr_token_text *piece)
{
    int byte = qr_parse_byte_name(piece->text, piece->n_bytes);
    char text = (char)byte;

    if (byte < 0)
        return qr_fail(builder->err, QR_ERR_INVALID,
                       "%s: pieces[%d].piece: \"%.*s\" is no byte; one looks like <0x0A>",
                       builder->name, id, (int)piece->n_bytes, piece->text);
    builder->model->byte_ids[byte] = id;
    return qr_token_table_set(&builder->tok->tokens, id, &text, 1, 0);
}

static enum qr_status add_piece(struct builder *builder, int32_t id)
{
    const struct qr_token_text *piece = &builder->spec->pieces[id];

    if (piece->n_bytes == 0)
        return qr_fail(builder->err, QR_ERR_INVALID, "%s: pieces[%d].piece: it is empty",
                       builder->name, id);
    switch (builder->spec->types[id]) {
    case QR_PIECE_NORMAL:
    case QR_PIECE_USER_DEFINED:
    case QR_PIECE_UNUSED:
        return add_plain_piece(builder, id, piece);
    case QR_PIECE_UNKNOWN:
        if (builder->model->unknown_id >= 0)
            return qr_fail(builder->err, QR_ERR_INVALID,
                           "%s: pieces[%d].type: a second unknown piece; the first is %d",
                           builder->name, id, builder->model->unknown_id);
        builder->model->unknown_id = id;
        return add_special_piece(builder, id, piece);
    case QR_PIECE_CONTROL:
        return add_special_piece(builder, id, piece);
    case QR_PIECE_BYTE:
        return add_byte_piece(builder, id, piece);
    default:
        return qr_fail(builder->err, QR_ERR_UNSUPPORTED, "%s: pieces[%d].type: %d is not supported",
                       builder->name, id, (int)builder->spec->types[id]);
    }
}

static enum qr_status add_pieces(struct builder *builder)
{
    struct qr_sentencepiece *model = builder->model;

    for (int32_t id = 0; id < (int32_t)builder->spec->n_pieces; id++)
        QR_TRY(add_piece(builder, id));
    if (model->unknown_id < 0 && (builder->spec->is_unigram || !model->has_byte_fallback))
        return qr_fail(builder->err, QR_ERR_INVALID, "%s: pieces: none is the unknown piece",
                       builder->name);
    for (int byte = 0; byte < 256 && model->has_byte_fallback; byte++) {
        if (model->byte_ids[byte] < 0)
            return qr_fail(builder->err, QR_ERR_INVALID,
                           "%s: pieces: <0x%02X> is missing, but trainer_spec.byte_fallback needs "
                           "all 256 bytes",
                           builder->name, byte);
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
static enum qr_status rank_pieces(struct builder *builder)
{
    struct qr_sentencepiece *model = builder->model;
    size_t n = (size_t)model->texts.count;
    struct scored_piece *scored = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*scored));
    int32_t rank = 0;

    if (scored == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        scored[i] = (struct scored_piece){builder->spec->scores[model->pieces[i].id], (int32_t)i};
    qsort(scored, n, sizeof(*scored), by_falling_score);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && scored[i].score != scored[i - 1].score)
            rank++;
        model->pieces[scored[i].index].rank = rank;
    }
    qr_free(scored);
    return QR_OK;
}

/*
 * User-defined pieces are given a score that nothing else reaches. Which one it is shows in how the
 * sums after them are rounded; this is that of SentencePiece 0.2.3, earlier ones had -0.1.
 */
static float user_defined_score(size_t n_bytes)
{
    return (float)(0.1 * (double)n_bytes - 0.1);
}

static enum qr_status fill_unigram(struct builder *builder)
{
    struct qr_unigram *unigram = &builder->model->unigram;
    const struct qr_sentencepiece_spec *spec = builder->spec;
    float least = FLT_MAX;

    for (size_t i = 0; i < spec->n_pieces; i++) {
        if (spec->types[i] != QR_PIECE_NORMAL)
            continue;
        least = spec->scores[i] < least ? spec->scores[i] : least;
    }
    unigram->scores = qr_calloc(QR_ARENA_ENGINE, spec->n_pieces, sizeof(*unigram->scores));
    if (unigram->scores == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < spec->n_pieces; i++) {
        const struct qr_token_text *piece = &spec->pieces[i];
        bool is_user_defined = spec->types[i] == QR_PIECE_USER_DEFINED;
        if (spec->types[i] != QR_PIECE_NORMAL && !is_user_defined)
            continue;
        QR_TRY(qr_trie_add(&unigram->pieces, piece->text, piece->n_bytes, (int32_t)i));
        unigram->scores[i] = is_user_defined ? user_defined_score(piece->n_bytes) : spec->scores[i];
    }
    unigram->is_single = true;
    unigram->unknown_id = builder->model->unknown_id;
    unigram->unknown_score = (double)(least - UNKNOWN_PENALTY);
    unigram->has_byte_fallback = spec->byte_fallback;
    memcpy(unigram->byte_ids, builder->model->byte_ids, sizeof(unigram->byte_ids));
    return QR_OK;
}

static enum qr_status set_unknown_surface(struct builder *builder)
{
    static const char usual[] = " \xe2\x81\x87 ";
    struct qr_token_text surface = builder->spec->unknown_surface;

    if (surface.text == NULL)
        surface = (struct qr_token_text){usual, sizeof(usual) - 1};
    return qr_token_table_set_unknown(&builder->tok->tokens, builder->model->unknown_id,
                                      surface.text, surface.n_bytes);
}

static enum qr_status make_model(struct builder *builder)
{
    const struct qr_sentencepiece_spec *spec = builder->spec;
    struct qr_sentencepiece *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));

    if (model == NULL)
        return QR_ERR_NOMEM;
    builder->model = builder->tok->model = model;
    builder->tok->ops = spec->is_unigram ? &qr_sentencepiece_unigram_ops : &qr_sentencepiece_ops;
    builder->tok->tokens.first_until_text = spec->remove_extra_whitespaces;
    qr_unigram_init(&model->unigram);
    model->unknown_id = -1;
    for (int i = 0; i < 256; i++)
        model->byte_ids[i] = -1;
    model->has_byte_fallback = spec->byte_fallback;
    model->add_dummy_prefix = spec->add_dummy_prefix;
    model->remove_extra_whitespaces = spec->remove_extra_whitespaces;
    model->escape_whitespaces = spec->escape_whitespaces;
    model->treat_whitespace_as_suffix = spec->treat_whitespace_as_suffix;
    model->pieces = qr_calloc(QR_ARENA_ENGINE, spec->n_pieces, sizeof(*model->pieces));
    return model->pieces == NULL ? QR_ERR_NOMEM : QR_OK;
}

static enum qr_status read_charsmap(struct builder *builder)
{
    enum qr_status status;

    if (builder->spec->charsmap_bytes == 0)
        return QR_OK;
    status = qr_charsmap_read(&builder->model->charsmap, builder->spec->charsmap,
                              builder->spec->charsmap_bytes);
    if (status == QR_ERR_INVALID)
        return qr_fail(builder->err, status,
                       "%s: normalizer_spec.precompiled_charsmap: it is damaged; get the file anew",
                       builder->name);
    return status;
}

static enum qr_status build(struct builder *builder)
{
    QR_TRY(check_spec(builder));
    QR_TRY(make_model(builder));
    QR_TRY(read_charsmap(builder));
    QR_TRY(add_pieces(builder));
    QR_TRY(set_unknown_surface(builder));
    QR_TRY(builder->spec->is_unigram ? fill_unigram(builder) : rank_pieces(builder));
    return qr_tokenizer_set_ends(builder->tok, builder->name, builder->spec->bos_id,
                                 builder->spec->eos_id, builder->spec->add_eos, builder->err);
}

enum qr_status qr_tokenizer_build_sentencepiece(const char *name,
                                                const struct qr_sentencepiece_spec *spec,
                                                struct qr_tokenizer **out, struct qr_error *err)
{
    struct builder builder = {.name = name, .err = err, .spec = spec, .tok = qr_tokenizer_alloc()};
    enum qr_status status = builder.tok != NULL ? build(&builder) : QR_ERR_NOMEM;

    *out = NULL;
    return qr_tokenizer_finish(builder.tok, name, status, out, err);
}
