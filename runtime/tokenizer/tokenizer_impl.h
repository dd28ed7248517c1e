/*
 * tokenizer_impl.h - the tokenizer behind tokenizer.h: added tokens, then a
 * normaliser, then one of the models. Only files of this folder and its tests
 * include it.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/normalizer.h"
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
    /* When the reader has filled the model: makes what encoding looks up. NULL: nothing. */
    QR_MUST_CHECK enum qr_status (*prepare)(void *model);
    /* *context goes to `end`, also where it fails. */
    QR_MUST_CHECK enum qr_status (*begin)(const void *model, void **context);
    /* QR_ERR_UNSUPPORTED: a pattern backtracks too long. */
    QR_MUST_CHECK enum qr_status (*encode)(const void *model, void *context,
                                           const struct qr_segment *segment,
                                           struct qr_token_ids *ids, struct qr_error *err);
    void (*end)(void *context);   /* accepts NULL */
    void (*destroy)(void *model); /* accepts NULL */
};

/* Characters that decoding drops where a text begins with them. */
struct qr_strip {
    char text[QR_MAX_CHAR_BYTES];
    uint8_t n_bytes;
    uint32_t count; /* at most so many */
};

enum { QR_MAX_AROUND = 8 };

/* Ids that are put before or after a text. */
struct qr_around {
    int32_t ids[QR_MAX_AROUND]; /* [count] */
    int32_t count;
};

struct qr_tokenizer {
    struct qr_token_table tokens;
    struct qr_added_tokens added;
    struct qr_normalizer normalizer;
    struct qr_strip strip;
    struct qr_around before; /* the BOS, where there is one */
    struct qr_around after;
    int32_t eos_id; /* ends what is generated; -1: none */
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
 * What a tokenizer_config.json, an object, says of BOS and EOS: which they are, and whether
 * they are added.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_apply_config(struct qr_tokenizer *tok, const char *name,
                                                       const json_t *config, struct qr_error *err);

/* The id of the special token with this text, -1: none. */
int32_t qr_tokenizer_find_special(const struct qr_tokenizer *tok, const char *text, size_t n_bytes);

/* Looks for the EOS under the names that it usually has. */
void qr_tokenizer_find_usual_eos(struct qr_tokenizer *tok);

/* An empty tokenizer without a model, for the readers. NULL when memory is exhausted. */
QR_MUST_CHECK struct qr_tokenizer *qr_tokenizer_alloc(void);
/* The BOS is put before every text; -1: none is. */
void qr_tokenizer_set_bos(struct qr_tokenizer *tok, int32_t bos_id);
/* Sets BOS and EOS, each in the vocabulary or -1. */
QR_MUST_CHECK enum qr_status qr_tokenizer_set_ends(struct qr_tokenizer *tok, const char *name,
                                                   int32_t bos_id, int32_t eos_id, bool adds_eos,
                                                   struct qr_error *err);
/* Gives `tok` to *out, or closes it where its reader failed with `status`; returns that. */
QR_MUST_CHECK enum qr_status qr_tokenizer_finish(struct qr_tokenizer *tok, const char *name,
                                                 enum qr_status status, struct qr_tokenizer **out,
                                                 struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_IMPL_H */
