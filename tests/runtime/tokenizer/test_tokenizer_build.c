/* test_tokenizer_build.c - tokenizers from arrays in memory, and arrays that make none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_build.h"
#include "tests/support/tokenizers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define IDS(...)     ((const int32_t[]){__VA_ARGS__}), COUNT(((const int32_t[]){__VA_ARGS__}))
#define TEXT(string) ((struct qr_token_text){string, sizeof(string) - 1})

enum { N_TOKENS = 262, EOS = 256, TOOL, HE, LL, DIGITS, UNUSED };

/* The 256 bytes, then the tokens of the enum above. */
struct draft {
    struct qr_byte_level_spec spec;
    struct qr_token_text tokens[N_TOKENS];
    int32_t types[N_TOKENS];
    char bytes[256][QR_BYTE_CHAR_MAX];
    struct qr_token_text merges[3];
};

static void begin_draft(struct draft *draft, const char *pattern)
{
    const struct qr_token_text rest[] = {TEXT("<end>"), TEXT("[tool]"), TEXT("he"),
                                         TEXT("ll"),    TEXT("12"),     TEXT("[unused]")};

    memset(draft, 0, sizeof(*draft));
    for (int i = 0; i < N_TOKENS; i++)
        draft->types[i] = QR_PIECE_NORMAL;
    for (int byte = 0; byte < 256; byte++)
        draft->tokens[byte] = (struct qr_token_text){
            draft->bytes[byte], qr_byte_to_char((uint8_t)byte, draft->bytes[byte])};
    memcpy(draft->tokens + 256, rest, sizeof(rest));
    draft->types[EOS] = QR_PIECE_CONTROL;
    draft->types[TOOL] = QR_PIECE_USER_DEFINED;
    draft->types[UNUSED] = QR_PIECE_UNUSED;
    draft->merges[0] = TEXT("h e");
    draft->merges[1] = TEXT("l l");
    draft->merges[2] = TEXT("1 2");
    draft->spec = (struct qr_byte_level_spec){
        .tokens = draft->tokens,
        .types = draft->types,
        .n_tokens = N_TOKENS,
        .merges = draft->merges,
        .n_merges = COUNT(draft->merges),
        .pattern = pattern,
        .bos_id = -1,
        .eos_id = EOS,
    };
}

static void check(const struct qr_tokenizer *tok, const char *text, const int32_t *ids, size_t n)
{
    const struct qr_encode_options options = {.add_bos = true, .parse_special = true};

    assert_encodes(tok, text, strlen(text), &options, ids, n);
    assert_streams_like_decode(tok, ids, n, true);
    assert_streams_like_decode(tok, ids, n, false);
}

static void test_byte_level(void **state)
{
    struct draft draft;
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    (void)state;
    begin_draft(&draft, "gpt-2");
    assert_int_equal(qr_tokenizer_build_byte_level("t.gguf", &draft.spec, &tok, &err), QR_OK);
    assert_string_equal(qr_tokenizer_kind(tok), "byte-level-bpe");
    check(tok, "hello12", IDS(HE, LL, 'o', DIGITS));
    check(tok, "he<end>[tool]l", IDS(HE, EOS, TOOL, 'l'));
    assert_true(qr_tokenizer_is_special(tok, EOS));
    assert_false(qr_tokenizer_is_special(tok, TOOL));
    assert_int_equal(qr_tokenizer_eos_id(tok), EOS);
    assert_int_equal(qr_tokenizer_vocab_size(tok), N_TOKENS);
    qr_tokenizer_close(tok);

    /* Qwen2's pattern takes digits one by one and composes; an EOS may end every text. */
    begin_draft(&draft, "qwen2");
    draft.spec.add_eos = true;
    assert_int_equal(qr_tokenizer_build_byte_level("t.gguf", &draft.spec, &tok, &err), QR_OK);
    check(tok, "12", IDS('1', '2', EOS));
    check(tok, "e\xcc\x81", IDS(0xc3, 0xa9, EOS));
    qr_tokenizer_close(tok);
}

/*
 * Two cuts of "eee" have the same sum but for its rounding, which depends on what was added before:
 * what SentencePiece 0.2.3 makes of these scores.
 */
static void test_unigram_ties(void **state)
{
    enum { UNKNOWN, USER, E, EE, A };
    const struct qr_token_text pieces[] = {TEXT("<unk>"), TEXT("[u]"), TEXT("e"), TEXT("ee"),
                                           TEXT("a")};
    const float scores[] = {0, 0, -4.909578323364258f, -8.668606758117676f, -9.970664978027344f};
    const int32_t types[] = {QR_PIECE_UNKNOWN, QR_PIECE_USER_DEFINED, QR_PIECE_NORMAL,
                             QR_PIECE_NORMAL, QR_PIECE_NORMAL};
    const struct qr_sentencepiece_spec spec = {.pieces = pieces,
                                               .scores = scores,
                                               .types = types,
                                               .n_pieces = COUNT(pieces),
                                               .is_unigram = true,
                                               .bos_id = -1,
                                               .eos_id = -1};
    struct qr_tokenizer *tok;

    (void)state;
    assert_int_equal(qr_tokenizer_build_sentencepiece("t.model", &spec, &tok, NULL), QR_OK);
    check(tok, "eee", IDS(E, EE));
    check(tok, "[u]eee", IDS(USER, E, EE));
    check(tok, "[u][u]eee", IDS(USER, USER, E, EE));
    check(tok, "[u][u][u]eee", IDS(USER, USER, USER, EE, E));
    check(tok, "e[u]eee", IDS(E, USER, E, EE));
    check(tok, "\xc2\x85[u]eee", IDS(UNKNOWN, USER, EE, E));
    qr_tokenizer_close(tok);
}

/* Every pattern that has a name is understood, and cuts a text that has everything. */
static void test_patterns(void **state)
{
    static const char *const names[] = {
        "default", "gpt-2",  "llama-bpe", "cl100k",    "qwen2",  "qwen35",      "stablelm2",
        "o200k",   "gpt-4o", "tekken",    "starcoder", "falcon", "deepseek-v3", "deepseek-coder"};
    const char *text = "I'll go: 1234567 \xe4\xb8\xad\xe6\x96\x87 \xc3\x89t\xc3\xa9\r\n\n  x ";
    const struct qr_encode_options options = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct draft draft;
        struct qr_tokenizer *tok;
        struct qr_error err = {0};
        struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
        begin_draft(&draft, names[i]);
        if (qr_tokenizer_build_byte_level("t.gguf", &draft.spec, &tok, &err) != QR_OK)
            fail_msg("%s: %s", names[i], err.message);
        assert_int_equal(qr_tokenizer_encode(tok, text, strlen(text), &options, &ids, &err), QR_OK);
        assert_true(ids.count > 10);
        assert_streams_like_decode(tok, ids.ids, ids.count, false);
        qr_token_ids_free(&ids);
        qr_tokenizer_close(tok);
    }
}

static void assert_refused(const struct draft *draft, enum qr_status expected, const char *message)
{
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    assert_int_equal(qr_tokenizer_build_byte_level("t.gguf", &draft->spec, &tok, &err), expected);
    assert_null(tok);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.message, message);
}

static void test_byte_level_errors(void **state)
{
    struct draft draft;

    (void)state;
    begin_draft(&draft, "gpt-9");
    assert_refused(&draft, QR_ERR_UNSUPPORTED, "the pre-tokenizer \"gpt-9\" is not known");
    begin_draft(&draft, "gpt-2");
    draft.merges[1] = TEXT("l m");
    assert_refused(&draft, QR_ERR_INVALID, "merge 1 needs the token \"lm\"");
    draft.merges[1] = TEXT("l");
    assert_refused(&draft, QR_ERR_INVALID, "merge 1 must be \"left right\"");
    begin_draft(&draft, "gpt-2");
    draft.spec.eos_id = N_TOKENS;
    assert_refused(&draft, QR_ERR_INVALID, "the id 262 of the EOS is not in the vocabulary");
    begin_draft(&draft, "gpt-2");
    draft.tokens[3].n_bytes = 0;
    assert_refused(&draft, QR_ERR_INVALID, "token 3 is empty");
    draft.spec.n_tokens = 0;
    assert_refused(&draft, QR_ERR_INVALID, "vocab: is empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unigram_ties),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_byte_level_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
