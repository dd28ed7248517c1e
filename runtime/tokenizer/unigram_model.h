/* unigram_model.h - the unigram model behind a pre-tokenizer, as tokenizer.json has it. */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNIGRAM_MODEL_H
#define QUIRE_RUNTIME_TOKENIZER_UNIGRAM_MODEL_H

#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/unigram.h"

struct qr_unigram_model {
    struct qr_pre_tokenizer pre_tokenizer;
    struct qr_unigram unigram;
};

extern const struct qr_model_ops qr_unigram_ops;

QR_BEGIN_DECLS

/* NULL when memory is exhausted. */
QR_MUST_CHECK struct qr_unigram_model *qr_unigram_model_alloc(void);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNIGRAM_MODEL_H */
