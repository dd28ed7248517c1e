#include "runtime/sampling/stop_matcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TEXT = 600 };

struct outcome {
    char text[MAX_TEXT + 1];
    size_t n_bytes;
    int32_t matched;
};

/* Streams `text` in pieces of `piece` bytes (0: of changing size) through buffers of exactly
 * the size that the header asks for. */
static struct outcome stream(const char *const *stops, int32_t n_stops, const char *text,
                             size_t piece, bool include_stop)
{
    struct qr_stop_matcher matcher;
    struct outcome outcome = {.matched = -1};
    size_t n_text = strlen(text);

    qr_stop_matcher_init(&matcher, stops, n_stops);
    for (size_t at = 0; at <= n_text && outcome.matched < 0;) {
        bool ended = at == n_text;
        size_t n = piece > 0 ? piece : 1 + at * 7 % 4;
        n = n > n_text - at ? n_text - at : n;
        char *out = malloc(n + QR_MAX_STOP_BYTES);
        assert_non_null(out);
        struct qr_stop_result result =
            ended ? qr_stop_matcher_flush(&matcher, include_stop, out)
                  : qr_stop_matcher_push(&matcher, text + at, n, include_stop, out);
        memcpy(outcome.text + outcome.n_bytes, out, result.n_released);
        outcome.n_bytes += result.n_released;
        outcome.matched = result.matched;
        free(out);
        at += ended ? 1 : n;
    }
    return outcome;
}

/* The definition: the first byte at which a stop string stands, the longest of those there. */
static struct outcome search(const char *const *stops, int32_t n_stops, const char *text,
                             bool include_stop)
{
    struct outcome outcome = {.matched = -1};

    for (; *text != '\0' && outcome.matched < 0; text++) {
        for (int32_t i = 0; i < n_stops; i++) {
            if (strncmp(text, stops[i], strlen(stops[i])) == 0 &&
                (outcome.matched < 0 || strlen(stops[i]) > strlen(stops[outcome.matched])))
                outcome.matched = i;
        }
        if (outcome.matched < 0)
            outcome.text[outcome.n_bytes++] = *text;
    }
    if (outcome.matched >= 0 && include_stop) {
        strcpy(outcome.text + outcome.n_bytes, stops[outcome.matched]);
        outcome.n_bytes += strlen(stops[outcome.matched]);
    }
    return outcome;
}

static void assert_streams_as_defined(const char *const *stops, int32_t n_stops, const char *text)
{
    const size_t pieces[] = {0, 1, 2, 3, MAX_TEXT};

    for (int include_stop = 0; include_stop < 2; include_stop++) {
        struct outcome expected = search(stops, n_stops, text, include_stop != 0);
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
            struct outcome got = stream(stops, n_stops, text, pieces[i], include_stop != 0);
            if (got.matched != expected.matched || strcmp(got.text, expected.text) != 0)
                fail_msg("\"%s\" in pieces of %zu: \"%s\" %d, expected \"%s\" %d", text, pieces[i],
                         got.text, got.matched, expected.text, expected.matched);
        }
    }
}

static void matches_across_borders(void **state)
{
    (void)state;
    const char *const stops[] = {"aab", "ab"};
    struct outcome got = stream(stops, 2, "xaaab rest", 1, false);

    assert_string_equal(got.text, "xa");
    assert_int_equal(got.matched, 0);
    got = stream(stops, 2, "xab", 2, true);
    assert_string_equal(got.text, "xab");
    assert_int_equal(got.matched, 1);
}

static void longest_wins_at_the_same_start(void **state)
{
    (void)state;
    const char *const stops[] = {"ab", "abcd", "abc"};

    assert_int_equal(stream(stops, 3, "-abcde", 1, false).matched, 1);
    assert_int_equal(stream(stops, 3, "-abcx", 1, false).matched, 2);
    assert_int_equal(stream(stops, 3, "-abx", 1, false).matched, 0);
}

/* "ab" was whole when the text ended; only "abcd" was still waited for. */
static void end_of_text_settles_a_shorter_match(void **state)
{
    (void)state;
    const char *const stops[] = {"abcd", "ab"};
    struct outcome got = stream(stops, 2, "text abc", 1, false);

    assert_int_equal(got.matched, 1);
    assert_string_equal(got.text, "text ");
    got = stream(stops, 2, "text a", 1, false);
    assert_int_equal(got.matched, -1);
    assert_string_equal(got.text, "text a");
}

static void only_what_may_become_a_stop_is_held(void **state)
{
    (void)state;
    const char *const stops[] = {"END"};
    struct qr_stop_matcher matcher;
    char out[16 + QR_MAX_STOP_BYTES];

    qr_stop_matcher_init(&matcher, stops, 1);
    assert_int_equal(qr_stop_matcher_push(&matcher, "hello", 5, false, out).n_released, 5);
    assert_int_equal(qr_stop_matcher_push(&matcher, "", 0, false, out).n_released, 0);
    assert_int_equal(qr_stop_matcher_push(&matcher, " EN", 3, false, out).n_released, 1);
    assert_int_equal(qr_stop_matcher_push(&matcher, "EE", 2, false, out).n_released, 3);
    assert_memory_equal(out, "ENE", 3);
    struct qr_stop_result result = qr_stop_matcher_flush(&matcher, false, out);
    assert_int_equal(result.n_released, 1);
    assert_int_equal(result.matched, -1);
}

static void without_stops_all_passes(void **state)
{
    (void)state;
    struct outcome got = stream(NULL, 0, "anything", 3, false);
    assert_string_equal(got.text, "anything");
    assert_int_equal(got.matched, -1);
}

static void longest_stop_string_fits(void **state)
{
    (void)state;
    char stop[QR_MAX_STOP_BYTES + 1] = {0}, text[MAX_TEXT] = {0};
    const char *const stops[] = {stop};

    memset(stop, 'a', QR_MAX_STOP_BYTES - 1);
    stop[QR_MAX_STOP_BYTES - 1] = 'b';
    memset(text, 'a', 2 * QR_MAX_STOP_BYTES);
    assert_streams_as_defined(stops, 1, text);
    text[2 * QR_MAX_STOP_BYTES] = 'b';
    assert_streams_as_defined(stops, 1, text);
}

static void random_texts_match_a_plain_search(void **state)
{
    (void)state;
    uint32_t random = 1;

    for (int round = 0; round < 5000; round++) {
        char text[24] = {0}, stop[4][6] = {{0}};
        const char *stops[4];
        for (int i = 0; i < 4; i++) {
            random = random * 1664525u + 1013904223u;
            int length = 1 + (int)(random >> 16) % 5;
            for (int j = 0; j < length; j++)
                stop[i][j] = (random >> (j + 8) & 1) != 0 ? 'a' : 'b';
            stops[i] = stop[i];
        }
        random = random * 1664525u + 1013904223u;
        int length = (int)(random >> 27) % 23;
        for (int j = 0; j < length; j++) {
            random = random * 1664525u + 1013904223u;
            text[j] = (random >> 28) < 7 ? 'a' : (random >> 28) < 14 ? 'b' : 'c';
        }
        assert_streams_as_defined(stops, 1 + round % 4, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_across_borders),
        cmocka_unit_test(longest_wins_at_the_same_start),
        cmocka_unit_test(end_of_text_settles_a_shorter_match),
        cmocka_unit_test(only_what_may_become_a_stop_is_held),
        cmocka_unit_test(without_stops_all_passes),
        cmocka_unit_test(longest_stop_string_fits),
        cmocka_unit_test(random_texts_match_a_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
