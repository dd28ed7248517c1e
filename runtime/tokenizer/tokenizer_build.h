/*
 * tokenizer_build.h - tokenizers from vocabularies that lie in memory: what the readers of
 * tokenizer files, and of weight files that carry their tokenizer, have in common.
 *
 * Inputs are borrowed for the call only. Texts are bytes with a length, NULs included.
 * `name` stands for the file in errors. What is built is closed by qr_tokenizer_close.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_BUILD_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/tokenizer.h"

struct qr_token_text {
    const char *text;
    size_t n_bytes;
};

/* The numbers are those of SentencePiece models, which GGUF files use as well. */
enum qr_piece_type {
    QR_PIECE_NORMAL = 1,
    QR_PIECE_UNKNOWN = 2,
    QR_PIECE_CONTROL = 3,      /* marks structure; in text only where specials are parsed */
    QR_PIECE_USER_DEFINED = 4, /* taken whole wherever its text stands */
    QR_PIECE_UNUSED = 5,       /* text is never encoded as this one */
    QR_PIECE_BYTE = 6,         /* written <0x0A> */
};

/* A SentencePiece model (Kudo and Richardson, 2018). */
struct qr_sentencepiece_spec {
    const struct qr_token_text *pieces; /* [n_pieces]; spaces are U+2581; the index is the id */
    const float *scores;                /* [n_pieces] */
    const int32_t *types;               /* [n_pieces], enum qr_piece_type */
    size_t n_pieces;
    bool is_unigram; /* else BPE, where pairs join by the score of what they become */
    bool byte_fallback;
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    bool escape_whitespaces;
    bool treat_whitespace_as_suffix;
    const void *charsmap; /* [charsmap_bytes] "precompiled_charsmap"; NULL: identity */
    size_t charsmap_bytes;
    struct qr_token_text unknown_surface; /* what an unknown piece decodes to; NULL: " ⁇ " */
    int32_t bos_id;                       /* put before a text; -1: none is */
    int32_t eos_id;                       /* ends what is generated; -1: none */
    bool add_eos;                         /* the EOS is put after a text as well */
};

/* A byte-level BPE (Radford et al., 2019). */
struct qr_byte_level_spec {
    const struct qr_token_text *tokens; /* [n_tokens]; the index is the id */
    const int32_t *types;               /* [n_tokens]; NULL: all are normal */
    size_t n_tokens;
    const struct qr_token_text *merges; /* [n_merges] "left right", in order of rank */
    size_t n_merges;
    /*
     * Name of the pre-tokenizer's pattern, as GGUF files give it: "gpt-2", "llama-bpe",
     * "qwen2", ...; see patterns.h. NULL is "default".
     */
    const char *pattern;
    int32_t bos_id; /* as above */
    int32_t eos_id;
    bool add_eos;
};

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_tokenizer_build_sentencepiece(
    const char *name, const struct qr_sentencepiece_spec *spec, struct qr_tokenizer **out,
    struct qr_error *err);
/*
 * Tokens of type normal, byte and unused are written in the byte alphabet (byte_alphabet.h);
 * control, unknown and user-defined ones as plain text. A merge whose tokens are not all in the
 * vocabulary is an error, and so is an unknown pattern (QR_ERR_UNSUPPORTED, the known ones
 * are listed).
 */
QR_MUST_CHECK enum qr_status qr_tokenizer_build_byte_level(const char *name,
                                                           const struct qr_byte_level_spec *spec,
                                                           struct qr_tokenizer **out,
                                                           struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_BUILD_H */
