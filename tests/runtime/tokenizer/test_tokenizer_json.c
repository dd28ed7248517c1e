/* test_tokenizer_json.c - what the fields of a tokenizer.json do, and broken files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/tokenizer_impl.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tokenizers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define IDS(...)     ((const int32_t[]){__VA_ARGS__}), COUNT(((const int32_t[]){__VA_ARGS__}))

/* The small tokenizer with `changes` encodes text as ids[n]; special tokens are parsed. */
static void check(const char *changes, const char *text, const int32_t *ids, size_t n)
{
    const struct qr_encode_options options = {.parse_special = true};
    struct qr_tokenizer *tok = tiny_tokenizer(changes);

    assert_encodes(tok, text, strlen(text), &options, ids, n);
    qr_tokenizer_close(tok);
}

static void test_merges(void **state)
{
    (void)state;
    check("{}", "hello world", IDS(TINY_HELLO, TINY_SPACE_W, 'o', 'r', 'l', 'd'));
    check("{}", "hell he h", IDS(TINY_HELL, ' ', TINY_HE, ' ', 'h'));
    /* Pairs at any place, the leftmost first. */
    check("{}", "aaaaa", IDS(TINY_AAAA, 'a'));
    check("{}", "aaaaaaaaaaa", IDS(TINY_8_AS, TINY_AA, 'a'));
    /* Merges as pairs, and in another order: "l" and "o" join first. */
    check("{\"model.merges\":[[\"l\",\"l\"],[\"h\",\"e\"],[\"he\",\"ll\"]]}", "hello",
          IDS(TINY_HELL, 'o'));
    check("{\"model.merges\":[]}", "hello", IDS('h', 'e', 'l', 'l', 'o'));
    check("{}", "", NULL, 0);
}

static void test_whole_pieces_first(void **state)
{
    (void)state;
    /* Without the merges that lead there, only ignore_merges finds the token. */
    check("{\"model.merges\":[]}", "hello hello",
          IDS('h', 'e', 'l', 'l', 'o', ' ', 'h', 'e', 'l', 'l', 'o'));
    check("{\"model.merges\":[],\"model.ignore_merges\":true}", "hello w",
          IDS(TINY_HELLO, TINY_SPACE_W));
}

static void test_any_bytes(void **state)
{
    (void)state;
    check("{}", "\xff\xfehe\x80", IDS(0xff, 0xfe, TINY_HE, 0x80));
    check("{}", "\xe6\xbc\xa2\xe6\xbc", IDS(0xe6, 0xbc, 0xa2, 0xe6, 0xbc));
    check("{\"normalizer\":{\"type\":\"NFC\"}}", "e\xcc\x81\xff", IDS(0xc3, 0xa9, 0xff));
}

static void test_unknown_bytes(void **state)
{
    static const char no_z[] = "{\"model.vocab\":{\"a\":0,\"b\":1,\"?\":2},\"model.merges\":[],"
                               "\"added_tokens\":[]}";
    static const char with_unknown[] =
        "{\"model.vocab\":{\"a\":0,\"b\":1,\"?\":2},\"model.merges\":[],\"added_tokens\":[],"
        "\"model.unk_token\":\"?\"}";
    static const char fused[] =
        "{\"model.vocab\":{\"a\":0,\"b\":1,\"?\":2},\"model.merges\":[],\"added_tokens\":[],"
        "\"model.unk_token\":\"?\",\"model.fuse_unk\":true}";
    static const char with_empty[] =
        "{\"model.vocab\":{\"a\":0,\"b\":1,\"?\":2,\"\":3},\"model.merges\":[],"
        "\"added_tokens\":[],\"model.unk_token\":\"?\"}";
    static const char chars_with_empty[] =
        "{\"model.vocab\":{\"a\":0,\"b\":1,\"?\":2,\"\":3},\"model.merges\":[],"
        "\"added_tokens\":[],\"model.unk_token\":\"?\",\"pre_tokenizer\":null}";
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_error err = {0};

    (void)state;
    check(with_unknown, "azzb", IDS(0, 2, 2, 1));
    check(fused, "azzb", IDS(0, 2, 1));
    check(with_empty, "azb", IDS(0, 2, 1));
    check(chars_with_empty, "azb", IDS(0, 2, 1));
    struct qr_tokenizer *tok = tiny_tokenizer(no_z);
    assert_int_equal(qr_token_ids_append(&ids, 7), QR_OK);
    assert_int_equal(qr_tokenizer_encode(tok, "abz", 3, &options, &ids, &err), QR_ERR_INVALID);
    assert_int_equal(ids.count, 1); /* nothing of the text is left in the list */
    assert_non_null(strstr(err.message, "byte 0x7a"));
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
}

static void test_pre_tokenizers(void **state)
{
    (void)state;
    check("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}", "w",
          IDS(TINY_SPACE_W));
    check("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}", " w",
          IDS(TINY_SPACE_W));
    check("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false,"
          "\"add_prefix_space\":false}}",
          "a w", IDS('a', TINY_SPACE_W));
    /* Each digit by itself, or all together; then each pair of "aa" is cut off. */
    check("{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a{3}\"},\"behavior\":\"Isolated\"},"
          "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}",
          "aaaaaaah", IDS(TINY_AA, 'a', TINY_AA, 'a', 'a', 'h'));
    check("{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Split\",\"pattern\":{\"String\":\"-.\"},\"behavior\":\"Removed\"},"
          "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}}",
          "a-.a-xa", IDS('a', 'a', '-', 'x', 'a'));
    check("{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-z]+\"},\"behavior\":\"Removed\","
          "\"invert\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}}",
          "1he22aa3", IDS(TINY_HE, TINY_AA));
    check("{\"model.vocab\":{\"1\":0,\"11\":1,\"a\":2},\"model.merges\":[\"1 1\"],"
          "\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Digits\",\"individual_digits\":true},"
          "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}}",
          "a11", IDS(2, 0, 0));
    check("{\"model.vocab\":{\"1\":0,\"11\":1,\"a\":2},\"model.merges\":[\"1 1\"],"
          "\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Digits\",\"individual_digits\":false},"
          "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}}",
          "a11", IDS(2, 1));
}

/* U+180E is white space for PCRE2, not for Unicode: no word begins after it. */
static void test_white_space(void **state)
{
    static const char split[] =
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Removed\"},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}";
    char changes[512];

    (void)state;
    snprintf(changes, sizeof(changes), split, "\\\\s+");
    check(changes, "a \xc2\x85\xe2\x80\xa8\xe3\x80\x80 a", IDS('a', 'a'));
    check(changes, "a\xe1\xa0\x8e", IDS('a', 0xe1, 0xa0, 0x8e));
    snprintf(changes, sizeof(changes), split, "[x\\\\s]+");
    check(changes, "ax x\xe2\x80\x83x\xe1\xa0\x8e", IDS('a', 0xe1, 0xa0, 0x8e));
    snprintf(changes, sizeof(changes), split, "\\\\S+");
    check(changes, "a\xe1\xa0\x8e a", IDS(' '));
}

static void test_added_tokens(void **state)
{
    const struct qr_encode_options plain = {0};
    struct qr_tokenizer *tok = tiny_tokenizer("{}");

    (void)state;
    check("{}", "<bos>hello<tool></s>", IDS(TINY_BOS, TINY_HELLO, TINY_TOOL, TINY_EOS));
    check("{}", "a <bos> a", IDS('a', ' ', TINY_BOS, ' ', 'a'));
    /* Unless they are asked for, special tokens are text; other added ones never are. */
    assert_encodes(tok, "<bos><tool>", 11, &plain, IDS('<', 'b', 'o', 's', '>', TINY_TOOL));
    qr_tokenizer_close(tok);

    check("{\"added_tokens\":[{\"id\":300,\"content\":\"<x>\",\"lstrip\":true,\"special\":true},"
          "{\"id\":301,\"content\":\"<y>\",\"rstrip\":true,\"special\":true}]}",
          "a \xc2\xa0<x> <y>\n\ta", IDS('a', 300, ' ', 301, 'a'));
    /* The longest of those that begin at one place; after it the search goes on. */
    check("{\"added_tokens\":[{\"id\":300,\"content\":\"ab\"},{\"id\":301,\"content\":\"abab\"},"
          "{\"id\":302,\"content\":\"ba\"}]}",
          "ababab", IDS(301, 300));
    /* Before normalisation, or after it: e and an accent, and the letter that they become. */
    check("{\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":["
          "{\"id\":300,\"content\":\"e\\u0301\",\"normalized\":false},"
          "{\"id\":301,\"content\":\"o\\u0301\",\"normalized\":true}]}",
          "e\xcc\x81\xc3\xa9o\xcc\x81\xc3\xb3", IDS(300, 0xc3, 0xa9, 301, 301));
}

static enum qr_status apply_config(struct qr_tokenizer *tok, const char *json)
{
    json_t *config = json_loads(json, JSON_DECODE_INT_AS_REAL, NULL);

    assert_non_null(config);
    enum qr_status status = qr_tokenizer_apply_config(tok, "c", config, NULL);
    json_decref(config);
    return status;
}

static void test_bos(void **state)
{
    static const char template[] =
        "{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<bos>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<bos>\":{\"ids\":[264]}}}]}}";
    static const char no_bos[] = "{\"add_bos_token\":false,\"model_max_length\":1" /* 10^30 */
                                 "000000000000000000000000000000}";
    static const char names[] = "{\"add_bos_token\":true,\"bos_token\":{\"content\":\"</s>\"},"
                                "\"eos_token\":\"<bos>\",\"unk_token\":null}";
    const struct qr_encode_options options = {.add_bos = true};
    struct qr_tokenizer *tok = tiny_tokenizer("{}");

    (void)state;
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    assert_int_equal(qr_tokenizer_eos_id(tok), TINY_EOS);
    assert_encodes(tok, "a", 1, &options, IDS('a'));
    assert_int_equal(apply_config(tok, names), QR_OK);
    assert_int_equal(qr_tokenizer_bos_id(tok), TINY_EOS);
    assert_int_equal(qr_tokenizer_eos_id(tok), TINY_BOS);
    qr_tokenizer_close(tok);

    tok = tiny_tokenizer(template);
    assert_int_equal(qr_tokenizer_bos_id(tok), TINY_BOS);
    assert_encodes(tok, "a", 1, &options, IDS(TINY_BOS, 'a'));
    assert_encodes(tok, "", 0, &options, IDS(TINY_BOS));
    assert_int_equal(apply_config(tok, no_bos), QR_OK);
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    qr_tokenizer_close(tok);
}

/* A megabyte of one letter, which is one piece: a method that is quadratic takes hours. */
static void test_long_piece(void **state)
{
    enum { N = 1 << 20 };
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok = tiny_tokenizer("{\"normalizer\":{\"type\":\"NFC\"}}");
    char *text = malloc(N);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', N);
    assert_int_equal(qr_tokenizer_encode(tok, text, N, &options, &ids, NULL), QR_OK);
    assert_int_equal(ids.count, N / 8);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], TINY_8_AS);
    /* Marks above and below in turn, which normalisation has to sort. */
    for (int i = 0; i < N; i += 4)
        memcpy(text + i, "\xcc\x81\xcc\xa3", 4);
    ids.count = 0;
    assert_int_equal(qr_tokenizer_encode(tok, text, N, &options, &ids, NULL), QR_OK);
    assert_int_equal(ids.count, N);
    assert_int_equal(ids.ids[1], 0xa3);
    assert_int_equal(ids.ids[N - 1], 0x81);
    qr_token_ids_free(&ids);
    free(text);
    qr_tokenizer_close(tok);
}

/* One change each that makes the small tokenizer unreadable. */
static const struct {
    const char *changes;
    enum qr_status status;
    const char *message; /* a part of it */
} broken[] = {
    {"{\"model\":null}", QR_ERR_INVALID, "t.json: model: is missing"},
    {"{\"model\":[]}", QR_ERR_INVALID, "model: must be an object"},
    {"{\"model.type\":\"WordPiece\"}", QR_ERR_UNSUPPORTED,
     "model.type: \"WordPiece\" is not supported"},
    {"{\"model.vocab\":null}", QR_ERR_INVALID, "model.vocab: is missing"},
    {"{\"model.vocab\":{}}", QR_ERR_INVALID, "model.vocab: is empty"},
    {"{\"model.vocab\":{\"a\":\"b\"}}", QR_ERR_INVALID, "the id of \"a\" must be a whole"},
    {"{\"model.vocab\":{\"a\":-1}}", QR_ERR_INVALID, "the id of \"a\" must be a whole"},
    {"{\"model.vocab\":{\"a\":2000000000}}", QR_ERR_INVALID, "the id of \"a\" must be a whole"},
    {"{\"model.vocab\":{\"a\":1,\"b\":1}}", QR_ERR_INVALID, "id 1 of \"b\" is another token's"},
    {"{\"model.merges\":null}", QR_ERR_INVALID, "model.merges: is missing"},
    {"{\"model.merges\":{}}", QR_ERR_INVALID, "model.merges: must be an array"},
    {"{\"model.merges\":[\"he\"]}", QR_ERR_INVALID, "merge 0 must be \"left right\""},
    {"{\"model.merges\":[\"h e l\"]}", QR_ERR_INVALID, "merge 0 must be \"left right\""},
    {"{\"model.merges\":[[\"h\",1]]}", QR_ERR_INVALID, "merge 0 must be \"left right\""},
    {"{\"model.merges\":[\"h e\",\"nope e\"]}", QR_ERR_INVALID, "merge 1 needs the token \"nope\""},
    {"{\"model.merges\":[\"h nope\"]}", QR_ERR_INVALID, "merge 0 needs the token \"nope\""},
    {"{\"model.merges\":[\"h h\"]}", QR_ERR_INVALID, "merge 0 needs the token \"hh\""},
    {"{\"model.byte_fallback\":1}", QR_ERR_INVALID, "must be true or false"},
    {"{\"model.dropout\":0.1}", QR_ERR_UNSUPPORTED, "model.dropout"},
    {"{\"model.unk_token\":\"nope\"}", QR_ERR_INVALID, "model.unk_token: \"nope\""},
    {"{\"model.end_of_word_suffix\":\"</w>\"}", QR_ERR_UNSUPPORTED,
     "model.end_of_word_suffix: \"</w>\""},
    {"{\"normalizer\":{\"type\":\"BertNormalizer\"}}", QR_ERR_UNSUPPORTED,
     "normalizer.type: \"BertNormalizer\""},
    {"{\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}}", QR_ERR_INVALID,
     "normalizer.pattern: must be"},
    {"{\"normalizer\":{\"type\":\"Prepend\"}}", QR_ERR_INVALID, "normalizer.prepend: is missing"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}}", QR_ERR_INVALID,
     "normalizer.precompiled_charsmap: is damaged"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"////////\"}}",
     QR_ERR_INVALID, "normalizer.precompiled_charsmap: is damaged"},
    {"{\"normalizer\":7}", QR_ERR_INVALID, "normalizer: must be an object"},
    {"{\"decoder\":{\"type\":\"CTC\"}}", QR_ERR_UNSUPPORTED, "decoder.type: \"CTC\""},
    {"{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
     "{\"type\":\"Metaspace\"}]}}",
     QR_ERR_UNSUPPORTED, "decoder.decoders: Metaspace after ByteFallback"},
    {"{\"decoder\":{\"type\":\"Strip\",\"content\":\"ab\"}}", QR_ERR_INVALID,
     "decoder.content: must be one character"},
    {"{\"decoder\":{\"type\":\"Strip\",\"content\":\"a\",\"start\":-1}}", QR_ERR_INVALID,
     "decoder.start: must be a whole number"},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", QR_ERR_UNSUPPORTED,
     "pre_tokenizer.type: \"UnicodeScripts\""},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\"}}", QR_ERR_INVALID,
     "pre_tokenizer.replacement: must be one character"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Glued\"}}", QR_ERR_INVALID,
     "pre_tokenizer.behavior: \"Glued\""},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"(a\"}}}",
     QR_ERR_INVALID, "pre_tokenizer.pattern: the pattern \"(a\" is not understood"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"\\\\C\"}}}",
     QR_ERR_INVALID, "pre_tokenizer.pattern: the pattern \"\\C\" is not understood"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{}}}",
     QR_ERR_INVALID, "pre_tokenizer.pattern: must be"},
    {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
     "{\"type\":\"Metaspace\"}]}}",
     QR_ERR_UNSUPPORTED, "Metaspace after ByteLevel"},
    {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
     "{\"type\":\"ByteLevel\"}]}}",
     QR_ERR_UNSUPPORTED, "a second ByteLevel"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"[a-z&&[^b]]\"}}}",
     QR_ERR_UNSUPPORTED, "pre_tokenizer.pattern: \"[a-z&&[^b]]\""},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"[a-z[^b]]\"}}}",
     QR_ERR_UNSUPPORTED, "pre_tokenizer.pattern: \"[a-z[^b]]\""},
    {"{\"post_processor\":{\"type\":\"Bert\"}}", QR_ERR_UNSUPPORTED,
     "post_processor.type: \"Bert\""},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
     "{\"id\":\"<no>\"}}]}}",
     QR_ERR_INVALID, "\"<no>\" has no id that is in the vocabulary"},
    {"{\"added_tokens\":[{\"content\":\"x\"}]}", QR_ERR_INVALID, "added_tokens.id: must be"},
    {"{\"added_tokens\":[{\"id\":300}]}", QR_ERR_INVALID,
     "added_tokens.content: token 300 has none"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]},\"pre_tokenizer\":null}", QR_ERR_INVALID,
     "model.vocab: must be an array of 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]]},\"pre_tokenizer\":null}",
     QR_ERR_INVALID, "item 0 must be [\"piece\", score]"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]],\"unk_id\":1},"
     "\"pre_tokenizer\":null}",
     QR_ERR_INVALID, "model.unk_id: must be a whole number in [0, 1)"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}", QR_ERR_UNSUPPORTED,
     "ByteLevel before a Unigram"},
    {"{\"added_tokens\":[{\"id\":300,\"content\":\"x\",\"special\":\"yes\"}]}", QR_ERR_INVALID,
     "added_tokens.special: must be true or false"},
};

/*
 * The two orders of "w" and "ww" add up to the same but for the last bit, which the reference
 * implementation's reading of the numbers decides.
 */
static void test_unigram_scores(void **state)
{
    static const char changes[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0.0],"
        "[\"d\",-4.650476177947102],[\"g\",-10.053982202353291],[\"w\",-7.356146132817397],"
        "[\"ww\",-7.735702407981625]]},\"pre_tokenizer\":null,\"normalizer\":null,"
        "\"decoder\":null,\"post_processor\":null,\"added_tokens\":[]}";
    const struct qr_encode_options options = {0};
    struct qr_tokenizer *tok = tiny_tokenizer(changes);

    (void)state;
    assert_encodes(tok, "gwww", 4, &options, (const int32_t[]){2, 4, 3}, 3);
    assert_encodes(tok, "dwww", 4, &options, (const int32_t[]){1, 3, 4}, 3);
    qr_tokenizer_close(tok);
}

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        char *json = tiny_tokenizer_json(broken[i].changes);
        struct qr_error err = {0};
        struct qr_tokenizer *tok;
        enum qr_status status = qr_tokenizer_from_json("t.json", json, strlen(json), &tok, &err);
        if (status != broken[i].status || strstr(err.message, broken[i].message) == NULL)
            fail_msg("%s: %s: \"%s\"", broken[i].changes, qr_status_name(status), err.message);
        assert_null(tok);
        free(json);
    }
}

/* Every beginning of a file is an error that says where it stops. */
static void test_truncated(void **state)
{
    char *json = tiny_tokenizer_json("{}");
    struct qr_tokenizer *tok;
    struct qr_error err;

    (void)state;
    for (size_t n = 0; n < strlen(json); n += 1 + n / 16) {
        assert_int_equal(qr_tokenizer_from_json("t.json", json, n, &tok, &err), QR_ERR_INVALID);
        assert_non_null(strstr(err.message, "t.json: is not valid JSON: line "));
    }
    free(json);
    assert_int_equal(qr_tokenizer_from_json("t.json", "[]", 2, &tok, &err), QR_ERR_INVALID);
}

static void test_open(void **state)
{
    char *json = tiny_tokenizer_json("{}");
    struct qr_temp_dir dir;
    struct qr_tokenizer *tok;
    struct qr_error err;
    char path[QR_TEMP_PATH_MAX + 32];

    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir.path);
    assert_int_equal(qr_tokenizer_open(path, &tok, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(qr_tokenizer_open(dir.path, &tok, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "neither tokenizer.json nor tokenizer.model"));
    qr_temp_dir_write(&dir, "tokenizer.json", json, strlen(json));
    qr_temp_dir_write(&dir, "tokenizer_config.json", "{\"eos_token\":\"<bos>\"}", 21);
    assert_int_equal(qr_tokenizer_open(dir.path, &tok, &err), QR_OK);
    assert_int_equal(qr_tokenizer_eos_id(tok), TINY_BOS);
    qr_tokenizer_close(tok);
    assert_int_equal(qr_tokenizer_open(path, &tok, &err), QR_OK);
    assert_int_equal(qr_tokenizer_eos_id(tok), TINY_BOS);
    qr_tokenizer_close(tok);
    qr_temp_dir_write(&dir, "tokenizer_config.json", "{\"add_bos_token\":1}", 19);
    assert_int_equal(qr_tokenizer_open(dir.path, &tok, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "tokenizer_config.json: add_bos_token: must be"));
    assert_null(tok);
    qr_temp_dir_write(&dir, "tokenizer.json", "", 0);
    assert_int_equal(qr_tokenizer_open(dir.path, &tok, &err), QR_ERR_INVALID);
    qr_temp_dir_remove(&dir);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),       cmocka_unit_test(test_whole_pieces_first),
        cmocka_unit_test(test_any_bytes),    cmocka_unit_test(test_unknown_bytes),
        cmocka_unit_test(test_white_space),  cmocka_unit_test(test_pre_tokenizers),
        cmocka_unit_test(test_added_tokens), cmocka_unit_test(test_bos),
        cmocka_unit_test(test_long_piece),   cmocka_unit_test(test_unigram_scores),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
