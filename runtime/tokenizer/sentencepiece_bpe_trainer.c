/* sentencepiece_bpe_trainer.c - trains SentencePiece's BPE; see trainer.h. */
#include <utf8proc.h>

#include "base/array.h"
#include "runtime/tokenizer/merge_trainer.h"
#include "runtime/tokenizer/sentencepiece_words.h"
#include "runtime/tokenizer/sentencepiece_writer.h"
#include "runtime/tokenizer/trainer_options.h"

/* What decides whether two tokens may be joined. */
struct token {
    int32_t n_chars;
    int32_t script;
};

struct trainer {
    struct qr_merge_trainer merger;
    struct token *tokens; /* [merger.vocab.count], characters first */
    int32_t tokens_capacity;
    int32_t max_length; /* characters */
};

static enum qr_status add_token(struct trainer *trainer, struct token token, int32_t id)
{
    void *grown = qr_array_grow(QR_ARENA_ENGINE, trainer->tokens, id, &trainer->tokens_capacity,
                                sizeof(*trainer->tokens));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    trainer->tokens = grown;
    trainer->tokens[id] = token;
    return QR_OK;
}

/* A piece is of one script; the space symbol goes with any, but only begins one. */
static bool may_join(const void *arg, int32_t left, int32_t right)
{
    const struct trainer *trainer = arg;

    if (left < 0 || right < 0)
        return false;
    const struct token *a = &trainer->tokens[left];
    const struct token *b = &trainer->tokens[right];
    return a->n_chars + b->n_chars <= trainer->max_length && qr_scripts_join(a->script, b->script);
}

static enum qr_status on_merge(void *arg, int32_t left, int32_t right, int32_t merged)
{
    struct trainer *trainer = arg;
    struct token token = {
        .n_chars = trainer->tokens[left].n_chars + trainer->tokens[right].n_chars,
        .script = trainer->tokens[right].script,
    };

    return add_token(trainer, token, merged);
}

/* Compares what two pairs become, byte by byte. */
static int compare_joined(const struct qr_string_table *vocab, const struct qr_pair_entry *a,
                          const struct qr_pair_entry *b)
{
    size_t left_a = qr_string_table_length(vocab, a->left);
    size_t left_b = qr_string_table_length(vocab, b->left);
    size_t n_a = left_a + qr_string_table_length(vocab, a->right);
    size_t n_b = left_b + qr_string_table_length(vocab, b->right);

    for (size_t i = 0; i < n_a && i < n_b; i++) {
        uint8_t byte_a = (uint8_t)(i < left_a ? qr_string_table_text(vocab, a->left)[i]
                                              : qr_string_table_text(vocab, a->right)[i - left_a]);
        uint8_t byte_b = (uint8_t)(i < left_b ? qr_string_table_text(vocab, b->left)[i]
                                              : qr_string_table_text(vocab, b->right)[i - left_b]);
        if (byte_a != byte_b)
            return byte_a < byte_b ? -1 : 1;
    }
    return n_a == n_b ? 0 : n_a < n_b ? -1 : 1;
}

static bool precedes(const void *arg, const struct qr_pair_entry *a, const struct qr_pair_entry *b)
{
    const struct trainer *trainer = arg;
    int32_t n_a = trainer->tokens[a->left].n_chars + trainer->tokens[a->right].n_chars;
    int32_t n_b = trainer->tokens[b->left].n_chars + trainer->tokens[b->right].n_chars;

    if (n_a != n_b)
        return n_a < n_b;
    int order = compare_joined(&trainer->merger.vocab, a, b);
    return order != 0 ? order < 0 : a->left < b->left;
}

static enum qr_status add_chars(struct trainer *trainer, const struct qr_training_text *text)
{
    for (int32_t i = 0; i < text->n_chars; i++) {
        char utf8[4];
        int32_t id;
        size_t n = (size_t)utf8proc_encode_char(text->chars[i].codepoint, (utf8proc_uint8_t *)utf8);
        QR_TRY(qr_string_table_add(&trainer->merger.vocab, utf8, n, &id));
        QR_TRY(
            add_token(trainer, (struct token){.n_chars = 1, .script = text->chars[i].script}, id));
    }
    return QR_OK;
}

/* Merges come first, in their order, then the characters: the scores fall by one a piece. */
static enum qr_status write(const struct trainer *trainer, int32_t n_chars,
                            const struct qr_trainer_config *config, const char *output_dir,
                            struct qr_error *err)
{
    const struct qr_string_table *vocab = &trainer->merger.vocab;
    struct qr_string_table pieces = {0};
    float *scores = qr_calloc(QR_ARENA_ENGINE, (size_t)vocab->count, sizeof(*scores));
    enum qr_status status = scores == NULL ? QR_ERR_NOMEM : QR_OK;

    for (int32_t i = 0; i < vocab->count && status == QR_OK; i++) {
        int32_t id = i < vocab->count - n_chars ? n_chars + i : i - (vocab->count - n_chars);
        int32_t index;
        status = qr_string_table_add(&pieces, qr_string_table_text(vocab, id),
                                     qr_string_table_length(vocab, id), &index);
        scores[i] = -(float)i;
    }
    if (status == QR_OK)
        status = qr_sentencepiece_write(output_dir, config, false, &pieces, scores, err);
    qr_string_table_free(&pieces);
    qr_free(scores);
    return status;
}

static enum qr_status learn(struct trainer *trainer, struct qr_training_text *text,
                            const struct qr_trainer_config *config, struct qr_error *err)
{
    int32_t n_wanted;

    QR_TRY(qr_trainer_check_chars(config, text->n_chars, &n_wanted, err));
    QR_TRY(add_chars(trainer, text));
    trainer->merger.words = text->words;
    trainer->merger.n_words = text->n_words;
    trainer->merger.symbols = text->symbols;
    text->words = NULL;
    text->symbols = NULL;
    return qr_merge_trainer_run(&trainer->merger, n_wanted, config);
}

enum qr_status qr_train_sentencepiece_bpe(const struct qr_trainer_config *config,
                                          const char *const *files, int32_t n_files,
                                          const char *output_dir, struct qr_error *err)
{
    struct qr_training_text text = {0};
    struct trainer trainer = {
        .merger =
            {.rules = {.min_count = 1, .may_join = may_join, .on_merge = on_merge, .arg = &trainer},
             .queue = {.precedes = precedes, .order_arg = &trainer}},
        .max_length = config->max_piece_length,
    };
    enum qr_status status = qr_trainer_check_pieces(config, err);

    if (status == QR_OK)
        status = qr_training_text_read(&text, config, files, n_files, err);
    if (status == QR_OK)
        status = learn(&trainer, &text, config, err);
    if (status == QR_OK)
        status = write(&trainer, text.n_chars, config, output_dir, err);
    if (status == QR_ERR_NOMEM)
        status = qr_fail(err, QR_ERR_NOMEM, "out of memory while training");
    qr_training_text_free(&text);
    qr_merge_trainer_free(&trainer.merger);
    qr_free(trainer.tokens);
    return status;
}
