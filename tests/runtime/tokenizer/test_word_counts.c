/* test_word_counts.c - words of files that are read in parts, by any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/word_counts.h"
#include "tests/support/temp_dir.h"

enum { PATH_BYTES = 512, N_LINES = 400000, N_WORDS = 37, LONG_LINE = 2500000 };

static enum qr_status begin(const void *model, void **state)
{
    (void)model;
    *state = NULL;
    return QR_OK;
}

static void end(void *state)
{
    (void)state;
}

/* A whole line is a word, but only its first bytes where it is long. */
static enum qr_status cut(void *state, const char *line, size_t n_bytes,
                          struct qr_word_counts *counts)
{
    (void)state;
    return qr_word_counts_add(counts, line, n_bytes < 16 ? n_bytes : 16, 1);
}

static int64_t count_of(const struct qr_word_counts *counts, const char *word)
{
    int32_t index = qr_string_table_find(&counts->words, word, strlen(word));
    return index < 0 ? 0 : counts->counts[index];
}

/* Short lines over several parts, a line over more than two, an end without a newline. */
static void write_files(const struct qr_temp_dir *dir, char paths[3][PATH_BYTES])
{
    for (int i = 0; i < 3; i++)
        snprintf(paths[i], PATH_BYTES, "%s/%d", dir->path, i);
    FILE *file = fopen(paths[0], "w");
    assert_non_null(file);
    for (int i = 0; i < N_LINES; i++)
        fprintf(file, "line %d\n", i % N_WORDS);
    fclose(file);
    file = fopen(paths[1], "w");
    assert_non_null(file);
    fputs("before\n", file);
    for (int i = 0; i < LONG_LINE; i++)
        fputc('x', file);
    fputs("\n\nafter", file);
    fclose(file);
    file = fopen(paths[2], "w");
    assert_non_null(file);
    fclose(file);
}

static void each_line_once(void **state)
{
    const struct qr_word_cutter cutter = {.begin = begin, .cut = cut, .end = end};
    char paths[3][PATH_BYTES];
    const char *files[] = {paths[0], paths[1], paths[2]};
    struct qr_temp_dir dir;

    (void)state;
    qr_temp_dir_make(&dir);
    write_files(&dir, paths);
    for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
        const struct qr_trainer_config config = {.n_threads = n_threads};
        struct qr_word_counts counts = {0};
        assert_int_equal(qr_word_counts_read(&counts, &cutter, &config, files, 3, NULL), QR_OK);
        assert_int_equal(counts.words.count, N_WORDS + 4);
        for (int i = 0; i < N_WORDS; i++) {
            char word[16];
            snprintf(word, sizeof(word), "line %d\n", i);
            assert_int_equal(count_of(&counts, word), N_LINES / N_WORDS + (i < N_LINES % N_WORDS));
        }
        assert_int_equal(count_of(&counts, "before\n"), 1);
        assert_int_equal(count_of(&counts, "xxxxxxxxxxxxxxxx"), 1);
        assert_int_equal(count_of(&counts, "\n"), 1);
        assert_int_equal(count_of(&counts, "after"), 1);
        qr_word_counts_free(&counts);
    }
    qr_temp_dir_remove(&dir);
}

static enum qr_status fail_at_after(void *state, const char *line, size_t n_bytes,
                                    struct qr_word_counts *counts)
{
    (void)state;
    (void)counts;
    return n_bytes == 5 && memcmp(line, "after", 5) == 0 ? QR_ERR_UNSUPPORTED : QR_OK;
}

static void failures_name_the_file(void **state)
{
    const struct qr_word_cutter cutter = {.begin = begin, .cut = fail_at_after, .end = end};
    const struct qr_trainer_config config = {.n_threads = 2};
    char paths[3][PATH_BYTES];
    const char *files[] = {paths[0], paths[1], paths[2]};
    struct qr_word_counts counts = {0};
    struct qr_temp_dir dir;
    struct qr_error err = {0};

    (void)state;
    qr_temp_dir_make(&dir);
    write_files(&dir, paths);
    assert_int_equal(qr_word_counts_read(&counts, &cutter, &config, files, 3, &err),
                     QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, paths[1]));
    qr_word_counts_free(&counts);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_once),
        cmocka_unit_test(failures_name_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
