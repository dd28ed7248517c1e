/*
 * tokenizers.h - tokenizers to test with: a small one made up here, real ones put
 * together from test data, and what must hold of every encoding.
 */
#ifndef QUIRE_TESTS_SUPPORT_TOKENIZERS_H
#define QUIRE_TESTS_SUPPORT_TOKENIZERS_H

#include <jansson.h>

#include "runtime/tokenizer/tokenizer.h"

/* Ids of the small tokenizer; ids below 256 are the bytes. */
enum {
    TINY_HE = 256,
    TINY_LL,
    TINY_HELL,
    TINY_HELLO,
    TINY_SPACE_W,
    TINY_AA,
    TINY_AAAA,
    TINY_8_AS,
    TINY_BOS,  /* "<bos>", special */
    TINY_EOS,  /* "</s>", special */
    TINY_TOOL, /* "<tool>", added but not special */
    TINY_VOCAB_SIZE,
};

/*
 * The small tokenizer.json with `changes`, a JSON object: "a" or "a.b" (one level) to the
 * value that replaces it, null removes. The caller frees it.
 */
char *tiny_tokenizer_json(const char *changes);
/* The tokenizer itself; fails the test when it cannot be read. */
struct qr_tokenizer *tiny_tokenizer(const char *changes);

/* Fails the test unless text[n_bytes] is encoded as expected[n]. */
void assert_encodes(const struct qr_tokenizer *tok, const char *text, size_t n_bytes,
                    const struct qr_encode_options *options, const int32_t *expected, size_t n);
/* Fails the test unless ids[n], decoded at once and as a stream, give the same text. */
void assert_streams_like_decode(const struct qr_tokenizer *tok, const int32_t *ids, size_t n,
                                bool skip_special);
/* The array as ids; the caller frees them with qr_token_ids_free. */
struct qr_token_ids ids_from_json(const json_t *array);

/* A real tokenizer; NULL (and "skipped: ...") without test data. */
struct qr_tokenizer *open_testdata_tokenizer(const char *relative);

#endif /* QUIRE_TESTS_SUPPORT_TOKENIZERS_H */
