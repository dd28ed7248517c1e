/* Which cached block goes first: recency, weight and age in one order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockmgr/block_tree.h"

enum { N_BLOCKS = 256 };

static struct qr_block blocks[N_BLOCKS];
static struct qr_evict_list list;

static int open_list(void **state)
{
    (void)state;
    for (int32_t i = 0; i < N_BLOCKS; i++)
        blocks[i] = (struct qr_block){0};
    qr_evict_list_init(&list, QR_LINK_DEVICE);
    return 0;
}

static void of_equal_weight_the_oldest_goes_first(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 10; i++)
        qr_evict_list_insert(&list, blocks, i, 1000);
    qr_evict_list_remove(&list, blocks, 0);
    qr_evict_list_remove(&list, blocks, 4);
    qr_evict_list_insert(&list, blocks, 0, 1000); /* used again: now the youngest */

    static const int32_t expected[] = {1, 2, 3, 5, 6, 7, 8, 9, 0};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_int_equal(qr_evict_list_pop(&list, blocks), expected[i]);
    assert_int_equal(qr_evict_list_first(&list), -1);
    assert_int_equal(list.count, 0);
}

static void what_weighs_less_goes_first(void **state)
{
    (void)state;
    qr_evict_list_insert(&list, blocks, 0, 5000);
    qr_evict_list_insert(&list, blocks, 1, 0);
    qr_evict_list_insert(&list, blocks, 2, 100);
    qr_evict_list_insert(&list, blocks, 3, 1e300); /* beyond the last class */
    qr_evict_list_insert(&list, blocks, 4, 2000);

    static const int32_t expected[] = {1, 2, 4, 0, 3};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(qr_evict_list_first(&list), expected[i]);
        assert_int_equal(qr_evict_list_pop(&list, blocks), expected[i]);
    }
}

/* Of its own class, whatever comes between. */
static void each_member_knows_who_comes_some_places_later(void **state)
{
    enum { N = 20 };

    (void)state;
    for (int32_t i = 0; i < N; i++) {
        qr_evict_list_insert(&list, blocks, i, 1000);
        qr_evict_list_insert(&list, blocks, N + i, 9);
    }
    for (int32_t i = 0; i + QR_EVICT_AHEAD < N; i++) {
        assert_int_equal(blocks[i].links[QR_LINK_DEVICE].ahead, i + QR_EVICT_AHEAD);
        assert_int_equal(blocks[N + i].links[QR_LINK_DEVICE].ahead, N + i + QR_EVICT_AHEAD);
    }
    assert_int_equal(blocks[N - 1].links[QR_LINK_DEVICE].ahead, 0);
}

/* A heavy block that nobody uses goes once enough light ones have come and gone. */
static void weight_is_outlived(void **state)
{
    int32_t n_light = 0;

    (void)state;
    qr_evict_list_insert(&list, blocks, 0, 1024);
    for (;; n_light++) {
        qr_evict_list_insert(&list, blocks, 1, 64);
        if (qr_evict_list_pop(&list, blocks) == 0)
            break;
    }
    assert_int_equal(n_light, 1024 / 64); /* each pop ages the list by 64 */
}

static void a_newcomer_is_let_in_by_weight_and_by_age(void **state)
{
    (void)state;
    assert_false(qr_evict_list_yields(&list, blocks, 1e9)); /* nobody to yield */
    qr_evict_list_insert(&list, blocks, 0, 1024);
    assert_true(qr_evict_list_yields(&list, blocks, 1024));
    assert_true(qr_evict_list_yields(&list, blocks, 1 << 20));
    assert_false(qr_evict_list_yields(&list, blocks, 512));
    for (int32_t i = 0; i < 4; i++) { /* the list ages by 4 x 128, the first does not */
        qr_evict_list_insert(&list, blocks, 1, 128);
        assert_int_equal(qr_evict_list_pop(&list, blocks), 1);
    }
    assert_true(qr_evict_list_yields(&list, blocks, 512));
}

/* No member has a lower priority than the one that goes, by a plain search over all. */
static void agrees_with_a_plain_search(void **state)
{
    double priority[N_BLOCKS] = {0};
    bool listed[N_BLOCKS] = {false};
    uint32_t random = 1;
    double age = 0;

    (void)state;
    for (int32_t step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        int32_t id = (int32_t)((random >> 8) % N_BLOCKS);
        if (!listed[id]) {
            double weight = (double)(1u << (random >> 28)); /* a power of two: nothing is rounded */
            qr_evict_list_insert(&list, blocks, id, weight);
            priority[id] = age + weight;
            listed[id] = true;
        } else if ((random & 0x80) != 0) {
            qr_evict_list_remove(&list, blocks, id);
            listed[id] = false;
        } else {
            int32_t first = qr_evict_list_pop(&list, blocks);
            for (int32_t i = 0; i < N_BLOCKS; i++)
                assert_true(!listed[i] || priority[first] <= priority[i]);
            age = priority[first];
            listed[first] = false;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(of_equal_weight_the_oldest_goes_first, open_list),
        cmocka_unit_test_setup(what_weighs_less_goes_first, open_list),
        cmocka_unit_test_setup(each_member_knows_who_comes_some_places_later, open_list),
        cmocka_unit_test_setup(weight_is_outlived, open_list),
        cmocka_unit_test_setup(a_newcomer_is_let_in_by_weight_and_by_age, open_list),
        cmocka_unit_test_setup(agrees_with_a_plain_search, open_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
