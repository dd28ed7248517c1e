/*
 * tokenizer_impl.h - the tokenizer behind tokenizer.h: added tokens, then a
 * normaliser, then one of the models. Only files of this folder and its tests
 * include it.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/token_table.h"
#include "runtime/tokenizer/tokenizer.h"

/* A stretch of text without added tokens. */
struct qr_segment {
    const char *text;
    size_t n_bytes;
    bool at_start; /* the text begins with it */
    bool at_end;   /* and ends with it */
};

/* What a model must do. Contexts hold the working memory of one encode. */
struct qr_model_ops {
    const char *kind;
    QR_MUST_CHECK enum qr_status (*begin)(const void *model, void **context);
    QR_MUST_CHECK enum qr_status (*encode)(const void *model, void *context,
                                           const struct qr_segment *segment,
                                           struct qr_token_ids *ids, struct qr_error *err);
    void (*end)(void *context);   /* accepts NULL */
    void (*destroy)(void *model); /* accepts NULL */
};

struct qr_tokenizer {
    struct qr_token_table tokens;
    struct qr_added_tokens added;
    bool composes; /* text is brought to NFC first */
    bool drops_dummy_prefix;
    int32_t bos_id; /* -1: none */
    int32_t eos_id;
    const struct qr_model_ops *ops;
    void *model;
};

QR_BEGIN_DECLS

/*
 * Readers of files that lie in memory; `name` stands for the file in errors. What they
 * return is closed by qr_tokenizer_close.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_from_json(const char *name, const char *json,
                                                    size_t n_bytes, struct qr_tokenizer **out,
                                                    struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_tokenizer_from_sentencepiece(const char *name, const void *data,
                                                             size_t n_bytes,
                                                             struct qr_tokenizer **out,
                                                             struct qr_error *err);
/*
 * What a tokenizer_config.json says of BOS and EOS: which they are, and whether the BOS
 * is added.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_apply_config(struct qr_tokenizer *tok, const char *name,
                                                       const char *json, size_t n_bytes,
                                                       struct qr_error *err);

/* The id of the special token with this text, -1: none. */
int32_t qr_tokenizer_find_special(const struct qr_tokenizer *tok, const char *text, size_t n_bytes);

/* An empty tokenizer without a model, for the readers. NULL when memory is exhausted. */
QR_MUST_CHECK struct qr_tokenizer *qr_tokenizer_alloc(void);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H */
