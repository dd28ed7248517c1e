/* Tenants: what an operator may write, and names to numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/engine/tenants.h"

static struct qr_tenants tenants;

static enum qr_status configure(const char *spec)
{
    struct qr_string_list specs = {.count = 1, .items = {spec}};
    struct qr_error err = {""};
    enum qr_status status = qr_tenants_configure(&tenants, &specs, 200, &err);

    if (status != QR_OK)
        assert_true(strlen(err.message) > 10);
    return status;
}

static void weights_and_quotas(void **state)
{
    (void)state;
    assert_int_equal(configure("a=2;b=0.5,25%;=3,100%;c=1,0.1%"), QR_OK);
    assert_int_equal(tenants.n_configured, 4);
    assert_true(tenants.items[0].weight == 3);
    assert_int_equal(tenants.items[0].max_pages, 200);
    int32_t b = qr_tenants_find(&tenants, "b");
    assert_true(tenants.items[b].weight == 0.5);
    assert_int_equal(tenants.items[b].max_pages, 50);
    assert_int_equal(tenants.items[qr_tenants_find(&tenants, "a")].max_pages, 0);
    assert_int_equal(tenants.items[qr_tenants_find(&tenants, "c")].max_pages, 1);
    assert_int_equal(qr_tenants_find(&tenants, "stranger"), 0);
}

static void bad_specs_are_refused(void **state)
{
    static const char *const bad[] = {"a",        "a=",      "a=0",    "a=-1",   "a=nan",
                                      "a=inf",    "a=1,",    "a=1,50", "a=1,0%", "a=1,101%",
                                      "a=1,50%x", "a=1;a=2", "a=1e-7", "a=2e6",  "a=1,nan%%",
                                      "a=1 ,50%", "a=x"};
    char long_name[80];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(configure(bad[i]), QR_ERR_INVALID);
    memset(long_name, 'n', 64);
    memcpy(long_name + 64, "=1", 3);
    assert_int_equal(configure(long_name), QR_ERR_INVALID);
}

static void strangers_have_numbers_while_they_have_requests(void **state)
{
    char name[16];

    (void)state;
    assert_int_equal(configure("a=2"), QR_OK);
    assert_int_equal(qr_tenants_enter(&tenants, ""), 0);
    assert_int_equal(qr_tenants_enter(&tenants, "a"), 1);
    for (int32_t i = 2; i < QR_MAX_TENANTS; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        assert_int_equal(qr_tenants_enter(&tenants, name), i);
        assert_int_equal(qr_tenants_enter(&tenants, name), i);
    }
    assert_int_equal(qr_tenants_enter(&tenants, "one too many"), 0);
    qr_tenants_leave(&tenants, 0);
    qr_tenants_leave(&tenants, 7);
    assert_int_equal(qr_tenants_enter(&tenants, "one too many"), 0);
    qr_tenants_leave(&tenants, 7);
    assert_int_equal(qr_tenants_enter(&tenants, "one too many"), 7);
    assert_int_equal(qr_tenants_enter(&tenants, "t7"), 0);
    qr_tenants_leave(&tenants, 1); /* the operator's stay */
    assert_int_equal(qr_tenants_enter(&tenants, "t7"), 0);
    assert_int_equal(qr_tenants_find(&tenants, "a"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_and_quotas),
        cmocka_unit_test(bad_specs_are_refused),
        cmocka_unit_test(strangers_have_numbers_while_they_have_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
