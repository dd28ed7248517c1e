/* How many pages the KV pool gets: as wished, as needed, as there is room for. */
#include "runtime/engine/kv_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A context of 1000 tokens is 63 pages of 16; four sequences of it are 252. */
static struct qr_kv_pool_wish plain_wish(void)
{
    return (struct qr_kv_pool_wish){
        .page_bytes = 1 << 20, .page_size = 16, .context = 1000, .max_running = 4};
}

static int32_t pages_of(const struct qr_kv_pool_wish *wish)
{
    int32_t n_pages = -1;
    struct qr_error err = {""};

    if (qr_kv_pool_size(wish, &n_pages, &err) != QR_OK)
        fail_msg("%s", err.message);
    return n_pages;
}

static void without_a_wish_everything_that_can_run_fits(void **state)
{
    (void)state;
    struct qr_kv_pool_wish wish = plain_wish();

    assert_int_equal(pages_of(&wish), 252);
    wish.max_running = 64;
    assert_int_equal(pages_of(&wish), 512); /* the default of 512 MiB */
    wish.page_bytes = 64 << 20;
    assert_int_equal(pages_of(&wish), 63); /* more than the default, but one sequence */
}

static void a_device_that_says_what_it_has_is_believed(void **state)
{
    (void)state;
    struct qr_kv_pool_wish wish = plain_wish();

    wish.available = INT64_C(1) << 40;
    assert_int_equal(pages_of(&wish), 252); /* not more than can run */
    wish.max_running = 64;
    assert_int_equal(pages_of(&wish), 4032); /* past the default */
    wish.available = (INT64_C(100) << 20) + 5;
    assert_int_equal(pages_of(&wish), 100);
    wish.available = INT64_C(10) << 20;
    assert_int_equal(pages_of(&wish), 10); /* less than one sequence of full length */
}

static void a_wish_holds(void **state)
{
    (void)state;
    struct qr_kv_pool_wish wish = plain_wish();

    wish.kv_pages = 7;
    assert_int_equal(pages_of(&wish), 7);
    wish.kv_memory = (5 << 20) + 1;
    assert_int_equal(pages_of(&wish), 5); /* goes before kv_pages */
    wish.available = INT64_C(5) << 20;
    assert_int_equal(pages_of(&wish), 5);
}

static void what_does_not_fit_is_refused_with_what_is_missing(void **state)
{
    (void)state;
    struct qr_kv_pool_wish wish = plain_wish();
    struct qr_error err = {""};
    int32_t n_pages;

    wish.kv_memory = 100;
    assert_int_equal(qr_kv_pool_size(&wish, &n_pages, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "takes 1048576 bytes"));
    wish.kv_memory = INT64_C(6) << 20;
    wish.available = INT64_C(5) << 20;
    assert_int_equal(qr_kv_pool_size(&wish, &n_pages, &err), QR_ERR_NOMEM);
    assert_non_null(strstr(err.message, "needs 6291456 bytes"));
    assert_non_null(strstr(err.message, "1048576 too few"));
    wish.kv_memory = 0;
    wish.available = 1000;
    assert_int_equal(qr_kv_pool_size(&wish, &n_pages, &err), QR_ERR_NOMEM);
    assert_non_null(strstr(err.message, "1047576 too few"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_wish_everything_that_can_run_fits),
        cmocka_unit_test(a_device_that_says_what_it_has_is_believed),
        cmocka_unit_test(a_wish_holds),
        cmocka_unit_test(what_does_not_fit_is_refused_with_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
