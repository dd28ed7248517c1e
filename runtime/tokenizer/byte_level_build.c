/* byte_level_build.c - see byte_level_build.h and tokenizer_build.h for the contracts. */
#include "runtime/tokenizer/byte_level_build.h"

#include <string.h>

#include "base/alloc.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/patterns.h"

enum { SHOWN_BYTES = 60 }; /* of a token, in messages */

static int shown(struct qr_token_text token)
{
    return token.n_bytes < SHOWN_BYTES ? (int)token.n_bytes : SHOWN_BYTES;
}

enum qr_status qr_byte_level_reserve_tokens(struct qr_byte_level_builder *builder, size_t count)
{
    struct qr_byte_level *model = builder->model;

    if (count == 0)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab", "is empty");
    if (count > QR_MAX_VOCAB)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab", "more than %d tokens",
                            QR_MAX_VOCAB);
    model->vocab_ids = qr_calloc(QR_ARENA_ENGINE, count, sizeof(*model->vocab_ids));
    return model->vocab_ids == NULL ? QR_ERR_NOMEM : QR_OK;
}

/* A token's text is the bytes that it is written for; what is not in the alphabet is text. */
static enum qr_status set_token(struct qr_byte_level_builder *builder, int32_t id,
                                struct qr_token_text token)
{
    int byte = qr_parse_byte_name(token.text, token.n_bytes);

    if (byte >= 0)
        builder->model->fallback_ids[byte] = id;
    qr_buffer_clear(&builder->scratch);
    QR_TRY(qr_buffer_reserve(&builder->scratch, token.n_bytes));
    int64_t n = qr_chars_to_bytes(token.text, token.n_bytes, builder->scratch.data);
    if (n == 1)
        builder->model->byte_ids[(uint8_t)builder->scratch.data[0]] = id;
    if (n < 0 || builder->keeps_text)
        return qr_token_table_set(builder->tokens, id, token.text, token.n_bytes, 0);
    return qr_token_table_set(builder->tokens, id, builder->scratch.data, (size_t)n, 0);
}

enum qr_status qr_byte_level_add_token(struct qr_byte_level_builder *builder, int64_t id,
                                       struct qr_token_text token)
{
    struct qr_byte_level *model = builder->model;
    int32_t index;

    if (id < 0 || id >= QR_MAX_VOCAB)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab",
                            "the id of \"%.*s\" must be a whole number in [0, %d)", shown(token),
                            token.text, QR_MAX_VOCAB);
    if (qr_token_table_has(builder->tokens, (int32_t)id))
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab",
                            "the id %d of \"%.*s\" is another token's, too", (int)id, shown(token),
                            token.text);
    QR_TRY(qr_string_table_add(&model->vocab, token.text, token.n_bytes, &index));
    model->vocab_ids[index] = (int32_t)id;
    return set_token(builder, (int32_t)id, token);
}

bool qr_split_merge(struct qr_token_text merge, struct qr_token_text *left,
                    struct qr_token_text *right)
{
    const char *space = merge.n_bytes > 0 ? memchr(merge.text, ' ', merge.n_bytes) : NULL;

    if (space == NULL)
        return false;
    *left = (struct qr_token_text){merge.text, (size_t)(space - merge.text)};
    *right = (struct qr_token_text){space + 1, merge.n_bytes - left->n_bytes - 1};
    return left->n_bytes > 0 && right->n_bytes > 0 &&
           memchr(right->text, ' ', right->n_bytes) == NULL;
}

static enum qr_status unknown_token(const struct qr_byte_level_builder *builder, size_t rank,
                                    struct qr_token_text token)
{
    return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges",
                        "merge %zu needs the token \"%.*s\", which is not in the vocabulary", rank,
                        shown(token), token.text);
}

enum qr_status qr_byte_level_merge(struct qr_byte_level_builder *builder, size_t rank,
                                   struct qr_token_text left, struct qr_token_text right)
{
    struct qr_byte_level *model = builder->model;

    qr_buffer_clear(&builder->scratch);
    QR_TRY(qr_buffer_append(&builder->scratch, left.text, left.n_bytes));
    QR_TRY(qr_buffer_append(&builder->scratch, right.text, right.n_bytes));
    const struct qr_token_text whole = {builder->scratch.data, builder->scratch.length};
    struct qr_merge_slot slot = {
        .left = qr_byte_level_find(model, left.text, left.n_bytes),
        .right = qr_byte_level_find(model, right.text, right.n_bytes),
        .rank = (int32_t)rank,
        .id = qr_byte_level_find(model, whole.text, whole.n_bytes),
    };
    if (slot.left < 0)
        return unknown_token(builder, rank, left);
    if (slot.right < 0)
        return unknown_token(builder, rank, right);
    if (slot.id < 0)
        return unknown_token(builder, rank, whole);
    qr_byte_level_add_merge(model, slot);
    return QR_OK;
}

void qr_byte_level_builder_free(struct qr_byte_level_builder *builder)
{
    qr_buffer_free(&builder->scratch);
}

/* A token that is text, not bytes in their alphabet: it is cut out before the model. */
static enum qr_status add_plain_text(struct qr_tokenizer *tok, int32_t id,
                                     struct qr_token_text token, bool is_special)
{
    const struct qr_added_token added = {.id = id, .is_special = is_special};

    QR_TRY(qr_token_table_set(&tok->tokens, id, token.text, token.n_bytes,
                              is_special ? QR_TOKEN_SPECIAL : 0));
    return qr_added_tokens_add(&tok->added, &added, token.text, token.n_bytes);
}

static enum qr_status add_tokens(struct qr_byte_level_builder *builder, struct qr_tokenizer *tok,
                                 const struct qr_byte_level_spec *spec)
{
    QR_TRY(qr_byte_level_reserve_tokens(builder, spec->n_tokens));
    for (size_t i = 0; i < spec->n_tokens; i++) {
        int32_t type = spec->types != NULL ? spec->types[i] : QR_PIECE_NORMAL;
        bool is_special = type == QR_PIECE_CONTROL || type == QR_PIECE_UNKNOWN;
        if (spec->tokens[i].n_bytes == 0)
            return qr_json_fail(&builder->place, QR_ERR_INVALID, "vocab", "token %zu is empty", i);
        if (is_special || type == QR_PIECE_USER_DEFINED)
            QR_TRY(add_plain_text(tok, (int32_t)i, spec->tokens[i], is_special));
        else
            QR_TRY(qr_byte_level_add_token(builder, (int64_t)i, spec->tokens[i]));
    }
    return QR_OK;
}

static enum qr_status add_merges(struct qr_byte_level_builder *builder,
                                 const struct qr_byte_level_spec *spec)
{
    if (spec->n_merges > QR_MAX_VOCAB)
        return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges", "more than %d of them",
                            QR_MAX_VOCAB);
    QR_TRY(qr_byte_level_reserve_merges(builder->model, spec->n_merges));
    for (size_t rank = 0; rank < spec->n_merges; rank++) {
        struct qr_token_text left;
        struct qr_token_text right;
        if (!qr_split_merge(spec->merges[rank], &left, &right))
            return qr_json_fail(&builder->place, QR_ERR_INVALID, "merges",
                                "merge %zu must be \"left right\"", rank);
        QR_TRY(qr_byte_level_merge(builder, rank, left, right));
    }
    return QR_OK;
}

static enum qr_status build(struct qr_byte_level_builder *builder, struct qr_tokenizer *tok,
                            const struct qr_byte_level_spec *spec)
{
    builder->model = qr_byte_level_alloc();
    if (builder->model == NULL)
        return QR_ERR_NOMEM;
    tok->model = builder->model;
    tok->ops = &qr_byte_level_ops;
    QR_TRY(qr_pattern_apply(spec->pattern, tok, builder->model, &builder->place));
    QR_TRY(add_tokens(builder, tok, spec));
    QR_TRY(add_merges(builder, spec));
    return qr_tokenizer_set_ends(tok, builder->place.name, spec->bos_id, spec->eos_id,
                                 spec->add_eos, builder->place.err);
}

enum qr_status qr_tokenizer_build_byte_level(const char *name,
                                             const struct qr_byte_level_spec *spec,
                                             struct qr_tokenizer **out, struct qr_error *err)
{
    struct qr_tokenizer *tok = qr_tokenizer_alloc();
    enum qr_status status = QR_ERR_NOMEM;

    *out = NULL;
    if (tok != NULL) {
        struct qr_byte_level_builder builder = {
            .place = {name, "", err},
            .tokens = &tok->tokens,
            .scratch = {.arena = QR_ARENA_ENGINE},
        };
        status = build(&builder, tok, spec);
        qr_byte_level_builder_free(&builder);
    }
    return qr_tokenizer_finish(tok, name, status, out, err);
}
