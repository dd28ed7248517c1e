/*
 * vocabulary_files.h - readers of byte-level vocabularies that come as bare lists, without what
 * a tokenizer.json says beside them: tiktoken's rank files, and GPT-2's vocabulary and merges.
 *
 * The pattern and the special tokens are those of the family of models that the files belong
 * to; a tokenizer_config.json, where there is one, names the family and lists the tokens.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_VOCABULARY_FILES_H
#define QUIRE_RUNTIME_TOKENIZER_VOCABULARY_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "runtime/tokenizer/tokenizer_impl.h"

/* A file that lies in memory. */
struct qr_file_text {
    const char *name;
    const char *text;
    size_t n_bytes;
};

QR_BEGIN_DECLS

/* Whether the bytes begin as a tiktoken file does: base64, a space, a number. */
bool qr_looks_like_tiktoken(const void *data, size_t n_bytes);
/*
 * Lines "BASE64 RANK"; ranks are ids, and any two neighbours join that make a token. `config`
 * is a tokenizer_config.json as JSON; NULL: none.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_from_tiktoken(const struct qr_file_text *file,
                                                        const json_t *config,
                                                        struct qr_tokenizer **out,
                                                        struct qr_error *err);
/*
 * An object of tokens and their ids (vocab.json, encoder.json), and lines "left right"
 * (merges.txt, vocab.bpe), of which a first one "#version" is left aside.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_from_vocab_and_merges(const struct qr_file_text *vocab,
                                                                const struct qr_file_text *merges,
                                                                const json_t *config,
                                                                struct qr_tokenizer **out,
                                                                struct qr_error *err);
/* The next line of text[n_bytes] from *at on, without its end; false when there is none. */
bool qr_next_line(const char *text, size_t n_bytes, size_t *at, const char **line, size_t *length);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_VOCABULARY_FILES_H */
