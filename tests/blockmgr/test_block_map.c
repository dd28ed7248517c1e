/* The map finds what was added and not removed, newest first, whatever collides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blockmgr/block_map.h"

enum { N_MEMBERS = 24, N_STEPS = 200000 };

static struct qr_block_map block_map;

static int open_map(void **state)
{
    (void)state;
    return qr_block_map_init(&block_map, N_MEMBERS) == QR_OK ? 0 : -1;
}

static int close_map(void **state)
{
    (void)state;
    qr_block_map_free(&block_map);
    return 0;
}

static void the_last_that_was_added_comes_first(void **state)
{
    (void)state;
    uint32_t at = 77;

    for (int32_t id = 0; id < 3; id++)
        qr_block_map_add(&block_map, 77, id);
    qr_block_map_remove(&block_map, 77, 1);
    assert_int_equal(qr_block_map_next(&block_map, 77, &at), 2);
    assert_int_equal(qr_block_map_next(&block_map, 77, &at), 0);
    assert_int_equal(qr_block_map_next(&block_map, 77, &at), -1);
}

static void the_last_place_is_followed_by_the_first(void **state)
{
    (void)state;
    uint64_t last = block_map.mask;
    uint32_t at = (uint32_t)last;

    qr_block_map_add(&block_map, 0, 5);
    qr_block_map_add(&block_map, last, 6);
    qr_block_map_add(&block_map, last, 7);
    qr_block_map_remove(&block_map, last, 7);
    assert_int_equal(qr_block_map_next(&block_map, last, &at), 6);
    assert_int_equal(qr_block_map_next(&block_map, last, &at), -1);
    at = 0;
    assert_int_equal(qr_block_map_next(&block_map, 0, &at), 5);
}

/* Ids in the order in which they were added, and their hashes. */
struct model {
    int32_t n;
    int32_t ids[N_MEMBERS];
    uint64_t hashes[N_MEMBERS];
};

static void check_hash(const struct model *model, uint64_t hash)
{
    uint32_t at = (uint32_t)hash;

    for (int32_t i = model->n - 1; i >= 0; i--) {
        if ((uint32_t)model->hashes[i] == (uint32_t)hash)
            assert_int_equal(qr_block_map_next(&block_map, hash, &at), model->ids[i]);
    }
    assert_int_equal(qr_block_map_next(&block_map, hash, &at), -1);
}

static void forget(struct model *model, int32_t i)
{
    size_t n_after = (size_t)(model->n - 1 - i);

    memmove(&model->ids[i], &model->ids[i + 1], n_after * sizeof(model->ids[0]));
    memmove(&model->hashes[i], &model->hashes[i + 1], n_after * sizeof(model->hashes[0]));
    model->n--;
}

/* Eight places are the home of all, six of them around the end of the table. */
static uint64_t draw_hash(uint32_t word)
{
    uint64_t home = (block_map.mask - 2 + word % 6 + (word >> 8) % 2 * 20) & block_map.mask;
    uint64_t above = (word >> 16) % 3;
    return home + above * (block_map.mask + UINT64_C(1)) + (((uint64_t)word >> 20) % 2 << 40);
}

static void any_order_of_adding_and_removing_is_as_in_a_list(void **state)
{
    (void)state;
    struct model model = {0};
    int32_t next_id = 0;
    uint64_t random = 1;

    for (int32_t step = 0; step < N_STEPS; step++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t hash = draw_hash((uint32_t)(random >> 32));
        if (model.n < N_MEMBERS && (model.n == 0 || (random >> 62) % 2 == 0)) {
            model.ids[model.n] = next_id;
            model.hashes[model.n++] = hash;
            qr_block_map_add(&block_map, hash, next_id++);
        } else {
            int32_t i = (int32_t)((random >> 40) % (uint64_t)model.n);
            qr_block_map_remove(&block_map, model.hashes[i], model.ids[i]);
            forget(&model, i);
        }
        check_hash(&model, hash);
    }
    while (model.n > 0) {
        qr_block_map_remove(&block_map, model.hashes[model.n - 1], model.ids[model.n - 1]);
        model.n--;
    }
    for (uint32_t i = 0; i <= block_map.mask; i++)
        assert_int_equal(block_map.places[i].id, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_that_was_added_comes_first, open_map, close_map),
        cmocka_unit_test_setup_teardown(the_last_place_is_followed_by_the_first, open_map,
                                        close_map),
        cmocka_unit_test_setup_teardown(any_order_of_adding_and_removing_is_as_in_a_list, open_map,
                                        close_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
