/*
 * tokenizer.h - text to token ids and back, exactly as the reference implementations.
 *
 * Reads Hugging Face tokenizer.json (BPE and Unigram), SentencePiece .model files (BPE and
 * Unigram), tiktoken's rank files, and vocabularies with merges as GPT-2 has them;
 * docs/tokenizers.md says what of each. A tokenizer is immutable after open: any number of
 * threads may use it at one time.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/status.h"

struct qr_tokenizer;

/* Zero-initialise; release with qr_token_ids_free. */
struct qr_token_ids {
    int32_t *ids; /* [count] */
    size_t count;
    size_t capacity;
    enum qr_arena arena;
};

struct qr_encode_options {
    bool add_bos;       /* put around the text what the tokenizer puts: a BOS, seldom an EOS */
    bool parse_special; /* recognise the text of special tokens; else it is plain text */
};

QR_BEGIN_DECLS

/*
 * `path` is a tokenizer file or a model directory that holds tokenizer.json, tokenizer.model
 * (SentencePiece's or tiktoken's), vocab.json with merges.txt, encoder.json with vocab.bpe, or a
 * .tiktoken file (in that order; the others also where tokenizer.json asks for what is not
 * supported). A tokenizer_config.json beside it says which tokens are BOS and EOS and whether
 * they are added; without it, or where it is silent, the tokenizer file does. "truncation" and
 * "padding" of a tokenizer.json are left aside. Errors name the file, the field and the value.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_open(const char *path, struct qr_tokenizer **out,
                                               struct qr_error *err);
/*
 * Bytes as ids 0 to 255, without special tokens: for models that have no vocabulary of their
 * own (runtime/weights/synthetic.h). Ids beyond have no text.
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_open_bytes(struct qr_tokenizer **out,
                                                     struct qr_error *err);
void qr_tokenizer_close(struct qr_tokenizer *tok); /* accepts NULL */

/*
 * Appends the ids of `text` (any bytes; what is not UTF-8 is encoded byte by byte
 * where the tokenizer can, else as its unknown token).
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_encode(const struct qr_tokenizer *tok, const char *text,
                                                 size_t n_bytes,
                                                 const struct qr_encode_options *options,
                                                 struct qr_token_ids *ids, struct qr_error *err);
/*
 * Appends the text of ids[count]. An id out of range is QR_ERR_INVALID and appends nothing.
 * Bytes that are no UTF-8 stay bytes. With skip_special special tokens have no text, but for
 * SentencePiece's unknown piece, which stands for " ⁇ ".
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_decode(const struct qr_tokenizer *tok, const int32_t *ids,
                                                 size_t count, bool skip_special,
                                                 struct qr_buffer *text, struct qr_error *err);

int32_t qr_tokenizer_vocab_size(const struct qr_tokenizer *tok); /* highest id + 1 */
int32_t qr_tokenizer_bos_id(const struct qr_tokenizer *tok);     /* -1: none */
int32_t qr_tokenizer_eos_id(const struct qr_tokenizer *tok);     /* -1: none */
bool qr_tokenizer_is_special(const struct qr_tokenizer *tok, int32_t id);
/* "byte-level-bpe", "bpe", "unigram", "sentencepiece-bpe" or "sentencepiece-unigram". */
const char *qr_tokenizer_kind(const struct qr_tokenizer *tok);
/* Most bytes that one call of qr_detokenizer_push or qr_detokenizer_flush can write. */
size_t qr_tokenizer_max_push_bytes(const struct qr_tokenizer *tok);

QR_MUST_CHECK enum qr_status qr_token_ids_append(struct qr_token_ids *ids, int32_t id);
void qr_token_ids_free(struct qr_token_ids *ids);

/*
 * Streaming detokenisation: the bytes of one sequence of generated ids, as they
 * come. What has been written is always whole, valid UTF-8: an unfinished character
 * waits for its other tokens, bytes that can never become one turn into U+FFFD. The
 * concatenation equals decoding all ids at once (with such bytes replaced).
 * Fixed size, allocates nothing. The tokenizer is borrowed.
 */
struct qr_detokenizer {
    const struct qr_tokenizer *tok;
    bool skip_special;
    bool at_start;     /* no text yet: a dummy prefix space is still to be dropped */
    uint8_t n_pending; /* bytes of an unfinished character */
    char pending[4];
    uint32_t n_to_strip; /* characters that the text must not begin with */
};

/* `continues_prompt`: the ids follow a prompt, so a leading space is text, not a dummy prefix. */
void qr_detokenizer_init(struct qr_detokenizer *detok, const struct qr_tokenizer *tok,
                         bool skip_special, bool continues_prompt);
/* Writes the text that `id` completes to out[qr_tokenizer_max_push_bytes()]; returns its bytes. */
size_t qr_detokenizer_push(struct qr_detokenizer *detok, int32_t id, char *out);
/* At the end: an unfinished character becomes U+FFFD. */
size_t qr_detokenizer_flush(struct qr_detokenizer *detok, char *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_H */
