#include "base/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMESTAMP_LENGTH = sizeof("2026-11-24T10:00:00.123Z") - 1 };

/* stderr goes into a pipe between capture_begin and capture_end. */
struct capture {
    int saved_stderr;
    int pipe[2];
};

static void capture_begin(struct capture *capture)
{
    assert_int_equal(pipe(capture->pipe), 0);
    capture->saved_stderr = dup(STDERR_FILENO);
    assert_true(capture->saved_stderr >= 0);
    assert_true(dup2(capture->pipe[1], STDERR_FILENO) >= 0);
}

/* Returns the number of bytes that were written, cut to `size`. */
static size_t capture_end(struct capture *capture, char *out, size_t size)
{
    size_t n = 0;
    ssize_t got;

    dup2(capture->saved_stderr, STDERR_FILENO);
    close(capture->saved_stderr);
    close(capture->pipe[1]);
    while (n < size && (got = read(capture->pipe[0], out + n, size - n)) > 0)
        n += (size_t)got;
    close(capture->pipe[0]);
    return n;
}

/* "dddd-dd-ddTdd:dd:dd.dddZ " with any digits. */
static void assert_timestamp(const char *line)
{
    static const char shape[] = "0000-00-00T00:00:00.000Z ";

    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == '0')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], shape[i]);
    }
}

static void line_has_time_level_event_and_pairs(void **state)
{
    (void)state;
    struct capture capture;
    char out[1024] = "";

    capture_begin(&capture);
    qr_log(QR_LOG_INFO, "ready", "addr=%s kv_pages=%d", "127.0.0.1:7070", 512);
    qr_log(QR_LOG_ERROR, "stopped", "%s", "");
    qr_log(QR_LOG_WARN, "bare", "");
    size_t n = capture_end(&capture, out, sizeof(out) - 1);

    char *second = (char *)memchr(out, '\n', n) + 1;
    char *third = strchr(second, '\n') + 1;
    assert_timestamp(out);
    assert_timestamp(second);
    assert_memory_equal(out + TIMESTAMP_LENGTH, " info ready addr=127.0.0.1:7070 kv_pages=512\n",
                        (size_t)(second - out) - TIMESTAMP_LENGTH);
    assert_memory_equal(second + TIMESTAMP_LENGTH, " error stopped ", 15);
    assert_string_equal(third + TIMESTAMP_LENGTH, " warn bare\n");
}

static void levels_below_the_limit_write_nothing(void **state)
{
    (void)state;
    struct capture capture;
    char out[1024];

    for (int limit = QR_LOG_DEBUG; limit <= QR_LOG_OFF; limit++) {
        qr_log_set_level((enum qr_log_level)limit);
        for (int level = QR_LOG_DEBUG; level <= QR_LOG_ERROR; level++) {
            capture_begin(&capture);
            qr_log((enum qr_log_level)level, "event", "");
            size_t n = capture_end(&capture, out, sizeof(out));
            assert_int_equal(n > 0, level >= limit);
            assert_int_equal(qr_log_enabled((enum qr_log_level)level), level >= limit);
        }
    }
    qr_log_set_level(QR_LOG_INFO);
}

/* However long: one line, one newline at its end, no NUL within. */
static void over_long_line_is_cut(void **state)
{
    (void)state;
    static const int lengths[] = {1000, 1900, 2000, 2010, 2020, 2040, 2048, 3900};
    char text[4000];
    char out[8000];
    struct capture capture;

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        memset(text, 'x', sizeof(text));
        text[lengths[i]] = '\0';
        for (int long_event = 0; long_event <= 1; long_event++) {
            capture_begin(&capture);
            qr_log(QR_LOG_INFO, long_event ? text : "event", "value=%s", text);
            size_t n = capture_end(&capture, out, sizeof(out));
            assert_in_range(n, 1000, 2048);
            assert_ptr_equal(memchr(out, '\n', n), out + n - 1);
            assert_null(memchr(out, '\0', n));
            assert_in_range(out[n - 2], '!', '~');
        }
    }
}

enum { N_WRITERS = 4, N_LINES = 100 };

static void *write_lines(void *arg)
{
    for (int i = 0; i < N_LINES; i++)
        qr_log(QR_LOG_INFO, "line", "writer=%d", *(int *)arg);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[N_WRITERS];
    int ids[N_WRITERS];
    int counts[N_WRITERS] = {0};
    struct capture capture;
    char out[N_WRITERS * N_LINES * 64];

    capture_begin(&capture); /* all lines fit into the pipe's 64 KiB */
    for (int i = 0; i < N_WRITERS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &ids[i]), 0);
    }
    for (int i = 0; i < N_WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    size_t n = capture_end(&capture, out, sizeof(out));

    static const char tail[] = " info line writer=N\n";
    const size_t line_length = TIMESTAMP_LENGTH + sizeof(tail) - 1;
    assert_int_equal(n, N_WRITERS * N_LINES * line_length);
    for (size_t pos = 0; pos < n; pos += line_length) {
        assert_timestamp(out + pos);
        assert_memory_equal(out + pos + TIMESTAMP_LENGTH, tail, sizeof(tail) - 3);
        int writer = out[pos + line_length - 2] - '0';
        assert_in_range(writer, 0, N_WRITERS - 1);
        counts[writer]++;
    }
    for (int i = 0; i < N_WRITERS; i++)
        assert_int_equal(counts[i], N_LINES);
}

static void levels_are_read_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"debug", "info", "warn", "error", "off"};
    enum qr_log_level level = QR_LOG_OFF;

    for (int i = QR_LOG_DEBUG; i <= QR_LOG_OFF; i++) {
        assert_true(qr_log_parse_level(names[i], &level));
        assert_int_equal(level, i);
    }
    assert_false(qr_log_parse_level("INFO", &level));
    assert_false(qr_log_parse_level("", &level));
    assert_int_equal(level, QR_LOG_OFF);
}

static void quoting_escapes_what_would_break_a_line(void **state)
{
    (void)state;
    char out[64];

    assert_string_equal(qr_log_quote("", out, sizeof(out)), "\"\"");
    assert_string_equal(qr_log_quote("a b", out, sizeof(out)), "\"a b\"");
    assert_string_equal(qr_log_quote("say \"hi\" \\", out, sizeof(out)), "\"say \\\"hi\\\" \\\\\"");
    assert_string_equal(qr_log_quote("a\nb\x1b", out, sizeof(out)), "\"a\\x0ab\\x1b\"");
    assert_string_equal(qr_log_quote("na\xC3\xAFve", out, sizeof(out)), "\"na\xC3\xAFve\"");
}

/* Whatever the room, the result is closed, terminated and inside the buffer. */
static void quoting_stays_inside_the_buffer(void **state)
{
    (void)state;
    for (size_t size = 0; size < 40; size++) {
        char out[41];
        memset(out, '#', sizeof(out));
        const char *quoted = qr_log_quote("\n\"plain\\ text\n\n\n", out, size);
        size_t length = strlen(quoted);
        assert_int_equal(out[size], '#');
        if (size >= 3) {
            assert_true(length >= 2 && length < size);
            assert_true(quoted[0] == '"' && quoted[length - 1] == '"');
        } else {
            assert_string_equal(quoted, "");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_time_level_event_and_pairs),
        cmocka_unit_test(levels_below_the_limit_write_nothing),
        cmocka_unit_test(over_long_line_is_cut),
        cmocka_unit_test(lines_of_threads_do_not_mix),
        cmocka_unit_test(levels_are_read_by_name),
        cmocka_unit_test(quoting_escapes_what_would_break_a_line),
        cmocka_unit_test(quoting_stays_inside_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
