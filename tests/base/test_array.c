/* test_array.c - arrays that grow keep their items, and stop before sizes overflow. */
#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_keeps_items(void **state)
{
    int32_t *items = NULL;
    int32_t capacity = 0;
    int n_moves = 0;

    (void)state;
    for (int32_t i = 0; i < 1000; i++) {
        int32_t before = capacity;
        items = qr_array_grow(QR_ARENA_REQUEST, items, i, &capacity, sizeof(*items));
        assert_non_null(items);
        assert_true(capacity > i);
        n_moves += capacity != before;
        items[i] = i;
    }
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    assert_true(n_moves <= 8); /* 8, 16, ... 1024 */
    qr_free(items);
}

static void test_too_large(void **state)
{
    char item = 'x';
    int32_t capacity = INT32_MAX / 2 + 1;

    (void)state;
    assert_null(qr_array_grow(QR_ARENA_REQUEST, &item, capacity, &capacity, 1));
    assert_int_equal(capacity, INT32_MAX / 2 + 1);
    capacity = 0;
    assert_null(qr_array_grow(QR_ARENA_REQUEST, NULL, 0, &capacity, SIZE_MAX / 4));
    assert_int_equal(capacity, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_items),
        cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
