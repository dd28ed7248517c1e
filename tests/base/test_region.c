/* test_region.c - pieces lie one behind the other, are zeros, and stay where they are. */
#include "base/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static void pieces_lie_one_behind_the_other(void **state)
{
    struct qr_region region;

    (void)state;
    assert_int_equal(qr_region_open(3 * (size_t)QR_HUGE_PAGE_BYTES, &region), QR_OK);
    uint8_t *first = qr_region_take(&region, 64, 100);
    uint8_t *second = qr_region_take(&region, 64, 1);
    uint8_t *third = qr_region_take(&region, 1, 7);
    uint8_t *page = qr_region_take(&region, 4096, 10);

    assert_non_null(first);
    assert_int_equal((uintptr_t)first % QR_HUGE_PAGE_BYTES, 0);
    assert_ptr_equal(second, first + 128);
    assert_ptr_equal(third, second + 1);
    assert_ptr_equal(page, first + 4096);
    qr_region_close(&region);
    assert_null(region.first);
    qr_region_close(&region);
}

static void pieces_are_zeros_and_can_be_written_to_the_last_byte(void **state)
{
    static const size_t sizes[] = {5, 100, (size_t)QR_HUGE_PAGE_BYTES - 1, 3, 0, 700000, 700000};
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    struct qr_region region;
    uint8_t *pieces[N];

    (void)state;
    assert_int_equal(qr_region_open(4 * (size_t)QR_HUGE_PAGE_BYTES, &region), QR_OK);
    for (int i = 0; i < N; i++) {
        pieces[i] = qr_region_take(&region, 64, sizes[i]);
        assert_non_null(pieces[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i + 1);
    qr_region_close(&region);
}

static void a_full_region_gives_nothing_and_stays_as_it_was(void **state)
{
    struct qr_region region;

    (void)state;
    assert_int_equal(qr_region_open(1, &region), QR_OK); /* a huge page, then */
    uint8_t *first = qr_region_take(&region, 64, 1000);
    assert_non_null(first);
    assert_null(qr_region_take(&region, 64, QR_HUGE_PAGE_BYTES));
    assert_null(qr_region_take(&region, 64, SIZE_MAX));
    assert_null(qr_region_take(&region, 64, SIZE_MAX - 2000));
    assert_ptr_equal(qr_region_take(&region, 64, QR_HUGE_PAGE_BYTES - 1024), first + 1024);
    assert_null(qr_region_take(&region, 1, 1));
    qr_region_close(&region);
}

static void without_address_space_there_is_no_region(void **state)
{
    struct qr_region region;

    (void)state;
    assert_int_equal(qr_region_open(SIZE_MAX, &region), QR_ERR_NOMEM);
    assert_int_equal(qr_region_open(SIZE_MAX / 2, &region), QR_ERR_NOMEM);
    assert_null(region.first);
    qr_region_close(&region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_lie_one_behind_the_other),
        cmocka_unit_test(pieces_are_zeros_and_can_be_written_to_the_last_byte),
        cmocka_unit_test(a_full_region_gives_nothing_and_stays_as_it_was),
        cmocka_unit_test(without_address_space_there_is_no_region),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
