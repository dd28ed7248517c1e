#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MESSAGE_MAX = sizeof(((struct qr_error *)NULL)->message) - 1 };

static void every_status_has_its_own_name(void **state)
{
    (void)state;
    for (int a = QR_ERR_CLOSED; a <= QR_OK; a++) {
        assert_string_not_equal(qr_status_name((enum qr_status)a), "UNKNOWN");
        for (int b = QR_ERR_CLOSED; b < a; b++)
            assert_string_not_equal(qr_status_name((enum qr_status)a),
                                    qr_status_name((enum qr_status)b));
    }
    assert_string_equal(qr_status_name((enum qr_status)1), "UNKNOWN");
}

static void fail_writes_the_sentence_and_returns_the_status(void **state)
{
    (void)state;
    struct qr_error err = {""};

    assert_int_equal(qr_fail(&err, QR_ERR_NOT_FOUND, "%s: no such file", "a.json"),
                     QR_ERR_NOT_FOUND);
    assert_string_equal(err.message, "a.json: no such file");
    assert_int_equal(qr_fail(NULL, QR_ERR_IO, "nobody reads this"), QR_ERR_IO);
}

static void long_sentence_is_cut_to_fit(void **state)
{
    (void)state;
    char text[2 * MESSAGE_MAX];
    struct qr_error err;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(qr_fail(&err, QR_ERR_INVALID, "%s", text), QR_ERR_INVALID);
    assert_int_equal(strlen(err.message), MESSAGE_MAX);
    assert_memory_equal(err.message, text, MESSAGE_MAX);
}

static void prefix_goes_before_the_message(void **state)
{
    (void)state;
    struct qr_error err;

    assert_int_equal(qr_fail(&err, QR_ERR_INVALID, "must be positive"), QR_ERR_INVALID);
    qr_error_prefix(&err, "field %d", 3);
    qr_error_prefix(&err, "%s", "config.json");
    assert_string_equal(err.message, "config.json: field 3: must be positive");
    qr_error_prefix(NULL, "nobody reads this");
}

static void prefix_cuts_the_end_of_a_full_message(void **state)
{
    (void)state;
    char text[MESSAGE_MAX + 1];
    struct qr_error err;

    memset(text, 'x', MESSAGE_MAX);
    text[MESSAGE_MAX] = '\0';
    assert_int_equal(qr_fail(&err, QR_ERR_INVALID, "%s", text), QR_ERR_INVALID);
    qr_error_prefix(&err, "name");
    assert_int_equal(strlen(err.message), MESSAGE_MAX);
    assert_memory_equal(err.message, "name: xxx", 9);
    assert_int_equal(strspn(err.message + 6, "x"), MESSAGE_MAX - 6);
}

static void prefix_without_room_leaves_the_message(void **state)
{
    (void)state;
    char text[MESSAGE_MAX + 2];
    struct qr_error err;

    memset(text, 'x', MESSAGE_MAX + 1);
    text[MESSAGE_MAX + 1] = '\0';
    assert_int_equal(qr_fail(&err, QR_ERR_INVALID, "must be positive"), QR_ERR_INVALID);
    qr_error_prefix(&err, "%s", text);
    assert_string_equal(err.message, "must be positive");
}

static enum qr_status try_and_count(enum qr_status status, int *passed)
{
    QR_TRY(status);
    ++*passed;
    return QR_OK;
}

static void try_returns_the_first_failure(void **state)
{
    (void)state;
    int passed = 0;

    assert_int_equal(try_and_count(QR_ERR_DEVICE, &passed), QR_ERR_DEVICE);
    assert_int_equal(passed, 0);
    assert_int_equal(try_and_count(QR_OK, &passed), QR_OK);
    assert_int_equal(passed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_name),
        cmocka_unit_test(fail_writes_the_sentence_and_returns_the_status),
        cmocka_unit_test(long_sentence_is_cut_to_fit),
        cmocka_unit_test(prefix_goes_before_the_message),
        cmocka_unit_test(prefix_cuts_the_end_of_a_full_message),
        cmocka_unit_test(prefix_without_room_leaves_the_message),
        cmocka_unit_test(try_returns_the_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
