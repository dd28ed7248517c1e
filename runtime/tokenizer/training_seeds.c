/*
 * training_seeds.c - see training_seeds.h for the contract.
 *
 * Suffixes end with their word, and no more than max_length characters of them count. Sorted,
 * those that begin alike stand side by side: an interval of common prefix for each substring
 * that goes on in more than one way (the inner nodes of a suffix tree).
 */
#include "runtime/tokenizer/training_seeds.h"

#include <math.h>
#include <stdlib.h>

#include "base/array.h"

enum { FEW_SUFFIXES = 12 };

struct suffix {
    uint32_t begin; /* in the text's symbols */
    int32_t word;
};

struct candidate {
    uint32_t begin;
    int32_t length;
    int64_t score;
};

struct seeder {
    const struct qr_unigram_text *text;
    const struct qr_training_char *chars;
    int32_t n_chars;
    int32_t max_length;
    struct suffix *suffixes; /* [n_suffixes] */
    int64_t n_suffixes;
    int64_t *bucket_begins;       /* [n_chars + 1]: the suffixes with each first character */
    struct candidate *candidates; /* [n_candidates] */
    int32_t n_candidates;
    int32_t candidates_capacity;
};

static int32_t symbol_at(const struct seeder *seeder, struct suffix suffix, int32_t depth)
{
    return seeder->text->symbols[suffix.begin + (uint32_t)depth];
}

/* How many symbols two suffixes have in common. */
static int32_t common_prefix(const struct seeder *seeder, struct suffix a, struct suffix b)
{
    int32_t depth = 0;

    while (depth < seeder->max_length && symbol_at(seeder, a, depth) >= 0 &&
           symbol_at(seeder, a, depth) == symbol_at(seeder, b, depth))
        depth++;
    return depth;
}

static bool comes_first(const struct seeder *seeder, struct suffix a, struct suffix b,
                        int32_t depth)
{
    for (; depth < seeder->max_length; depth++) {
        int32_t left = symbol_at(seeder, a, depth);
        int32_t right = symbol_at(seeder, b, depth);
        if (left != right || left < 0)
            return left < right;
    }
    return false;
}

static void sort_few(const struct seeder *seeder, struct suffix *suffixes, int64_t n, int32_t depth)
{
    for (int64_t i = 1; i < n; i++) {
        struct suffix moved = suffixes[i];
        int64_t k = i;
        for (; k > 0 && comes_first(seeder, moved, suffixes[k - 1], depth); k--)
            suffixes[k] = suffixes[k - 1];
        suffixes[k] = moved;
    }
}

static int32_t median_symbol(const struct seeder *seeder, const struct suffix *suffixes, int64_t n,
                             int32_t depth)
{
    int32_t a = symbol_at(seeder, suffixes[0], depth);
    int32_t b = symbol_at(seeder, suffixes[n / 2], depth);
    int32_t c = symbol_at(seeder, suffixes[n - 1], depth);

    if (a < b)
        return b < c ? b : a < c ? c : a;
    return a < c ? a : b < c ? c : b;
}

static void swap(struct suffix *a, struct suffix *b)
{
    struct suffix kept = *a;
    *a = *b;
    *b = kept;
}

/* Multikey quicksort (Bentley and Sedgewick, 1997): equal parts go on with the next symbol. */
static void sort_suffixes(const struct seeder *seeder, struct suffix *suffixes, int64_t n,
                          int32_t depth)
{
    while (n > FEW_SUFFIXES && depth < seeder->max_length) {
        int32_t pivot = median_symbol(seeder, suffixes, n, depth);
        int64_t less = 0;
        int64_t greater = n;
        for (int64_t i = 0; i < greater;) {
            int32_t symbol = symbol_at(seeder, suffixes[i], depth);
            if (symbol < pivot)
                swap(&suffixes[less++], &suffixes[i++]);
            else if (symbol > pivot)
                swap(&suffixes[i], &suffixes[--greater]);
            else
                i++;
        }
        sort_suffixes(seeder, suffixes, less, depth);
        sort_suffixes(seeder, suffixes + greater, n - greater, depth);
        if (pivot < 0)
            return;
        suffixes += less;
        n = greater - less;
        depth++;
    }
    if (n <= FEW_SUFFIXES)
        sort_few(seeder, suffixes, n, depth);
}

static void sort_buckets(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct seeder *seeder = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++)
        sort_suffixes(seeder, seeder->suffixes + seeder->bucket_begins[i],
                      seeder->bucket_begins[i + 1] - seeder->bucket_begins[i], 1);
}

/* Puts the suffixes into buckets by their first character. */
static enum qr_status make_suffixes(struct seeder *seeder)
{
    const struct qr_unigram_text *text = seeder->text;
    size_t n = text->n_symbols - (size_t)text->n_words;

    if (text->n_symbols > UINT32_MAX)
        return QR_ERR_NOMEM;
    seeder->suffixes = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*seeder->suffixes));
    seeder->bucket_begins =
        qr_calloc(QR_ARENA_ENGINE, (size_t)seeder->n_chars + 2, sizeof(*seeder->bucket_begins));
    if (seeder->suffixes == NULL || seeder->bucket_begins == NULL)
        return QR_ERR_NOMEM;
    seeder->n_suffixes = (int64_t)n;
    int64_t *begins = seeder->bucket_begins;
    for (size_t i = 0; i < text->n_symbols; i++) {
        if (text->symbols[i] >= 0)
            begins[text->symbols[i] + 2]++;
    }
    for (int32_t i = 1; i <= seeder->n_chars; i++)
        begins[i + 1] += begins[i];
    for (int32_t word = 0; word < text->n_words; word++) {
        for (int32_t k = 0; k < text->words[word].length; k++) {
            size_t at = text->words[word].begin + (size_t)k;
            seeder->suffixes[begins[text->symbols[at] + 1]++] = (struct suffix){(uint32_t)at, word};
        }
    }
    return QR_OK;
}

static bool is_one_script(const struct seeder *seeder, uint32_t begin, int32_t length)
{
    const int32_t *symbols = seeder->text->symbols + begin;

    for (int32_t i = 1; i < length; i++) {
        if (!qr_scripts_join(seeder->chars[symbols[i - 1]].script,
                             seeder->chars[symbols[i]].script))
            return false;
    }
    return true;
}

static enum qr_status add_candidate(struct seeder *seeder, uint32_t begin, int32_t length,
                                    int64_t count)
{
    if (length < 2 || count < 2 || !is_one_script(seeder, begin, length))
        return QR_OK;
    void *grown = qr_array_grow(QR_ARENA_ENGINE, seeder->candidates, seeder->n_candidates,
                                &seeder->candidates_capacity, sizeof(*seeder->candidates));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    seeder->candidates = grown;
    seeder->candidates[seeder->n_candidates++] =
        (struct candidate){.begin = begin, .length = length, .score = count * length};
    return QR_OK;
}

/* An interval of suffixes with a prefix in common; `count` is of those seen up to now. */
struct interval {
    uint32_t begin; /* of one of its suffixes */
    int32_t length; /* of the prefix */
    int64_t count;  /* of the words, each as often as it occurs */
    bool is_inner; /* one suffix that does not begin its word: what it begins with is as frequent */
};

/*
 * Goes on with the suffix at `suffix`, which has `common` characters in common with the next
 * one. The stack holds the intervals that the suffix before is in and this one, too: their
 * prefixes grow, so there are at most max_length. The suffix itself is the innermost.
 */
static enum qr_status walk_suffix(struct seeder *seeder, struct interval *stack, int32_t *n_stack,
                                  struct suffix suffix, int32_t common)
{
    const struct qr_training_word *word = &seeder->text->words[suffix.word];
    struct interval inner = {
        .begin = suffix.begin,
        .length = common_prefix(seeder, suffix, suffix),
        .count = word->count,
        .is_inner = suffix.begin != word->begin,
    };

    for (;;) {
        if (*n_stack > 0 && stack[*n_stack - 1].length == inner.length) {
            inner.count += stack[--*n_stack].count;
            inner.is_inner = false;
        }
        if (inner.length <= common) {
            stack[(*n_stack)++] = inner;
            return QR_OK;
        }
        if (!inner.is_inner)
            QR_TRY(add_candidate(seeder, inner.begin, inner.length, inner.count));
        int32_t outer = *n_stack > 0 ? stack[*n_stack - 1].length : 0;
        inner.length = outer > common ? outer : common;
        if (inner.length == 0)
            return QR_OK;
    }
}

static enum qr_status find_candidates(struct seeder *seeder)
{
    struct interval *stack =
        qr_calloc(QR_ARENA_ENGINE, (size_t)seeder->max_length + 1, sizeof(*stack));
    enum qr_status status = stack == NULL ? QR_ERR_NOMEM : QR_OK;
    int32_t n_stack = 0;

    for (int64_t i = 0; i < seeder->n_suffixes && status == QR_OK; i++) {
        int32_t common = 0;
        if (i + 1 < seeder->n_suffixes)
            common = common_prefix(seeder, seeder->suffixes[i], seeder->suffixes[i + 1]);
        status = walk_suffix(seeder, stack, &n_stack, seeder->suffixes[i], common);
    }
    qr_free(stack);
    return status;
}

static int compare_candidates(const void *a, const void *b, void *arg)
{
    const struct seeder *seeder = arg;
    const struct candidate *left = a;
    const struct candidate *right = b;

    if (left->score != right->score)
        return left->score < right->score ? 1 : -1;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    const int32_t *x = seeder->text->symbols + left->begin;
    const int32_t *y = seeder->text->symbols + right->begin;
    for (int32_t i = 0; i < left->length; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

static enum qr_status fill_pieces(const struct seeder *seeder, int32_t max_seeds,
                                  struct qr_training_pieces *pieces)
{
    int32_t n_longer = seeder->n_candidates < max_seeds ? seeder->n_candidates : max_seeds;
    double sum = 0;

    pieces->items = qr_calloc(QR_ARENA_ENGINE, (size_t)seeder->n_chars + (size_t)n_longer,
                              sizeof(*pieces->items));
    if (pieces->items == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < seeder->n_chars; i++) {
        int64_t first = seeder->bucket_begins[i];
        if (first < seeder->bucket_begins[i + 1])
            pieces->items[pieces->count++] = (struct qr_training_piece){
                seeder->suffixes[first].begin, 1, (double)seeder->chars[i].count};
    }
    for (int32_t i = 0; i < n_longer; i++) {
        const struct candidate *candidate = &seeder->candidates[i];
        pieces->items[pieces->count++] = (struct qr_training_piece){
            candidate->begin, candidate->length, (double)candidate->score};
    }
    for (int32_t i = 0; i < pieces->count; i++)
        sum += pieces->items[i].score;
    for (int32_t i = 0; i < pieces->count; i++)
        pieces->items[i].score = log(pieces->items[i].score / sum);
    return QR_OK;
}

enum qr_status qr_training_seeds(const struct qr_unigram_text *text,
                                 const struct qr_training_char *chars, int32_t n_chars,
                                 int32_t max_length, int32_t max_seeds, struct qr_thread_pool *pool,
                                 struct qr_training_pieces *pieces)
{
    struct seeder seeder = {
        .text = text,
        .chars = chars,
        .n_chars = n_chars,
        .max_length = max_length,
    };
    enum qr_status status = make_suffixes(&seeder);

    if (status == QR_OK) {
        qr_thread_pool_run(pool, n_chars, 1, sort_buckets, &seeder);
        status = find_candidates(&seeder);
    }
    if (status == QR_OK) {
        if (seeder.n_candidates > 0)
            qsort_r(seeder.candidates, (size_t)seeder.n_candidates, sizeof(*seeder.candidates),
                    compare_candidates, &seeder);
        status = fill_pieces(&seeder, max_seeds, pieces);
    }
    qr_free(seeder.suffixes);
    qr_free(seeder.bucket_begins);
    qr_free(seeder.candidates);
    return status;
}
