/*
 * test_unigram_training.c - the parts of the unigram trainer against their definitions: seeds
 * against all substrings, lattices against all segmentations.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/tokenizer/training_lattice.h"
#include "runtime/tokenizer/training_seeds.h"

enum { N_LETTERS = 4, MAX_SYMBOLS = 4096, MAX_WORDS = 256, WORD_LENGTH = 9 };

struct text {
    int32_t symbols[MAX_SYMBOLS];
    struct qr_training_word words[MAX_WORDS];
    struct qr_training_char chars[N_LETTERS];
    struct qr_unigram_text text;
};

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

/* Words of a few letters, so that substrings come again; the last letter is of a script of its own.
 */
static void make_text(struct text *text, int32_t n_words, uint32_t seed)
{
    *text = (struct text){.text = {.n_words = n_words}};
    text->text.symbols = text->symbols;
    text->text.words = text->words;
    for (int32_t i = 0; i < N_LETTERS; i++)
        text->chars[i] =
            (struct qr_training_char){.codepoint = 'a' + i, .script = i == N_LETTERS - 1};
    for (int32_t i = 0; i < n_words; i++) {
        struct qr_training_word *word = &text->words[i];
        word->begin = text->text.n_symbols;
        word->length = 1 + (int32_t)(next_random(&seed) % WORD_LENGTH);
        word->count = 1 + (int64_t)(next_random(&seed) % 3);
        for (int32_t k = 0; k < word->length; k++) {
            int32_t symbol = (int32_t)(next_random(&seed) % N_LETTERS);
            text->symbols[text->text.n_symbols++] = symbol;
            text->chars[symbol].count += word->count;
        }
        text->symbols[text->text.n_symbols++] = -1;
    }
}

/*
 * How often symbols[0 .. length) occurs; *branches: not always before the same symbol (the end
 * of a word is no symbol), and not only once inside of a word.
 */
static int64_t count_occurrences(const struct text *text, const int32_t *symbols, int32_t length,
                                 int32_t max_length, bool *branches)
{
    int64_t count = 0;
    int32_t following = -2;
    int32_t n_places = 0;
    bool begins_word = false;

    *branches = false;
    for (int32_t i = 0; i < text->text.n_words; i++) {
        const struct qr_training_word *word = &text->words[i];
        for (int32_t k = 0; k + length <= word->length; k++) {
            const int32_t *here = text->symbols + word->begin + k;
            if (memcmp(here, symbols, (size_t)length * sizeof(*here)) != 0)
                continue;
            count += word->count;
            n_places++;
            begins_word = k == 0;
            *branches =
                *branches || here[length] < 0 || (following != -2 && following != here[length]);
            following = here[length];
        }
    }
    *branches = (*branches || length == max_length) && (n_places > 1 || begins_word);
    return count;
}

static bool is_first_occurrence(const struct text *text, size_t begin, int32_t length)
{
    for (size_t i = 0; i < begin; i++) {
        if (memcmp(text->symbols + i, text->symbols + begin, (size_t)length * sizeof(int32_t)) == 0)
            return false;
    }
    return true;
}

/* How many substrings are seeds by the definition; each must be among the pieces. */
static int32_t check_substrings(const struct text *text, int32_t max_length,
                                const struct qr_training_pieces *pieces, double sum)
{
    int32_t n_seeds = 0;

    for (size_t begin = 0; begin < text->text.n_symbols; begin++) {
        for (int32_t length = 2; length <= max_length && text->symbols[begin] >= 0; length++) {
            const int32_t *symbols = text->symbols + begin;
            bool branches;
            bool is_one_script = true;
            if (symbols[length - 1] < 0)
                break;
            for (int32_t i = 1; i < length; i++)
                is_one_script =
                    is_one_script && (symbols[i] == N_LETTERS - 1) == (symbols[0] == N_LETTERS - 1);
            int64_t count = count_occurrences(text, symbols, length, max_length, &branches);
            if (count < 2 || !is_one_script || !branches ||
                !is_first_occurrence(text, begin, length))
                continue;
            n_seeds++;
            int32_t i = 0;
            while (i < pieces->count && (pieces->items[i].length != length ||
                                         memcmp(text->symbols + pieces->items[i].begin, symbols,
                                                (size_t)length * sizeof(*symbols)) != 0))
                i++;
            assert_true(i < pieces->count);
            assert_true(fabs(exp(pieces->items[i].score) * sum - (double)(count * length)) < 1e-6);
        }
    }
    return n_seeds;
}

static void seeds_are_the_branching_substrings(void **state)
{
    static struct text text;
    struct qr_thread_pool *pool;

    (void)state;
    assert_int_equal(qr_thread_pool_create(2, &pool), QR_OK);
    for (uint32_t seed = 1; seed <= 8; seed++) {
        struct qr_training_pieces pieces = {0};
        int32_t max_length = 2 + (int32_t)(seed % 6);
        double sum = 0;
        int32_t n_chars = 0;
        make_text(&text, seed == 8 ? 1 : 40, seed);
        assert_int_equal(qr_training_seeds(&text.text, text.chars, N_LETTERS, max_length, 1 << 20,
                                           pool, &pieces),
                         QR_OK);
        while (n_chars < pieces.count && pieces.items[n_chars].length == 1)
            n_chars++;
        sum = (double)text.chars[text.symbols[pieces.items[0].begin]].count /
              exp(pieces.items[0].score);
        assert_int_equal(pieces.count - n_chars, check_substrings(&text, max_length, &pieces, sum));
        for (int32_t i = n_chars + 1; i < pieces.count; i++)
            assert_true(pieces.items[i - 1].score >= pieces.items[i].score);
        qr_training_pieces_free(&pieces);
    }
    qr_thread_pool_destroy(pool);
}

/* What all segmentations of a word together say, found one by one. */
struct segmentations {
    const struct text *text;
    const struct qr_training_pieces *pieces;
    const int32_t *word;
    int32_t length;
    int32_t way[WORD_LENGTH];
    double total;
    double best;
    double expected[MAX_SYMBOLS];
};

static void segment(struct segmentations *all, int32_t at, int32_t n, double score)
{
    if (at == all->length) {
        all->total += exp(score);
        all->best = score > all->best ? score : all->best;
        for (int32_t i = 0; i < n; i++)
            all->expected[all->way[i]] += exp(score);
        return;
    }
    for (int32_t i = 0; i < all->pieces->count; i++) {
        const struct qr_training_piece *piece = &all->pieces->items[i];
        if (at + piece->length > all->length ||
            memcmp(all->text->symbols + piece->begin, all->word + at,
                   (size_t)piece->length * sizeof(int32_t)) != 0)
            continue;
        all->way[n] = i;
        segment(all, at + piece->length, n + 1, score + piece->score);
    }
}

static void lattice_is_all_segmentations(void **state)
{
    static struct text text;
    static struct segmentations all;
    struct qr_lattice lattice = {0};
    struct qr_training_pieces pieces = {0};
    struct qr_thread_pool *pool;

    (void)state;
    make_text(&text, 60, 3);
    assert_int_equal(qr_thread_pool_create(1, &pool), QR_OK);
    assert_int_equal(
        qr_training_seeds(&text.text, text.chars, N_LETTERS, 5, 1 << 20, pool, &pieces), QR_OK);
    assert_int_equal(qr_training_pieces_index(&pieces, text.symbols), QR_OK);
    for (int32_t i = 0; i < text.text.n_words; i++) {
        const struct qr_training_word *word = &text.words[i];
        int64_t *expected = qr_calloc(QR_ARENA_REQUEST, (size_t)pieces.count, sizeof(*expected));
        double score;
        all = (struct segmentations){.text = &text,
                                     .pieces = &pieces,
                                     .best = -INFINITY,
                                     .word = text.symbols + word->begin,
                                     .length = word->length};
        segment(&all, 0, 0, 0);
        assert_int_equal(qr_lattice_set(&lattice, &pieces, all.word, all.length, -1), QR_OK);
        qr_lattice_expect(&lattice, word->count, expected);
        for (int32_t k = 0; k < pieces.count; k++)
            assert_true(fabs((double)expected[k] / QR_EXPECTED_ONE -
                             all.expected[k] / all.total * (double)word->count) < 1e-5);
        int32_t n = qr_lattice_best(&lattice, &score);
        assert_true(fabs(score - all.best) < 1e-9);
        double way = 0;
        for (int32_t k = 0; k < n; k++)
            way += lattice.nodes[lattice.path[k]].score;
        assert_true(fabs(way - all.best) < 1e-9);
        qr_free(expected);
    }
    qr_lattice_free(&lattice);
    qr_training_pieces_free(&pieces);
    qr_thread_pool_destroy(pool);
}

/* A character without a piece is there all the same, at a price. */
static void unknown_characters(void **state)
{
    int32_t symbols[] = {0, 1, 0, -1};
    struct qr_training_pieces pieces = {.count = 1};
    struct qr_lattice lattice = {0};
    double score;

    (void)state;
    pieces.items = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*pieces.items));
    pieces.items[0] = (struct qr_training_piece){.begin = 0, .length = 1, .score = -2};
    assert_int_equal(qr_training_pieces_index(&pieces, symbols), QR_OK);
    assert_int_equal(qr_lattice_set(&lattice, &pieces, symbols, 3, -1), QR_OK);
    assert_int_equal(qr_lattice_best(&lattice, &score), 3);
    assert_int_equal(lattice.nodes[lattice.path[1]].piece, -1);
    assert_true(score == -2 - 12 - 2);
    /* The piece that is left out does not count. */
    assert_int_equal(qr_lattice_set(&lattice, &pieces, symbols, 1, 0), QR_OK);
    assert_int_equal(qr_lattice_best(&lattice, &score), 1);
    assert_int_equal(lattice.nodes[lattice.path[0]].piece, -1);
    qr_lattice_free(&lattice);
    qr_training_pieces_free(&pieces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_are_the_branching_substrings),
        cmocka_unit_test(lattice_is_all_segmentations),
        cmocka_unit_test(unknown_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
