/* The option parser: values, ranges, the environment, and what it says when they are wrong. */
#include "runtime/cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int32_t threads;
static int64_t kv_memory;
static float top_p;
static bool json;
static const char *model;
static struct qr_string_list stops;
static bool threads_given;
static bool cache;
static enum { RED, GREEN, BLUE } color;

static const struct qr_option options[] = {
    {"threads", QR_OPTION_INT, "N", &threads, 0, 64, "threads", &threads_given},
    {"kv-memory", QR_OPTION_SIZE, "SIZE", &kv_memory, 1, 0x1p40, "bytes", NULL},
    {"top-p", QR_OPTION_FLOAT, "P", &top_p, 0, 1, "probability", NULL},
    {"json", QR_OPTION_FLAG, NULL, &json, 0, 0, "as JSON", NULL},
    {"model", QR_OPTION_STRING, "PATH", &model, 0, 0, "path", NULL},
    {"stop", QR_OPTION_LIST, "TEXT", &stops, 0, 0, "stop string", NULL},
    {"cache", QR_OPTION_SWITCH, "on|off", &cache, 0, 0, "cache", NULL},
    {"color", QR_OPTION_CHOICE, "red|green|blue", &color, 0, 0, "color", NULL},
};
static const struct qr_command_line line = {
    .command = "test",
    .synopsis = "[options] FILE...",
    .description = "Test.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_positionals = 1,
    .max_positionals = 2,
};

static struct qr_positionals rest;

#define PARSE(...) parse((char *[]){"test", __VA_ARGS__, NULL})

static enum qr_parse_result parse(char **words)
{
    int count = 0;
    while (words[count] != NULL)
        count++;
    threads = 1;
    kv_memory = 0;
    top_p = 1;
    json = threads_given = false;
    model = NULL;
    stops.count = 0;
    cache = true;
    color = BLUE;
    return qr_options_parse(&line, count, words, &rest);
}

static void values_arrive_in_both_spellings(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "--threads", "3", "--kv-memory=1.5GiB", "--top-p=0.5", "--json",
                           "--model", "x", "--stop", "one", "--stop=two", "b"),
                     QR_PARSE_OK);
    assert_int_equal(threads, 3);
    assert_true(threads_given);
    assert_int_equal(kv_memory, 3 << 29);
    assert_true(top_p == 0.5f);
    assert_true(json);
    assert_string_equal(model, "x");
    assert_int_equal(stops.count, 2);
    assert_string_equal(stops.items[1], "two");
    assert_int_equal(rest.count, 2);
    assert_string_equal(rest.items[0], "a");
    assert_string_equal(rest.items[1], "b");
}

static void switches_and_choices(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a"), QR_PARSE_OK);
    assert_true(cache);
    assert_int_equal(color, BLUE);
    assert_int_equal(PARSE("a", "--cache", "off", "--color=red"), QR_PARSE_OK);
    assert_false(cache);
    assert_int_equal(color, RED);
    assert_int_equal(PARSE("a", "--cache=on", "--color", "green"), QR_PARSE_OK);
    assert_true(cache);
    assert_int_equal(color, GREEN);
    assert_int_equal(PARSE("a", "--color", "Red"), QR_PARSE_OK);
    assert_int_equal(color, RED);
    assert_int_equal(PARSE("a", "--cache", "yes"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--color", "gre"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--color", "red|green"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--color", ""), QR_PARSE_ERROR);
}

static void double_dash_ends_the_options(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--", "--json"), QR_PARSE_OK);
    assert_false(json);
    assert_string_equal(rest.items[0], "--json");
}

static void wrong_words_are_refused(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "--threads", "65"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--threads", "3x"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--threads", ""), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--threads"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--top-p", "nan"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--top-p", "-0.1"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--kv-memory", "12 parsecs"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--kv-memory", "-1"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "--no-such"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "-x"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("--json"), QR_PARSE_ERROR);
    assert_int_equal(PARSE("a", "b", "c"), QR_PARSE_ERROR);
}

static void the_command_line_wins_over_the_environment(void **state)
{
    (void)state;
    setenv("QUIRE_KV_MEMORY", "64KiB", 1);
    setenv("QUIRE_THREADS", "9", 1);
    assert_int_equal(PARSE("a", "--threads", "2"), QR_PARSE_OK);
    assert_int_equal(kv_memory, 65536);
    assert_int_equal(threads, 2);
    setenv("QUIRE_THREADS", "many", 1);
    assert_int_equal(PARSE("a"), QR_PARSE_ERROR);
    unsetenv("QUIRE_KV_MEMORY");
    unsetenv("QUIRE_THREADS");
}

static void sizes_are_written_for_people(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(qr_format_size(512, text, sizeof(text)), "512 B");
    assert_string_equal(qr_format_size(3 << 19, text, sizeof(text)), "1.5 MiB");
}

static void lists_of_numbers_are_checked(void **state)
{
    struct qr_error err;
    double numbers[3];
    int32_t count;

    (void)state;
    assert_int_equal(qr_parse_numbers("n", "1,2.5,4", 1, 4, 3, numbers, &count, &err), QR_OK);
    assert_int_equal(count, 3);
    assert_true(numbers[0] == 1 && numbers[1] == 2.5 && numbers[2] == 4);
    assert_int_equal(qr_parse_numbers("n", "", 1, 4, 3, numbers, &count, &err), QR_OK);
    assert_int_equal(count, 0);
    static const char *const wrong[] = {"1,2,3,4", "0.5", "5", "1;2", "x", "1,,2", "nan"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(qr_parse_numbers("n", wrong[i], 1, 4, 3, numbers, &count, &err),
                         QR_ERR_INVALID);
        assert_non_null(strstr(err.message, "--n"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_arrive_in_both_spellings),
        cmocka_unit_test(switches_and_choices),
        cmocka_unit_test(double_dash_ends_the_options),
        cmocka_unit_test(wrong_words_are_refused),
        cmocka_unit_test(the_command_line_wins_over_the_environment),
        cmocka_unit_test(sizes_are_written_for_people),
        cmocka_unit_test(lists_of_numbers_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
