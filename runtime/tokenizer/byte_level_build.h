/* byte_level_build.h - fills a byte-level BPE, token by token and merge by merge. */
#ifndef QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_BUILD_H
#define QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_BUILD_H

#include "base/buffer.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/tokenizer_build.h"

/* Release with qr_byte_level_builder_free. */
struct qr_byte_level_builder {
    struct qr_json_place place; /* where the vocabulary stands, for errors */
    struct qr_byte_level *model;
    struct qr_token_table *tokens;
    bool keeps_text;          /* tokens stand for what they are written as, not for bytes */
    struct qr_buffer scratch; /* of QR_ARENA_ENGINE */
};

QR_BEGIN_DECLS

/* Room for `count` tokens, all that will be added. */
QR_MUST_CHECK enum qr_status qr_byte_level_reserve_tokens(struct qr_byte_level_builder *builder,
                                                          size_t count);
/*
 * A token in the byte alphabet, or any other text, which text is never encoded as. An id out
 * of range or in use is an error, a text that is there already is not.
 */
QR_MUST_CHECK enum qr_status qr_byte_level_add_token(struct qr_byte_level_builder *builder,
                                                     int64_t id, struct qr_token_text token);
/* The merge of the next rank; its two parts and their join are in the vocabulary. */
QR_MUST_CHECK enum qr_status qr_byte_level_merge(struct qr_byte_level_builder *builder, size_t rank,
                                                 struct qr_token_text left,
                                                 struct qr_token_text right);
/* Cuts "left right" at its one space; false when it is not of that form. */
bool qr_split_merge(struct qr_token_text merge, struct qr_token_text *left,
                    struct qr_token_text *right);
void qr_byte_level_builder_free(struct qr_byte_level_builder *builder);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_BUILD_H */
