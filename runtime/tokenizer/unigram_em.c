/* unigram_em.c - see unigram_em.h for the contract. */
#include "runtime/tokenizer/unigram_em.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

enum { WORDS_AT_ONCE = 256 };

static const double keep_share = 0.75;  /* of the pieces, in one pruning */
static const double min_expected = 0.5; /* occurrences; rarer pieces go at once */

int qr_by_falling_value(const void *a, const void *b)
{
    const struct qr_ranked *left = a;
    const struct qr_ranked *right = b;

    if (left->value != right->value)
        return left->value < right->value ? 1 : -1;
    return left->index < right->index ? -1 : 1;
}

typedef void (*qr_count_fn)(struct qr_lattice *lattice, int64_t count, int64_t *counts);

struct counting {
    struct qr_unigram_em *em;
    qr_count_fn count;
};

static void count_words(void *arg, int64_t first, int64_t last, int32_t worker_index)
{
    const struct counting *counting = arg;
    const struct qr_unigram_text *text = &counting->em->text;
    struct qr_em_worker *worker = &counting->em->workers[worker_index];

    for (int64_t i = first; i < last && worker->status == QR_OK; i++) {
        const struct qr_training_word *word = &text->words[i];
        worker->status = qr_lattice_set(&worker->lattice, &counting->em->pieces,
                                        text->symbols + word->begin, word->length, -1);
        if (worker->status == QR_OK)
            counting->count(&worker->lattice, word->count, worker->counts);
    }
}

/* Adds up in workers[0].counts what `count` finds in each word. */
static enum qr_status count_pieces(struct qr_unigram_em *em, qr_count_fn count)
{
    struct counting counting = {em, count};
    size_t n_pieces = (size_t)em->pieces.count;
    int32_t n_threads = em->n_threads;

    for (int32_t i = 0; i < n_threads; i++) {
        qr_free(em->workers[i].counts);
        em->workers[i].counts = qr_calloc(QR_ARENA_ENGINE, n_pieces, sizeof(int64_t));
        if (em->workers[i].counts == NULL)
            return QR_ERR_NOMEM;
    }
    qr_thread_pool_run(em->pool, em->text.n_words, WORDS_AT_ONCE, count_words, &counting);
    for (int32_t i = 0; i < n_threads; i++) {
        QR_TRY(em->workers[i].status);
        for (size_t k = 0; k < n_pieces && i > 0; k++)
            em->workers[0].counts[k] += em->workers[i].counts[k];
    }
    return QR_OK;
}

/* The derivative of the logarithm of the gamma function, for x > 0. */
static double digamma(double x)
{
    double result = 0;

    for (; x < 10; x++)
        result -= 1 / x;
    double inverse = 1 / (x * x);
    return result + log(x) - 1 / (2 * x) -
           inverse * (1.0 / 12 - inverse * (1.0 / 120 - inverse / 252));
}

/*
 * Expectation, then maximisation under a sparse prior: the digamma function in place of the
 * logarithm takes more from the rare ones (Liang and Klein, 2007).
 */
enum qr_status qr_unigram_maximise(struct qr_unigram_em *em)
{
    struct qr_training_pieces *pieces = &em->pieces;
    int32_t n = 0;
    double sum = 0;

    QR_TRY(count_pieces(em, qr_lattice_expect));
    for (int32_t i = 0; i < pieces->count; i++) {
        double expected = (double)em->workers[0].counts[i] / QR_EXPECTED_ONE;
        if (expected < min_expected)
            continue;
        sum += expected;
        pieces->items[n] = pieces->items[i];
        pieces->items[n++].score = digamma(expected);
    }
    pieces->count = n;
    for (int32_t i = 0; i < n; i++)
        pieces->items[i].score -= digamma(sum);
    return qr_training_pieces_index(pieces, em->text.symbols);
}

static void count_best(struct qr_lattice *lattice, int64_t count, int64_t *counts)
{
    double score;
    int32_t n = qr_lattice_best(lattice, &score);

    for (int32_t i = 0; i < n; i++) {
        int32_t piece = lattice->nodes[lattice->path[i]].piece;
        if (piece >= 0)
            counts[piece] += count;
    }
}

/*
 * What the text loses when the piece goes and its best replacement takes over: INFINITY when
 * there is none, negative when the piece is of no use.
 */
static enum qr_status find_loss(const struct qr_unigram_em *em, struct qr_lattice *lattice,
                                int64_t sum, int32_t index, double *loss)
{
    const struct qr_training_piece *piece = &em->pieces.items[index];
    const int64_t *counts = em->workers[0].counts;
    double count = (double)counts[index];
    double score;

    QR_TRY(qr_lattice_set(lattice, &em->pieces, em->text.symbols + piece->begin, piece->length,
                          index));
    int32_t n = qr_lattice_best(lattice, &score);
    for (int32_t i = 0; i < n; i++) {
        if (lattice->nodes[lattice->path[i]].piece < 0) {
            *loss = INFINITY;
            return QR_OK;
        }
    }
    *loss = -1;
    if (counts[index] == 0 || score >= piece->score)
        return QR_OK;
    double log_sum = log((double)sum + count * (n - 1));
    double replacement = 0;
    for (int32_t i = 0; i < n; i++)
        replacement +=
            log((double)counts[lattice->nodes[lattice->path[i]].piece] + count) - log_sum;
    *loss = count / (double)em->total * (log(count) - log((double)sum) - replacement);
    if (*loss < 0)
        *loss = 0;
    return QR_OK;
}

struct pruning {
    struct qr_unigram_em *em;
    int64_t sum; /* of the pieces' counts */
};

static void find_losses(void *arg, int64_t first, int64_t last, int32_t worker_index)
{
    const struct pruning *pruning = arg;
    struct qr_em_worker *worker = &pruning->em->workers[worker_index];

    for (int64_t i = first; i < last && worker->status == QR_OK; i++)
        worker->status = find_loss(pruning->em, &worker->lattice, pruning->sum, (int32_t)i,
                                   &pruning->em->loss[i]);
}

/* Keeps the `size` pieces that would be missed most, in their order. */
static enum qr_status keep_best(struct qr_unigram_em *em, int32_t size)
{
    struct qr_training_pieces *pieces = &em->pieces;
    struct qr_ranked *ranked = qr_calloc(QR_ARENA_ENGINE, (size_t)pieces->count, sizeof(*ranked));
    int32_t n = 0;

    if (ranked == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < pieces->count; i++)
        ranked[i] = (struct qr_ranked){em->loss[i], i};
    qsort(ranked, (size_t)pieces->count, sizeof(*ranked), qr_by_falling_value);
    for (int32_t i = size; i < pieces->count; i++)
        em->loss[ranked[i].index] = -1;
    for (int32_t i = 0; i < pieces->count; i++) {
        if (em->loss[i] >= 0)
            pieces->items[n++] = pieces->items[i];
    }
    pieces->count = n;
    qr_free(ranked);
    return qr_training_pieces_index(pieces, em->text.symbols);
}

enum qr_status qr_unigram_prune(struct qr_unigram_em *em, int32_t goal)
{
    struct pruning pruning = {.em = em};
    int32_t size = (int32_t)(keep_share * em->pieces.count);

    qr_free(em->loss);
    em->loss = qr_calloc(QR_ARENA_ENGINE, (size_t)em->pieces.count, sizeof(*em->loss));
    if (em->loss == NULL)
        return QR_ERR_NOMEM;
    QR_TRY(count_pieces(em, count_best));
    for (int32_t i = 0; i < em->pieces.count; i++)
        pruning.sum += em->workers[0].counts[i];
    qr_thread_pool_run(em->pool, em->pieces.count, WORDS_AT_ONCE, find_losses, &pruning);
    for (int32_t i = 0; i < em->n_threads; i++)
        QR_TRY(em->workers[i].status);
    return keep_best(em, size > goal ? size : goal);
}

enum qr_status qr_unigram_em_begin(struct qr_unigram_em *em, int32_t n_threads)
{
    em->workers = qr_calloc(QR_ARENA_ENGINE, (size_t)n_threads, sizeof(*em->workers));
    if (em->workers == NULL)
        return QR_ERR_NOMEM;
    em->n_threads = n_threads;
    return qr_thread_pool_create(n_threads, &em->pool);
}

void qr_unigram_em_free(struct qr_unigram_em *em)
{
    for (int32_t i = 0; i < em->n_threads; i++) {
        qr_lattice_free(&em->workers[i].lattice);
        qr_free(em->workers[i].counts);
    }
    qr_free(em->workers);
    qr_free(em->loss);
    qr_thread_pool_destroy(em->pool);
    qr_training_pieces_free(&em->pieces);
    qr_free(em->text.symbols);
    qr_free(em->text.words);
    *em = (struct qr_unigram_em){.n_threads = 0};
}
