/* test_sentencepiece.c - the options of SentencePiece models, and broken files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sentencepiece/sentencepiece_model.pb-c.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "tests/support/tokenizers.h"

typedef Quire__Sentencepiece__ModelProto__SentencePiece piece_proto;

#define PIECE(type)  QUIRE__SENTENCEPIECE__MODEL_PROTO__SENTENCE_PIECE__TYPE__##type
#define MODEL(type)  QUIRE__SENTENCEPIECE__TRAINER_SPEC__MODEL_TYPE__##type
#define SPACE        "\xe2\x96\x81"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define IDS(...)     ((const int32_t[]){__VA_ARGS__}), COUNT(((const int32_t[]){__VA_ARGS__}))

enum { MAX_PIECES = 320 };

enum { UNK, BOS, EOS, SP, A, B, AB, SP_A, AAA, AA, TOOL, BYTES };

/* A model under construction. */
struct draft {
    Quire__Sentencepiece__ModelProto proto;
    Quire__Sentencepiece__TrainerSpec trainer;
    Quire__Sentencepiece__NormalizerSpec normalizer;
    piece_proto pieces[MAX_PIECES];
    piece_proto *list[MAX_PIECES];
    char byte_names[256][8];
};

static void add_piece(struct draft *draft, const char *text, int type, float score)
{
    piece_proto *piece = &draft->pieces[draft->proto.n_pieces];

    quire__sentencepiece__model_proto__sentence_piece__init(piece);
    piece->has_piece = piece->has_type = piece->has_score = 1;
    piece->piece = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
    piece->type = (Quire__Sentencepiece__ModelProto__SentencePiece__Type)type;
    piece->score = score;
    draft->list[draft->proto.n_pieces++] = piece;
}

static void add_bytes(struct draft *draft)
{
    for (int byte = 0; byte < 256; byte++) {
        snprintf(draft->byte_names[byte], sizeof(draft->byte_names[byte]), "<0x%02X>",
                 (unsigned)byte);
        add_piece(draft, draft->byte_names[byte], PIECE(BYTE), 0);
    }
}

/* The ids are those of the enum above. "ab" joins before "aa", "aa" before "aaa". */
static void begin_draft(struct draft *draft)
{
    memset(draft, 0, sizeof(*draft));
    quire__sentencepiece__model_proto__init(&draft->proto);
    quire__sentencepiece__trainer_spec__init(&draft->trainer);
    quire__sentencepiece__normalizer_spec__init(&draft->normalizer);
    draft->proto.trainer_spec = &draft->trainer;
    draft->proto.normalizer_spec = &draft->normalizer;
    draft->proto.pieces = draft->list;
    draft->trainer.has_model_type = draft->trainer.has_byte_fallback = 1;
    draft->trainer.model_type = MODEL(BPE);
    draft->normalizer.has_add_dummy_prefix = draft->normalizer.has_remove_extra_whitespaces = 1;
    draft->normalizer.add_dummy_prefix = 1;
    draft->normalizer.remove_extra_whitespaces = 0;
    add_piece(draft, "<unk>", PIECE(UNKNOWN), 0);
    add_piece(draft, "<s>", PIECE(CONTROL), 0);
    add_piece(draft, "</s>", PIECE(CONTROL), 0);
    add_piece(draft, SPACE, PIECE(NORMAL), -9);
    add_piece(draft, "a", PIECE(NORMAL), -10);
    add_piece(draft, "b", PIECE(NORMAL), -11);
    add_piece(draft, "ab", PIECE(NORMAL), -1);
    add_piece(draft, SPACE "a", PIECE(NORMAL), -3);
    add_piece(draft, "aaa", PIECE(NORMAL), -4);
    add_piece(draft, "aa", PIECE(NORMAL), -2);
    add_piece(draft, "[t]", PIECE(USER_DEFINED), 0);
}

static enum qr_status read_draft(const struct draft *draft, struct qr_tokenizer **tok,
                                 struct qr_error *err)
{
    size_t n_bytes = quire__sentencepiece__model_proto__get_packed_size(&draft->proto);
    uint8_t *bytes = malloc(n_bytes);

    assert_non_null(bytes);
    quire__sentencepiece__model_proto__pack(&draft->proto, bytes);
    enum qr_status status = qr_tokenizer_from_sentencepiece("t.model", bytes, n_bytes, tok, err);
    free(bytes);
    return status;
}

static struct qr_tokenizer *finish_draft(const struct draft *draft)
{
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    if (read_draft(draft, &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    return tok;
}

static void check(const struct qr_tokenizer *tok, const char *text, const int32_t *ids, size_t n)
{
    const struct qr_encode_options options = {.parse_special = true};

    assert_encodes(tok, text, strlen(text), &options, ids, n);
    assert_streams_like_decode(tok, ids, n, true);
    assert_streams_like_decode(tok, ids, n, false);
}

static void assert_text(const struct qr_tokenizer *tok, const int32_t *ids, size_t n,
                        bool skip_special, const char *expected)
{
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_buffer_append(&text, "", 0), QR_OK);
    assert_int_equal(qr_tokenizer_decode(tok, ids, n, skip_special, &text, NULL), QR_OK);
    assert_string_equal(text.data, expected);
    qr_buffer_free(&text);
}

static void test_joins_by_score(void **state)
{
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    struct qr_tokenizer *tok = finish_draft(&draft);
    check(tok, "", NULL, 0);
    check(tok, "a", IDS(SP_A));
    check(tok, "aab", IDS(SP_A, AB));
    check(tok, "baa", IDS(SP, B, AA));
    check(tok, "baaa", IDS(SP, B, AAA));
    check(tok, "baaaaa", IDS(SP, B, AA, AAA));
    check(tok, "b aab", IDS(SP, B, SP_A, AB));
    check(tok, "  a", IDS(SP, SP, SP_A));
    assert_int_equal(qr_tokenizer_bos_id(tok), BOS);
    assert_int_equal(qr_tokenizer_eos_id(tok), EOS);
    assert_int_equal(qr_tokenizer_vocab_size(tok), TOOL + 1);
    qr_tokenizer_close(tok);
}

static void test_special_and_user_defined(void **state)
{
    const struct qr_encode_options plain = {.add_bos = true};
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    struct qr_tokenizer *tok = finish_draft(&draft);
    /* A user-defined piece is whole wherever it stands; nothing joins with it. */
    check(tok, "a[t]ab", IDS(SP_A, TOOL, AB));
    /* The dummy prefix belongs to the beginning of the text, not to what follows a token. */
    check(tok, "<s>ab</s> a", IDS(BOS, AB, EOS, SP_A));
    assert_encodes(tok, "<s>", 3, &plain, IDS(BOS, SP, UNK));
    assert_encodes(tok, "", 0, &plain, IDS(BOS));
    qr_tokenizer_close(tok);
}

static void test_unknown_characters(void **state)
{
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    struct qr_tokenizer *tok = finish_draft(&draft);
    /* One for each run. */
    check(tok, "axyb\xff\xfe", IDS(SP_A, UNK, B, UNK));
    assert_text(tok, IDS(SP_A, UNK, B), true, "a \xe2\x81\x87 b");
    assert_text(tok, IDS(SP_A, UNK, B), false, "a<unk>b");
    qr_tokenizer_close(tok);

    begin_draft(&draft);
    add_bytes(&draft);
    draft.trainer.byte_fallback = 1;
    tok = finish_draft(&draft);
    check(tok, "ax\xc3\xa9", IDS(SP_A, BYTES + 'x', BYTES + 0xc3, BYTES + 0xa9));
    /* What is not UTF-8 is U+FFFD, byte by byte. */
    check(tok, "a\xe2\x81",
          IDS(SP_A, BYTES + 0xef, BYTES + 0xbf, BYTES + 0xbd, BYTES + 0xef, BYTES + 0xbf,
              BYTES + 0xbd));
    assert_text(tok, IDS(SP_A, BYTES + 0xc3, BYTES + 0xa9, BYTES + 0xff), true, "a\xc3\xa9\xff");
    qr_tokenizer_close(tok);
}

static void test_white_space(void **state)
{
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    draft.normalizer.remove_extra_whitespaces = 1;
    struct qr_tokenizer *tok = finish_draft(&draft);
    check(tok, "  a   b  ", IDS(SP_A, SP, B));
    check(tok, "   ", NULL, 0);
    check(tok, "a" SPACE, IDS(SP_A));
    check(tok, "<s>  a  </s>  ", IDS(BOS, SP_A, SP, EOS));
    qr_tokenizer_close(tok);

    begin_draft(&draft);
    draft.normalizer.add_dummy_prefix = 0;
    tok = finish_draft(&draft);
    check(tok, "ab a", IDS(AB, SP_A));
    assert_text(tok, IDS(SP_A, AB), true, " aab");
    qr_tokenizer_close(tok);

    begin_draft(&draft);
    draft.normalizer.has_escape_whitespaces = 1;
    draft.normalizer.escape_whitespaces = 0;
    add_piece(&draft, " ", PIECE(NORMAL), -20);
    tok = finish_draft(&draft);
    check(tok, "b a", IDS(BYTES, B, BYTES, A));
    qr_tokenizer_close(tok);
}

static void test_dummy_prefix_is_dropped(void **state)
{
    struct draft draft;
    struct qr_detokenizer detok;
    char out[64];

    (void)state;
    begin_draft(&draft);
    struct qr_tokenizer *tok = finish_draft(&draft);
    assert_text(tok, IDS(SP_A, SP_A), true, "a a");
    assert_text(tok, IDS(SP, SP_A), true, " a");
    assert_text(tok, IDS(BOS, SP_A), true, "a");
    assert_text(tok, IDS(BOS, SP_A), false, "<s> a");
    assert_text(tok, IDS(AB, SP_A), true, "ab a");
    qr_detokenizer_init(&detok, tok, true, true);
    assert_int_equal(qr_detokenizer_push(&detok, SP_A, out), 2);
    assert_memory_equal(out, " a", 2);
    qr_tokenizer_close(tok);
}

/* A megabyte is one piece here: a method that is quadratic takes hours. */
static void test_long_text(void **state)
{
    enum { N = 1 << 20 };
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct draft draft;
    char *text = malloc(N);

    (void)state;
    assert_non_null(text);
    begin_draft(&draft);
    struct qr_tokenizer *tok = finish_draft(&draft);
    memset(text, 'a', N);
    assert_int_equal(qr_tokenizer_encode(tok, text, N, &options, &ids, NULL), QR_OK);
    /* The space takes no letter, for "aa" joins first: only an odd one could be left. */
    assert_int_equal(ids.count, 1 + N / 2);
    assert_int_equal(ids.ids[0], SP);
    assert_int_equal(ids.ids[N / 2], AA);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
    free(text);
}

static void assert_refused(const struct draft *draft, enum qr_status status, const char *message)
{
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    assert_int_equal(read_draft(draft, &tok, &err), status);
    assert_null(tok);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.message, message);
}

static void test_unsupported(void **state)
{
    static uint8_t charsmap[4] = "abc";
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    draft.trainer.model_type = MODEL(WORD);
    assert_refused(&draft, QR_ERR_UNSUPPORTED, "t.model: trainer_spec.model_type: 3 is not");

    begin_draft(&draft);
    draft.normalizer.has_precompiled_charsmap = 1;
    draft.normalizer.precompiled_charsmap = (ProtobufCBinaryData){3, charsmap};
    assert_refused(&draft, QR_ERR_INVALID, "precompiled_charsmap: it is damaged");

    begin_draft(&draft);
    draft.proto.denormalizer_spec = &draft.normalizer;
    draft.proto.normalizer_spec = NULL;
    draft.normalizer.has_precompiled_charsmap = 1;
    draft.normalizer.precompiled_charsmap = (ProtobufCBinaryData){3, charsmap};
    assert_refused(&draft, QR_ERR_UNSUPPORTED, "denormalizer_spec.precompiled_charsmap");

    begin_draft(&draft);
    add_piece(&draft, "u", 7, 0);
    assert_refused(&draft, QR_ERR_UNSUPPORTED, "pieces[11].type: 7 is not supported");
}

static void test_broken_pieces(void **state)
{
    struct draft draft;

    (void)state;
    begin_draft(&draft);
    draft.proto.n_pieces = 0;
    assert_refused(&draft, QR_ERR_INVALID, "is neither a tokenizer.json nor");
    begin_draft(&draft);
    add_piece(&draft, "ab", PIECE(NORMAL), 0);
    assert_refused(&draft, QR_ERR_INVALID,
                   "pieces[11].piece: \"ab\" is there twice, the first "
                   "time as 6");
    begin_draft(&draft);
    add_piece(&draft, "<unk2>", PIECE(UNKNOWN), 0);
    assert_refused(&draft, QR_ERR_INVALID, "pieces[11].type: a second unknown piece");
    begin_draft(&draft);
    draft.pieces[UNK].type = PIECE(CONTROL);
    assert_refused(&draft, QR_ERR_INVALID, "none is the unknown piece");
    begin_draft(&draft);
    add_piece(&draft, "", PIECE(NORMAL), 0);
    assert_refused(&draft, QR_ERR_INVALID, "pieces[11].piece: it is empty");
    begin_draft(&draft);
    add_piece(&draft, "n", PIECE(NORMAL), NAN);
    assert_refused(&draft, QR_ERR_INVALID, "pieces[11].score: it is not a number");
    begin_draft(&draft);
    add_piece(&draft, "<0xZZ>", PIECE(BYTE), 0);
    assert_refused(&draft, QR_ERR_INVALID, "pieces[11].piece: \"<0xZZ>\" is no byte");
    begin_draft(&draft);
    draft.trainer.byte_fallback = 1;
    assert_refused(&draft, QR_ERR_INVALID, "<0x00> is missing");
}

static void test_garbage(void **state)
{
    static const char *const texts[] = {"garbage", "IQ== 0\nIg== 1\n", "GGUF\x03", "\n\xff\xff"};
    struct qr_tokenizer *tok;
    struct qr_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_int_equal(
            qr_tokenizer_from_sentencepiece("t.model", texts[i], strlen(texts[i]), &tok, &err),
            QR_ERR_INVALID);
        assert_string_equal(err.message,
                            "t.model: is neither a tokenizer.json nor a SentencePiece model");
        assert_null(tok);
    }
    assert_int_equal(qr_tokenizer_from_sentencepiece("t.model", "", 0, &tok, &err), QR_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins_by_score),
        cmocka_unit_test(test_special_and_user_defined),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_white_space),
        cmocka_unit_test(test_dummy_prefix_is_dropped),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_broken_pieces),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
