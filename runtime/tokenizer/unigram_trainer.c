/*
 * unigram_trainer.c - trains the unigram model (Kudo, 2018); see trainer.h.
 *
 * From far too many pieces: expectation maximisation finds their probabilities, those whose
 * loss would cost the text's likelihood the least go, and so on until few enough are left.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "runtime/tokenizer/sentencepiece_words.h"
#include "runtime/tokenizer/sentencepiece_writer.h"
#include "runtime/tokenizer/trainer_options.h"
#include "runtime/tokenizer/training_seeds.h"
#include "runtime/tokenizer/unigram_em.h"

enum {
    MAX_SEEDS = 1000000,
    ITERATIONS = 2, /* of expectation maximisation between two prunings */
};

static const double last_share = 1.1;      /* of the vocabulary: left to the final choice */
static const double penalty_step = 0.0001; /* between characters that lost their pieces */

struct trainer {
    const struct qr_trainer_config *config;
    struct qr_training_text chars; /* its words and symbols have gone into em.text */
    struct qr_unigram_em em;
    int32_t n_seeds;
};

/* Words are cut at unknown characters; -1 ends each. */
static enum qr_status take_words(struct trainer *trainer)
{
    const struct qr_training_text *chars = &trainer->chars;
    struct qr_unigram_text *text = &trainer->em.text;
    size_t n_symbols = 0;

    for (int32_t i = 0; i < chars->n_words; i++)
        n_symbols += (size_t)chars->words[i].length + 1;
    text->symbols = qr_calloc(QR_ARENA_ENGINE, n_symbols, sizeof(*text->symbols));
    text->words = qr_calloc(QR_ARENA_ENGINE, n_symbols, sizeof(*text->words));
    if (text->symbols == NULL || text->words == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < chars->n_words; i++) {
        const struct qr_training_word *word = &chars->words[i];
        size_t begin = text->n_symbols;
        for (int32_t k = 0; k <= word->length; k++) {
            int32_t symbol = k < word->length ? chars->symbols[word->begin + (size_t)k] : -1;
            if (symbol < 0 && text->n_symbols == begin)
                continue;
            text->symbols[text->n_symbols++] = symbol;
            if (symbol >= 0)
                continue;
            text->words[text->n_words++] = (struct qr_training_word){
                begin, (int32_t)(text->n_symbols - 1 - begin), word->count};
            trainer->em.total += word->count;
            begin = text->n_symbols;
        }
    }
    return QR_OK;
}

/* Progress is a matter of logarithms: each pruning leaves the same share. */
static void report(const struct trainer *trainer, int32_t goal)
{
    const struct qr_trainer_config *config = trainer->config;
    double whole = log((double)trainer->n_seeds / goal);
    double left = log((double)trainer->em.pieces.count / goal);
    int64_t done =
        trainer->em.pieces.count <= goal || whole <= 0 ? 100 : (int64_t)(99 * (1 - left / whole));

    if (config->progress != NULL)
        config->progress(config->progress_arg, "pruning", done, 100);
}

static enum qr_status shrink(struct trainer *trainer, int32_t n_wanted)
{
    int32_t goal = (int32_t)(last_share * n_wanted);

    trainer->n_seeds = trainer->em.pieces.count;
    QR_TRY(qr_training_pieces_index(&trainer->em.pieces, trainer->em.text.symbols));
    for (;;) {
        for (int i = 0; i < ITERATIONS; i++)
            QR_TRY(qr_unigram_maximise(&trainer->em));
        report(trainer, goal);
        if (trainer->em.pieces.count <= goal)
            return QR_OK;
        QR_TRY(qr_unigram_prune(&trainer->em, goal));
    }
}

/* All characters, with a low score for those that lost their piece, then the likeliest. */
static enum qr_status choose(const struct trainer *trainer, int32_t n_wanted,
                             struct qr_ranked *chosen, int32_t *n_chosen)
{
    const struct qr_training_pieces *pieces = &trainer->em.pieces;
    int32_t n_chars = trainer->chars.n_chars;
    struct qr_ranked *longer = qr_calloc(QR_ARENA_ENGINE, (size_t)pieces->count, sizeof(*longer));
    int32_t n_longer = 0;
    int32_t n_lost = 0;

    if (longer == NULL)
        return QR_ERR_NOMEM;
    /* Characters are told from pieces by their index, which is negative: -1 is the first. */
    for (int32_t i = 0; i < n_chars; i++)
        chosen[i] = (struct qr_ranked){NAN, -1 - i};
    for (int32_t i = 0; i < pieces->count; i++) {
        if (pieces->items[i].length == 1)
            chosen[trainer->em.text.symbols[pieces->items[i].begin]].value = pieces->items[i].score;
        else
            longer[n_longer++] = (struct qr_ranked){pieces->items[i].score, i};
    }
    for (int32_t i = 0; i < n_chars; i++) {
        if (isnan(chosen[i].value))
            chosen[i].value = pieces->min_score - penalty_step * n_lost++;
    }
    qsort(longer, (size_t)n_longer, sizeof(*longer), qr_by_falling_value);
    if (n_longer > n_wanted - n_chars)
        n_longer = n_wanted - n_chars;
    memcpy(chosen + n_chars, longer, (size_t)n_longer * sizeof(*longer));
    *n_chosen = n_chars + n_longer;
    qsort(chosen, (size_t)*n_chosen, sizeof(*chosen), qr_by_falling_value);
    qr_free(longer);
    return QR_OK;
}

static enum qr_status add_text(const struct trainer *trainer, int32_t index,
                               struct qr_string_table *texts)
{
    const struct qr_training_piece *piece = index < 0 ? NULL : &trainer->em.pieces.items[index];
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    enum qr_status status = QR_OK;
    int32_t n = piece == NULL ? 1 : piece->length;
    int32_t added;

    for (int32_t i = 0; i < n && status == QR_OK; i++) {
        utf8proc_uint8_t utf8[4];
        int32_t symbol =
            piece == NULL ? -1 - index : trainer->em.text.symbols[piece->begin + (size_t)i];
        utf8proc_ssize_t n_bytes =
            utf8proc_encode_char(trainer->chars.chars[symbol].codepoint, utf8);
        status = qr_buffer_append(&text, utf8, (size_t)n_bytes);
    }
    if (status == QR_OK)
        status = qr_string_table_add(texts, text.data, text.length, &added);
    qr_buffer_free(&text);
    return status;
}

static enum qr_status write(const struct trainer *trainer, int32_t n_wanted, const char *output_dir,
                            struct qr_error *err)
{
    struct qr_string_table texts = {0};
    struct qr_ranked *chosen = qr_calloc(QR_ARENA_ENGINE, (size_t)n_wanted, sizeof(*chosen));
    float *scores = qr_calloc(QR_ARENA_ENGINE, (size_t)n_wanted, sizeof(*scores));
    enum qr_status status = chosen == NULL || scores == NULL ? QR_ERR_NOMEM : QR_OK;
    int32_t n = 0;

    if (status == QR_OK)
        status = choose(trainer, n_wanted, chosen, &n);
    for (int32_t i = 0; i < n && status == QR_OK; i++) {
        scores[i] = (float)chosen[i].value;
        status = add_text(trainer, chosen[i].index, &texts);
    }
    if (status == QR_OK)
        status = qr_sentencepiece_write(output_dir, trainer->config, true, &texts, scores, err);
    qr_string_table_free(&texts);
    qr_free(chosen);
    qr_free(scores);
    return status;
}

static enum qr_status learn(struct trainer *trainer, int32_t n_wanted)
{
    QR_TRY(take_words(trainer));
    QR_TRY(qr_unigram_em_begin(&trainer->em, trainer->config->n_threads));
    QR_TRY(qr_training_seeds(&trainer->em.text, trainer->chars.chars, trainer->chars.n_chars,
                             trainer->config->max_piece_length, MAX_SEEDS, trainer->em.pool,
                             &trainer->em.pieces));
    return shrink(trainer, n_wanted);
}

enum qr_status qr_train_unigram(const struct qr_trainer_config *config, const char *const *files,
                                int32_t n_files, const char *output_dir, struct qr_error *err)
{
    struct trainer trainer = {.config = config};
    int32_t n_wanted = 0;
    enum qr_status status = qr_trainer_check_pieces(config, err);

    if (status == QR_OK)
        status = qr_training_text_read(&trainer.chars, config, files, n_files, err);
    if (status == QR_OK)
        status = qr_trainer_check_chars(config, trainer.chars.n_chars, &n_wanted, err);
    if (status == QR_OK)
        status = learn(&trainer, n_wanted);
    if (status == QR_OK)
        status = write(&trainer, n_wanted, output_dir, err);
    if (status == QR_ERR_NOMEM)
        status = qr_fail(err, QR_ERR_NOMEM, "out of memory while training");
    qr_unigram_em_free(&trainer.em);
    qr_training_text_free(&trainer.chars);
    return status;
}
